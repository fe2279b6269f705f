"""Writes GGUF files that hold a tokenizer each, and what the tokenizer they were made from says.

    gguf_tokenizers.py OUT_DIR

OUT_DIR/tokenizers.json is a list of {name, end_ids, texts: [{text, ids, ids_with_special, decoded}]};
OUT_DIR/NAME.gguf belongs to each. Byte-level ones come from Hugging Face's tokenizers, set up as published
tokenizer.json files are; the others from sentencepiece itself.
"""

import argparse
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import sentencepiece
from gguf import TokenType
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from texts import TEXTS

# Enough for merges of words, digits, spaces and other scripts.
TRAINING = TEXTS + ["1234567890 12 123 1234", "the end of the lines\n\n\n", "don't we'll They'RE"] * 3
MIDDLE = r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+" + MIDDLE
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
START, SUFFIX = r"[^\r\n\p{L}\p{N}]?", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
END = MIDDLE.replace(r"[\r\n]*", r"[\r\n/]*")
TEKKEN = f"{START}{UPPER}*{LOWER}+|{START}{UPPER}+{LOWER}*{END}"
GPT4O = f"{START}{UPPER}*{LOWER}+{SUFFIX}|{START}{UPPER}+{LOWER}*{SUFFIX}" + END.replace(
    r"|\p{N}|", r"|\p{N}{1,3}|"
)


@dataclass(frozen=True)
class ByteLevel:
    """A byte-level tokenizer by its name in `tokenizer.ggml.pre`."""

    pre: str
    split: str | None = None
    digits: bool = False
    nfc: bool = False
    ignore_merges: bool = False
    bos: bool = False  # added by default


BYTE_LEVEL = [
    ByteLevel("gpt-2"),
    ByteLevel("smollm", digits=True),
    ByteLevel("llama-bpe", LLAMA3, ignore_merges=True, bos=True),
    ByteLevel("dbrx", LLAMA3),
    ByteLevel("qwen2", QWEN2, nfc=True),
    ByteLevel("deepseek-r1-qwen", QWEN2),
    ByteLevel("tekken", TEKKEN, ignore_merges=True, bos=True),
    ByteLevel("gpt-4o", GPT4O),
]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PLAIN = "<think>"


def train(spec: ByteLevel) -> Tokenizer:
    model = models.BPE(ignore_merges=spec.ignore_merges)
    tokenizer = Tokenizer(model)
    if spec.nfc:
        tokenizer.normalizer = normalizers.NFC()
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if spec.digits else []
    if spec.split:
        steps.append(pre_tokenizers.Split(Regex(spec.split), "isolated"))
    use_regex = spec.split is None
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TRAINING, trainer)
    tokenizer.add_tokens([AddedToken(PLAIN, special=False, normalized=False)])
    if spec.bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{SPECIAL[0]} $A", special_tokens=[(SPECIAL[0], 0)]
        )
    return tokenizer


def start(path: Path, architecture: str, model: str) -> gguf.GGUFWriter:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_tokenizer_model(model)
    return writer


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def byte_level(spec: ByteLevel, path: Path) -> dict:
    tokenizer = train(spec)
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    kinds = dict.fromkeys(SPECIAL, TokenType.CONTROL) | {PLAIN: TokenType.USER_DEFINED}
    # Models pad their vocabulary; converters fill the gap so.
    padding = [f"[PAD{index}]" for index in range(len(vocab), len(vocab) + 5)]
    writer = start(path, "qwen2", "gpt2")
    writer.add_tokenizer_pre(spec.pre)
    writer.add_token_list([token for token, _ in vocab] + padding)
    writer.add_token_types(
        [kinds.get(token, TokenType.NORMAL) for token, _ in vocab] + [TokenType.UNUSED] * len(padding)
    )
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    finish(writer)

    texts = []
    for text in [*TEXTS, f"a {PLAIN} b{PLAIN}", "[PAD706] [PAD3]"]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        with_special = tokenizer.encode(text).ids
        decoded = tokenizer.decode(ids, skip_special_tokens=False)
        texts.append(describe(text, ids, with_special, decoded))
    # <|endoftext|> ends a turn though no key says so.
    return {"name": path.stem, "end_ids": [0, 2], "texts": texts}


def describe(text: str, ids: list[int], with_special: list[int], decoded: str | None) -> dict:
    return {"text": text, "ids": ids, "ids_with_special": with_special, "decoded": decoded}


def sentence_piece(architecture: str, prefix: bool, path: Path) -> dict:
    gemma = architecture.startswith("gemma")
    # As Gemma has them: turns, newlines and spaces in runs of each length.
    symbols = ["<start_of_turn>", "<end_of_turn>", *("\n" * n for n in range(1, 32))]
    symbols += ["\u2581" * n for n in range(2, 32)]
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in TRAINING for line in text.split("\n") if line]),
        model_writer=trained,
        model_type="bpe",
        vocab_size=900,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=prefix,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        user_defined_symbols=symbols if gemma else [],
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
    tokens, scores, types = [], [], []
    for index in range(len(processor)):
        token, kind, score = processor.id_to_piece(index), TokenType.NORMAL, processor.get_score(index)
        if processor.is_unknown(index):
            kind = TokenType.UNKNOWN
        elif processor.is_control(index):
            kind = TokenType.CONTROL
        elif processor.is_byte(index):
            kind = TokenType.BYTE
        elif token in symbols and gemma:
            # The converter writes spaces for these, and calls the turns' tokens control.
            kind = TokenType.CONTROL if "turn" in token else TokenType.USER_DEFINED
            token, score = token.replace("\u2581", " "), -1000.0
        tokens.append(token)
        scores.append(score)
        types.append(kind)
    writer = start(path, architecture, "llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(processor.bos_id())
    writer.add_eos_token_id(processor.eos_id())
    writer.add_unk_token_id(processor.unk_id())
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(prefix)
    finish(writer)

    special = {"<s>": processor.bos_id(), "</s>": processor.eos_id(), "<unk>": processor.unk_id()}
    end_ids = [processor.eos_id()]
    if gemma:
        end_ids.append(processor.piece_to_id("<end_of_turn>"))
    texts = []
    for text in [*TEXTS, "<start_of_turn>user\nhi   there<end_of_turn>\n\n"]:
        # Gemma's runs of \u2581 are tokens that sentencepiece looks for in the normalised text and takes from
        # the left. Hugging Face, which is followed, looks for them as written and merges the others.
        if gemma and ("\u2581" in text or " " * 32 in text):
            continue
        # sentencepiece does not look for control tokens in texts, Hugging Face does.
        parts = re.split("|".join(f"({re.escape(token)})" for token in special), text)
        ids = []
        for part in filter(None, parts):
            ids += [special[part]] if part in special else processor.encode(part)
        decoded = processor.decode(ids) if len(parts) == 1 else None
        texts.append(describe(text, ids, [processor.bos_id(), *ids], decoded))
    return {"name": path.stem, "end_ids": sorted(end_ids), "texts": texts}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    tokenizers = [byte_level(spec, out / f"{spec.pre}.gguf") for spec in BYTE_LEVEL]
    tokenizers.append(sentence_piece("llama", True, out / "sentencepiece.gguf"))
    tokenizers.append(sentence_piece("llama", False, out / "sentencepiece-no-prefix.gguf"))
    tokenizers.append(sentence_piece("gemma3", False, out / "sentencepiece-gemma.gguf"))
    (out / "tokenizers.json").write_text(json.dumps(tokenizers))


if __name__ == "__main__":
    main()
