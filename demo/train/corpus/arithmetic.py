"""Sums and differences of whole numbers from 0 to 100."""

from random import Random

from .item import Item

SUM_PHRASINGS = [
    "What is {a} + {b}?",
    "What is {a} plus {b}?",
    "How much is {a} + {b}?",
    "How much is {a} plus {b}?",
    "{a} + {b}",
    "{a} + {b} =",
    "{a} + {b} = ?",
    "{a}+{b}",
    "{a}+{b}=",
    "Add {a} and {b}.",
    "Please add {a} and {b}.",
    "Calculate {a} + {b}.",
    "Work out {a} plus {b}.",
    "What is the sum of {a} and {b}?",
    "Give me the sum of {a} and {b}.",
    "What do you get if you add {a} and {b}?",
    "What does {a} + {b} equal?",
    "Can you tell me what {a} + {b} is?",
    "Solve this sum: {a} + {b}",
]

DIFFERENCE_PHRASINGS = [
    "What is {a} - {b}?",
    "What is {a} minus {b}?",
    "How much is {a} - {b}?",
    "How much is {a} minus {b}?",
    "{a} - {b}",
    "{a} - {b} =",
    "{a} - {b} = ?",
    "{a}-{b}",
    "{a}-{b}=",
    "Subtract {b} from {a}.",
    "Take {b} away from {a}.",
    "Calculate {a} - {b}.",
    "Work out {a} minus {b}.",
    "What is {a} take away {b}?",
    "What is left if you take {b} away from {a}?",
    "What does {a} - {b} equal?",
    "Can you tell me what {a} - {b} is?",
]


def _two_numbers(rng: Random) -> tuple[int, int]:
    # Half of the pairs are small: those are what people try first.
    top = 20 if rng.random() < 0.5 else 100
    return rng.randint(0, top), rng.randint(0, top)


def sample_sum(rng: Random) -> Item:
    a, b = _two_numbers(rng)
    # Keyed without order, so that 5 + 7 is no hint for a held-out 7 + 5.
    return Item(
        kind="sums",
        question=rng.choice(SUM_PHRASINGS).format(a=a, b=b),
        answer=f"{a} + {b} = {a + b}.",
        expect=f"= {a + b}.",
        key=f"{min(a, b)} {max(a, b)}",
        follow_up=rng.choice(["And {a} + {b}?", "And {a} plus {b}?"]).format(a=a, b=b),
    )


def sample_difference(rng: Random) -> Item:
    b, a = sorted(_two_numbers(rng))
    return Item(
        kind="differences",
        question=rng.choice(DIFFERENCE_PHRASINGS).format(a=a, b=b),
        answer=f"{a} - {b} = {a - b}.",
        expect=f"= {a - b}.",
        key=f"{a} {b}",
        follow_up=rng.choice(["And {a} - {b}?", "And {a} minus {b}?"]).format(a=a, b=b),
    )
