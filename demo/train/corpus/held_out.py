"""The held-out questions, for the evaluation and for the end-to-end tests."""

from random import Random

from . import arithmetic, capitals, colours, domains, memory, opposites, stories
from .item import Item

KINDS = {
    "sums": arithmetic.sample_sum,
    "differences": arithmetic.sample_difference,
    "opposites": opposites.sample,
    "colours": colours.sample,
    "capitals": capitals.sample,
    "domains": domains.sample,
    "stories": stories.sample,
    "memory": memory.sample,
}


def questions(kind: str, count: int, seed: int) -> list[Item]:
    """Up to `count` different held-out questions of a kind."""
    rng = Random(f"{kind} {seed}")
    found: dict[str, Item] = {}
    # Some kinds hold out fewer questions than asked for; stop looking in time.
    for _ in range(200 * count):
        item = KINDS[kind](rng)
        if item.held_out:
            found.setdefault("\n".join([*sum(item.history, ()), item.question]), item)
        if len(found) == count:
            break
    return list(found.values())


def questions_of_each_kind(count: int, seed: int) -> dict[str, list[Item]]:
    return {kind: questions(kind, count, seed) for kind in KINDS}
