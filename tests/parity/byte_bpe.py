"""A small tokenizer for models with random weights: byte-level BPE with a few merges."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END = "<|end|>"
TEXT = [
    "the quick brown fox jumps over the lazy dog",
    "it was the best of times, it was the worst of times",
    "one two three four five six seven eight nine ten",
]


def make(vocab_size: int = 320) -> Tokenizer:
    """All 256 bytes, one special token, and what merges fit into `vocab_size`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def save(folder: Path, tokenizer: Tokenizer) -> None:
    """Writes tokenizer.json and the tokenizer_config.json that goes with it."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
