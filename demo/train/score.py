"""Held-out accuracy of the model in training, by whole answers.

An answer counts when every one of its tokens, the end marker too, is the most
likely one after the tokens before it. That is the same as saying that greedy
decoding writes exactly this answer. Stories have no single right answer and
are judged by evaluate.py alone.
"""

import torch
from tokenizers import Tokenizer

from corpus import held_out
from corpus.dialogues import segments
from data import attention_mask


@torch.no_grad()
def _count_right(model, tokenizer: Tokenizer, items, four_bit: bool, device) -> int:
    rows, starts = [], []
    for item in items:
        turns = [*item.history, (item.question, item.answer)]
        pieces = [tokenizer.encode(text).ids for text, _ in segments("", turns)]
        rows.append(sum(pieces, []))
        starts.append(len(rows[-1]) - len(pieces[-1]))
    length = max(map(len, rows))
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows], device=device)
    best = model(ids, attention_mask(torch.ones_like(ids)), four_bit).argmax(-1)
    return sum(
        bool((best[i, start - 1 : len(row) - 1] == ids[i, start : len(row)]).all())
        for i, (row, start) in enumerate(zip(rows, starts))
    )


def accuracy(model, tokenizer, four_bit: bool, device, count=200, seed=1) -> dict[str, float]:
    """The share of right answers, for each kind that has one right answer."""
    result = {}
    for kind, items in held_out.questions_of_each_kind(count, seed).items():
        if kind != "stories":
            right = _count_right(model, tokenizer, items, four_bit, device)
            result[kind] = round(right / len(items), 4)
    return result
