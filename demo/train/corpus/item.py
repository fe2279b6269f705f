"""One question with its answer."""

from dataclasses import dataclass

from .split import is_held_out


@dataclass(frozen=True)
class Item:
    """A question, its one right answer and what a check looks for.

    `key` decides the split: for a sum it is the pair of numbers, whatever the
    phrasing, for a domain it is the sentence, for a fact it is the whole
    question. Without a key an item is never held out. `follow_up` is the short
    form the question may take right after another of its kind ("And of
    Italy?"). `history` holds earlier turns the question needs, as (question,
    answer) pairs.
    """

    kind: str
    question: str
    answer: str
    expect: str
    key: str
    follow_up: str = ""
    history: tuple[tuple[str, str], ...] = ()

    @property
    def held_out(self) -> bool:
        return self.key != "" and is_held_out(self.kind, self.key)


def capitalised(text: str) -> str:
    """The text with its first letter in upper case and the rest untouched."""
    return text[:1].upper() + text[1:]


def with_article(noun: str) -> str:
    """The noun after "a" or "an"."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun
