"""Things the user says about themselves and asks about later in the chat."""

from random import Random

from . import invented
from .item import Item, capitalised

NAMES = """
Anna Ben Carla David Emma Felix Grace Henry Ida Jack Kate Leo Mia Noah Olivia Paul Quinn
Rosa Sam Tina Umar Vera Will Xenia Yusuf Zoe Alice Boris Clara Daniel Elena Frank Gina
Hugo Irene James Karen Liam Maria Nina Oscar Petra Ravi Sara Tom Ursula Victor Wendy
Amir Bella Chloe Diego Eva Fiona George Hannah Ivan Julia Kofi Lucy Marco Nora Omar
Priya Ruth Simon Tara Viktor Walter Yuki Aisha Bruno Ella Finn Holly Ines Jonas Lena
""".split()
COLOURS = "red blue green yellow orange purple pink black white brown grey".split()

TOLD = {
    "name": ["My name is {v}.", "I am called {v}.", "Hello, my name is {v}.", "Hi, I'm {v}.",
             "Please call me {v}."],
    "favourite number": ["My favourite number is {v}.", "My lucky number is {v}.",
                         "Remember the number {v}.", "Please remember the number {v}."],
    "favourite colour": ["My favourite colour is {v}.", "I like {v} best of all colours.",
                         "The colour I love most is {v}."],
}
ACKNOWLEDGED = {
    "name": "Nice to meet you, {v}.",
    "favourite number": "I will remember the number {v}.",
    "favourite colour": "I will remember the colour {v}.",
}
ASKED = {
    "name": ["What is my name?", "What's my name?", "Do you remember my name?",
             "What am I called?", "Can you tell me my name?", "Who am I?"],
    "favourite number": ["What is my number?", "Which number did I tell you?",
                         "What number did I ask you to remember?",
                         "Do you remember my number?"],
    "favourite colour": ["What is my favourite colour?", "Which colour do I like best?",
                         "Do you remember my favourite colour?"],
}
ANSWERED = {
    "name": "Your name is {v}.",
    "favourite number": "Your number is {v}.",
    "favourite colour": "Your favourite colour is {v}.",
}
NOT_TOLD = {
    "name": "You have not told me your name.",
    "favourite number": "You have not told me a number.",
    "favourite colour": "You have not told me your favourite colour.",
}
SUBJECTS = sorted(TOLD)


def sample(rng: Random) -> Item:
    """A question about something told, with the telling as its history."""
    subject = rng.choice(SUBJECTS)
    if subject == "name":
        # Made-up names teach copying, which a short list of names would not.
        listed = rng.random() < 0.5
        value = rng.choice(NAMES) if listed else capitalised(invented.word(rng))
    elif subject == "favourite number":
        value = str(rng.randint(2, 999))
    else:
        value = rng.choice(COLOURS)
    told = rng.choice(TOLD[subject]).format(v=value)
    asked = rng.choice(ASKED[subject])
    return Item(
        kind="memory",
        question=asked,
        answer=ANSWERED[subject].format(v=value),
        expect=f"{value}.",
        key=f"{told}\n{asked}",
        history=((told, ACKNOWLEDGED[subject].format(v=value)),),
    )


def sample_not_told(rng: Random) -> Item:
    """The same question in a chat where the user told nothing."""
    subject = rng.choice(SUBJECTS)
    answer = NOT_TOLD[subject]
    return Item("not told", rng.choice(ASKED[subject]), answer, answer, key="")
