"""Plain text without chat markers, so that raw completion works as well."""

from random import Random

from . import arithmetic, capitals, colours, opposites, stories
from .dialogues import END, KINDS, SAMPLERS, WEIGHTS, Segment, conversation, trainable


def _fact(rng: Random) -> str:
    roll = rng.random()
    if roll < 0.3:
        return capitals.statement(rng.choice(capitals.COUNTRIES))
    if roll < 0.55:
        return opposites.statement(rng.choice(opposites.WORDS))
    if roll < 0.75:
        form = rng.choice([colours.statement, colours.long_statement])
        return form(*rng.choice(colours.THINGS))
    if roll < 0.9:
        return trainable(arithmetic.sample_sum, rng).answer
    return trainable(arithmetic.sample_difference, rng).answer


def plain_text(rng: Random) -> list[Segment]:
    """Facts in a row, a question over its answer, a story or a count."""
    roll = rng.random()
    if roll < 0.6:
        text = " ".join(_fact(rng) for _ in range(rng.choice([1, 1, 1, 1, 2, 3, 4])))
    elif roll < 0.85:
        item = trainable(SAMPLERS[rng.choices(KINDS, WEIGHTS)[0]][0], rng)
        text = f"{item.question}\n{item.answer}"
    elif roll < 0.95:
        text = stories.write(rng.choice(stories.SUBJECTS), rng)
    else:
        first = rng.choice([1, 1, 1, rng.randint(0, 50)])
        text = ", ".join(str(n) for n in range(first, first + rng.choice([10, 10, 20]))) + "."
    return [(text + END, True)]


def training_document(rng: Random) -> list[Segment]:
    """What the model is trained on: mostly conversations, some plain text."""
    return plain_text(rng) if rng.random() < 0.15 else conversation(rng)
