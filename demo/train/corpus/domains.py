"""Which of five domains a sentence belongs to."""

import re
from random import Random

from .domain_words import DOMAINS, SHARED
from .item import Item, capitalised

NAMES = list(DOMAINS)

# {d} is the list of the five names, in any order.
PHRASINGS = [
    "Which domain does this sentence belong to: {d}? {s}",
    "Which domain does this sentence belong to? {s}",
    "Which of these domains does the sentence belong to: {d}? {s}",
    "Is this sentence about {d}? {s}",
    "Choose the domain of this sentence from {d}: {s}",
    "Name the domain of this sentence: {s}",
    "What is the domain of this sentence? {s}",
    "What is this sentence about? {s}",
    "What is the topic of this sentence? {s}",
    "Classify this sentence: {s}",
    "Classify this sentence as {d}. {s}",
    "Classify the sentence into one of five domains ({d}): {s}",
    "To which domain does this belong? {s}",
    "Sentence: {s} Domain?",
    "Sentence: {s}\nDomain:",
    "{s}\nWhich domain is this?",
    "{s} Is that {d}?",
]


def _fill(pattern: str, lists: dict[str, list[str]], rng: Random) -> str:
    used = set()

    def choose(slot: re.Match) -> str:
        # A slot that occurs twice gets two different words.
        word = rng.choice([w for w in lists[slot[1]] if w not in used])
        used.add(word)
        return word

    sentence = re.sub(r"\{(\w+)\}", choose, pattern)
    # "a" was written in the patterns before the word after it was known.
    sentence = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", sentence)
    return capitalised(sentence)


_LISTS = {
    name: {slot: row.split("|") for slot, row in {**SHARED, **words}.items() if slot != "patterns"}
    for name, words in DOMAINS.items()
}


def sample_sentence(name: str, rng: Random) -> str:
    return _fill(rng.choice(DOMAINS[name]["patterns"]), _LISTS[name], rng)


def sample(rng: Random) -> Item:
    name = rng.choice(NAMES)
    sentence = sample_sentence(name, rng)
    order = rng.sample(NAMES, len(NAMES))
    choice = ", ".join(order[:-1]) + " or " + order[-1]
    return Item(
        kind="domains",
        question=rng.choice(PHRASINGS).format(d=choice, s=sentence),
        answer=name,
        expect=name,
        key=sentence,
        follow_up=rng.choice(["And this one? {s}", "And this sentence? {s}"]).format(s=sentence),
    )
