"""Trains the demo model's byte-level BPE tokenizer and writes its files.

    python make_tokenizer.py --out ../model

The 256 byte symbols are all in the vocabulary, so any text survives encoding
and decoding. Digits are split one by one, because arithmetic is learnt far
better on digits than on chunks of them.
"""

import argparse
import json
from pathlib import Path
from random import Random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from corpus.dialogues import END, START
from corpus.documents import training_document

PAD = "<|endoftext|>"
SPECIAL = [PAD, START, END]
VOCABULARY = 1024
DOCUMENTS = 30_000
SEED = 7

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def _plain_texts():
    """Training text with the markers cut out, since they must stay whole tokens."""
    rng = Random(SEED)
    for _ in range(DOCUMENTS):
        text = "".join(piece for piece, _ in training_document(rng))
        for part in text.replace(START, END).split(END):
            yield part


def train() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_plain_texts(), trainer)
    return tokenizer


def write(tokenizer: Tokenizer, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"eos_token": END, "pad_token": PAD}
    added = {
        str(tokenizer.token_to_id(token)): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for token in SPECIAL
    }
    config = {
        "added_tokens_decoder": added,
        "additional_special_tokens": [START],
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
        "tokenizer_class": "PreTrainedTokenizerFast",
        **named,
    }
    special = {**named, "additional_special_tokens": [START]}
    for name, content in [("tokenizer_config.json", config), ("special_tokens_map.json", special)]:
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the model folder")
    write(train(), parser.parse_args().out)
