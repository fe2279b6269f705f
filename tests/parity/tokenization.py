"""Writes what Hugging Face's tokenizers make of texts and ids, for comparison with ours.

    tokenization.py OUT_FOLDER [--model FOLDER]

For each kind of tokenizer, and the model's, OUT_FOLDER/KIND holds its tokenizer.json and
    expected.json   {texts: [{text, ids: {"": [...], "add_special": ..., "plain_text": ...,
                              "add_special plain_text": ...}}],
                     decoded: [{ids, text, no_special}]}    null: they crash
"""

import argparse
import json
import random
from pathlib import Path
from typing import Any

from texts import TEXTS
from tokenizer_kinds import all_kinds
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[2]


def encoded(tokenizer: Tokenizer) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"text": text, "ids": {}} for text in TEXTS]
    for plain in (False, True):
        tokenizer.encode_special_tokens = plain
        for add in (False, True):
            key = " ".join(["add_special"] * add + ["plain_text"] * plain)
            for row in rows:
                row["ids"][key] = tokenizer.encode(row["text"], add_special_tokens=add).ids
    tokenizer.encode_special_tokens = False
    return rows


def sequences(tokenizer: Tokenizer) -> list[list[int]]:
    """Ids that no text gives: any order, and broken bytes in all lengths."""
    source = random.Random(7)
    size = tokenizer.get_vocab_size()
    ids = list(range(size))
    # Tokens that are one byte, which may be part of a character.
    alphabet = {*map(chr, range(0x100, 0x144)), *map(chr, range(0xA1, 0x100))}
    broken = [
        id
        for token, id in tokenizer.get_vocab().items()
        if token in alphabet or token.startswith("<0x")
    ]
    broken.sort()

    def pick(table: list[int], count: int) -> list[int]:
        return [table[int(source.random() * len(table))] for _ in range(count)]

    found = [ids, ids[::-1], *([id] for id in ids)]
    found += [pick(ids, count) for count in (2, 3, 5, 10, 100, 3000, 3000)]
    if broken:
        mixed = pick(ids, 20) + broken * 3
        found += [pick(broken, count) for count in (1, 2, 2, 3, 3, 4, 5, 6, 8, 3000)]
        found += [pick(mixed, count) for count in (5, 10, 20, 50, 3000)]
        found += [[id] * 1000 for id in pick(broken, 4)]
    return found


def decoded(tokenizer: Tokenizer, found: list[list[int]]) -> list[dict[str, Any]]:
    def decode(ids: list[int], skip: bool) -> str | None:
        try:
            return tokenizer.decode(ids, skip_special_tokens=skip)
        except BaseException as error:  # what Rust's panics become
            if type(error).__name__ != "PanicException":
                raise
            return None

    return [{"ids": ids, "text": decode(ids, False), "no_special": decode(ids, True)} for ids in found]


def main() -> None:
    parser = argparse.ArgumentParser(description="Expectations from Hugging Face's tokenizers.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, default=ROOT / "demo" / "model")
    options = parser.parse_args()

    kinds = all_kinds() | {"model": Tokenizer.from_file(str(options.model / "tokenizer.json"))}
    for name, tokenizer in kinds.items():
        folder = options.out / name
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(folder / "tokenizer.json"))
        # A file's scores are rounded: ours reads the file too.
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        texts = encoded(tokenizer)
        # An empty list breaks some decoders.
        found = [ids for row in texts for ids in [row["ids"]["add_special"]] if ids]
        rows = decoded(tokenizer, found + sequences(tokenizer))
        (folder / "expected.json").write_text(json.dumps({"texts": texts, "decoded": rows}))
        tokens = sum(len(row["ids"]) for row in rows)
        print(f"{name}: {len(texts)} texts, {len(rows)} sequences of {tokens} tokens")


if __name__ == "__main__":
    main()
