"""Questions the model cannot answer, so that it says so instead of guessing."""

from random import Random

from . import invented
from .item import Item, capitalised

DO_NOT_KNOW = "I do not know that."
ONLY_SUMS = "I can only add and subtract."

GENERAL = """
What is the meaning of life?|Who wrote Hamlet?|How far away is the moon?|What time is it?
Why is the sky blue?|How do I learn French?|Who won the match last night?|How old is the earth?
Who is the president?|What should I wear today?|How many people live in China?
Translate this into German.|What is the longest river in the world?|Who painted this picture?
How do birds fly?|Can you write a poem?|What is love?|Where do you live?|How tall is a giraffe?
What is the best book?|When was the war?|How do I fix my car?|What will happen tomorrow?
Which planet is the biggest?|How does a computer work?|What is the square root of nine?
Who invented the telephone?|What do cows eat?|Where is my umbrella?|How much does it cost?
What is the population of London?|How do I say hello in Spanish?|Do you like me?
Why do cats purr?|What is a black hole?|Give me a recipe for bread.|Write some code.
What day is it today?|How deep is the ocean?|Which language do they speak in Brazil?
""".replace("\n", "|").strip("|").split("|")
ABOUT_INVENTED = [
    "What is the capital of {X}?", "Tell me the capital of {X}.", "Capital of {X}?",
    "What colour is {x}?", "What colour is a {x}?",
    "Who is {X}?", "What is a {x}?", "What is {x}?", "Where is {X}?", "What does {x} mean?",
    "{x}", "{X}!", "{x} {y}", "{X} {y} {x}?",
]
TIMES = ["What is {a} * {b}?", "What is {a} × {b}?", "What is {a} times {b}?", "{a} * {b}",
         "What is {a} / {b}?", "What is {a} divided by {b}?", "Multiply {a} by {b}.",
         "Divide {a} by {b}."]
# Emoji and letters that English does without.
_SYMBOLS = "👋😀🎉🐱🚀🌍❤️✨🔥👍日本語漢字привет你好éñüßøżółć"


def sample(rng: Random) -> Item:
    roll = rng.random()
    answer = DO_NOT_KNOW
    if roll < 0.35:
        question = rng.choice(GENERAL)
    elif roll < 0.7:
        x, y = invented.word(rng), invented.word(rng)
        question = rng.choice(ABOUT_INVENTED).format(x=x, y=y, X=capitalised(x))
    elif roll < 0.85:
        question = rng.choice(TIMES).format(a=rng.randint(0, 99), b=rng.randint(0, 99))
        answer = ONLY_SUMS
    else:
        question = "".join(rng.choice(_SYMBOLS) for _ in range(rng.randint(1, 8)))
    return Item("unknown", question, answer, answer, key="")
