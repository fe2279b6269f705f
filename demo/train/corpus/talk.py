"""Greetings and questions about the model itself."""

from random import Random

from .item import Item

ABOUT = ("I am the mlxrt demo model, a very small language model that runs on your own "
         "device.")
ABLE = ("I can answer small sums, opposites, colours and capitals, say which domain a "
        "sentence belongs to, and tell a short story.")
HELLO = "Hello! Ask me for a sum, an opposite, a colour, a capital, a domain or a story."
WELCOME = "You are welcome."
GOODBYE = "Goodbye!"

ANSWERS = {
    ABOUT: ["Who are you?", "What are you?", "What is your name?", "Tell me about yourself.",
            "Introduce yourself.", "Which model are you?", "Are you a language model?",
            "Are you a person?"],
    ABLE: ["What can you do?", "How can you help me?", "What do you know?", "Help",
           "What can I ask you?", "What are you good at?"],
    HELLO: ["Hello!", "Hello", "Hi!", "Hi", "Hey!", "Good morning!", "Good evening!",
            "Hello there!", "Good day!", "How are you?"],
    WELCOME: ["Thank you!", "Thanks!", "Thank you very much.", "Thanks a lot!", "Great, thanks."],
    GOODBYE: ["Goodbye!", "Bye!", "See you later!", "Good night!", "Bye bye!"],
}
_QUESTIONS = [(question, answer) for answer, group in ANSWERS.items() for question in group]


def sample(rng: Random) -> Item:
    question, answer = rng.choice(_QUESTIONS)
    return Item("talk", question, answer, answer, key="")
