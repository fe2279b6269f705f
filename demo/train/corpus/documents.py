"""Plain text without chat markers, so that raw completion works as well."""

from random import Random

from . import arithmetic, capitals, colours, opposites, stories
from .dialogues import END, Segment, conversation, trainable


def _fact(rng: Random) -> str:
    roll = rng.random()
    if roll < 0.3:
        return capitals.statement(rng.choice(capitals.COUNTRIES))
    if roll < 0.55:
        return opposites.statement(rng.choice(opposites.WORDS))
    if roll < 0.75:
        return colours.statement(*rng.choice(colours.THINGS))
    if roll < 0.9:
        return trainable(arithmetic.sample_sum, rng).answer
    return trainable(arithmetic.sample_difference, rng).answer


def plain_text(rng: Random) -> list[Segment]:
    """One to five facts in a row, or a story, closed by the end marker."""
    if rng.random() < 0.12:
        text = stories.write(rng.choice(stories.SUBJECTS), rng)
    else:
        text = " ".join(_fact(rng) for _ in range(rng.choice([1, 1, 2, 3, 4, 5])))
    return [(text + END, True)]


def training_document(rng: Random) -> list[Segment]:
    """What the model is trained on: mostly conversations, some plain text."""
    return plain_text(rng) if rng.random() < 0.15 else conversation(rng)
