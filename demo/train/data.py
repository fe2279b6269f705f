"""The training text as rows of tokens, several documents to a row."""

import multiprocessing
from pathlib import Path
from random import Random

import numpy as np
import torch
from tokenizers import Tokenizer

from corpus.documents import training_document

ROW = 1024
SHARDS = 64

_tokenizer: Tokenizer


def _load(path: Path) -> None:
    global _tokenizer
    _tokenizer = Tokenizer.from_file(str(path))


def _shard(job: tuple[str, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of one shard: token ids, whether each is to be learnt, document numbers.

    Document number 0 marks padding. A document is never split over two rows.
    """
    seed, count = job
    rng = Random(seed)
    documents = [training_document(rng) for _ in range(count)]
    encoded = iter(_tokenizer.encode_batch([text for doc in documents for text, _ in doc]))
    ids, learnt, numbers = [np.zeros((count, ROW), dtype) for dtype in ("i2", "?", "i2")]
    row, column, number = 0, 0, 0
    for document in documents:
        pieces = [(next(encoded).ids, learn) for _, learn in document]
        size = sum(len(piece) for piece, _ in pieces)
        if size > ROW:
            continue
        if column + size > ROW:
            row, column, number = row + 1, 0, 0
        number += 1
        numbers[row, column : column + size] = number
        for piece, learn in pieces:
            ids[row, column : column + len(piece)] = piece
            learnt[row, column : column + len(piece)] = learn
            column += len(piece)
    return ids[: row + 1], learnt[: row + 1], numbers[: row + 1]


def training_rows(tokenizer: Path, documents: int, seed: int, workers: int):
    """All rows as three tensors. The number of workers does not change them."""
    jobs = [(f"{seed} {shard}", documents // SHARDS) for shard in range(SHARDS)]
    # Fresh processes: a fork would inherit the tokenizer's thread pool half-alive.
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=_load, initargs=(tokenizer,)) as pool:
        shards = pool.map(_shard, jobs)
    return [torch.from_numpy(np.concatenate(part)) for part in zip(*shards)]


def attention_mask(numbers: torch.Tensor) -> torch.Tensor:
    """Zero where a token may look (back, within its document), else minus infinity."""
    length = numbers.shape[1]
    same = numbers[:, None, :, None] == numbers[:, None, None, :]
    back = torch.ones(length, length, dtype=torch.bool, device=numbers.device).tril()
    mask = torch.zeros(same.shape, dtype=torch.bfloat16, device=numbers.device)
    return mask.masked_fill_(~(same & back), float("-inf"))
