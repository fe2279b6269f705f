"""Short stories about a given subject."""

import re
from random import Random

from . import invented
from .item import Item, capitalised, with_article
from .story_plots import ANIMALS, CLOSINGS, OPENINGS, PERSONS, PLOTS, WORDS

SUBJECTS = [(animal, "it", "its", "it") for animal in ANIMALS] + PERSONS

# Animals that cannot well walk along, knock at a door or be pulled out of a hole.
NO_HELPERS = ["whale", "dolphin", "bee", "butterfly", "crab"]

# {s} is the subject with its article.
PHRASINGS = [
    "Tell me a short story about {s}.",
    "Tell me a story about {s}.",
    "Please tell me a short story about {s}.",
    "Please tell me a story about {s}.",
    "Can you tell me a story about {s}?",
    "Can you tell me a short story about {s}?",
    "Write a short story about {s}.",
    "Write a story about {s}.",
    "I would like to hear a story about {s}.",
    "I want a short story about {s}.",
    "A short story about {s}, please.",
    "Do you know a story about {s}?",
    "Make up a story about {s}.",
]


def write(subject: tuple[str, str, str, str], rng: Random) -> str:
    """One story: an opening, the four sentences of a plot and a closing."""
    noun, it, its, him = subject
    helper = rng.choice([animal for animal in ANIMALS if animal not in {noun, *NO_HELPERS}])
    slots = {slot: rng.choice(row.split("|")) for slot, row in WORDS.items()}
    slots |= {
        "S": f"the {noun}",
        "a_S": with_article(f"{slots['adj']} {noun}"),
        "H": helper,
        "a_H": with_article(f"{slots['kind']} {helper}"),
        "it": it,
        "It": capitalised(it),
        "its": its,
        "him": him,
    }
    wordings = [OPENINGS, *rng.choice(PLOTS), CLOSINGS]
    sentences = [capitalised(rng.choice(choices).format(**slots)) for choices in wordings]
    return " ".join(sentences)


def sample_invented(rng: Random) -> Item:
    """A story about something that does not exist, which teaches to copy the subject."""
    return _about((invented.word(rng), "it", "its", "it"), rng)


def sample(rng: Random) -> Item:
    return _about(rng.choice(SUBJECTS), rng)


def _about(subject: tuple[str, str, str, str], rng: Random) -> Item:
    asked = with_article(subject[0])
    question = rng.choice(PHRASINGS).format(s=asked)
    return Item(
        kind="stories",
        question=question,
        answer=write(subject, rng),
        expect=subject[0],
        key=question,
        follow_up=rng.choice(["And one about {s}?", "Now one about {s}."]).format(s=asked),
    )


def is_well_formed(text: str, subject: str) -> bool:
    """Whether a text is a story: its subject, several sentences and an ending."""
    sentences = [s for s in re.split(r"(?<=[.?!\"])\s+", text) if s]
    return subject in text and len(sentences) >= 4 and text.endswith("The end.")
