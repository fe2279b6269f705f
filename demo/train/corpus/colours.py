"""The colours of everyday things."""

from random import Random

from .item import Item, capitalised

# Each thing has one colour that nearly everybody would name.
SINGULAR = {
    "blue": "the sky|the sea|the ocean|a sapphire|a blueberry|a bluebell|a cornflower",
    "green": "grass|a frog|a cucumber|an emerald|broccoli|spinach|a lime|a pea|a cactus|"
             "a lettuce|a crocodile|parsley|moss|a leaf in spring|a shamrock",
    "yellow": "a banana|a lemon|the sun|a sunflower|butter|sweetcorn|a canary|custard|mustard|"
              "a daffodil|a buttercup|a chick",
    "red": "a tomato|a strawberry|blood|a fire engine|a ladybird|a cherry|a raspberry|ketchup|"
           "a ruby|a stop sign|a poppy|a London bus|a robin's breast",
    "orange": "a carrot|an orange|a pumpkin|a tangerine|an apricot|a basketball|a traffic cone",
    "white": "snow|milk|a swan|salt|a polar bear|flour|cotton|a snowman|rice|chalk|a daisy",
    "black": "coal|a raven|the night sky|a crow|tar|a panther|liquorice|ink|soot|a blackbird",
    "brown": "chocolate|a chestnut|coffee|a grizzly bear|tree bark|soil|a walnut|mud|toast|"
             "cinnamon",
    "grey": "an elephant|a rhinoceros|concrete|a rain cloud|ash|a dolphin|a mouse|steel|"
            "a donkey",
    "pink": "a flamingo|a pig|candyfloss|bubble gum|a salmon fillet|cherry blossom",
    "purple": "an aubergine|lavender|a plum|an amethyst|a violet|beetroot juice",
}
PLURAL = {
    "blue": "blueberries|sapphires|blue jeans",
    "green": "frogs|peas|limes|cucumbers|emeralds|leaves in spring",
    "yellow": "bananas|lemons|sunflowers|daffodils",
    "red": "tomatoes|strawberries|cherries|fire engines|rubies|poppies",
    "orange": "carrots|oranges|pumpkins|tangerines",
    "white": "swans|polar bears|snowflakes|daisies",
    "black": "ravens|crows|panthers",
    "brown": "chestnuts|coffee beans|walnuts",
    "grey": "elephants|rain clouds|dolphins|donkeys",
    "pink": "flamingos|pigs",
    "purple": "plums|aubergines|violets",
}

PHRASINGS = [
    "What colour {be} {x}?",
    "Which colour {be} {x}?",
    "What color {be} {x}?",
    "What is the colour of {x}?",
    "What is the color of {x}?",
    "What's the colour of {x}?",
    "Tell me the colour of {x}.",
    "Name the colour of {x}.",
    "Do you know the colour of {x}?",
    "Can you tell me what colour {x} {be}?",
    "Please tell me which colour {x} {be}.",
    "I want to paint {x}. Which colour do I need?",
    "The colour of {x}, please.",
    "Of which colour {be} {x}?",
]


def _things(table: dict[str, str], verb: str) -> list[tuple[str, str, str]]:
    return [(thing, verb, colour) for colour, row in table.items() for thing in row.split("|")]


THINGS = _things(SINGULAR, "is") + _things(PLURAL, "are")


def statement(thing: str, verb: str, colour: str) -> str:
    """The fact as one sentence, which is also the answer to its questions."""
    return f"{capitalised(thing)} {verb} {colour}."


def long_statement(thing: str, verb: str, colour: str) -> str:
    return f"The colour of {thing} is {colour}."


def sample(rng: Random) -> Item:
    thing, verb, colour = rng.choice(THINGS)
    question = rng.choice(PHRASINGS).format(x=thing, be=verb)
    return Item(
        kind="colours",
        question=question,
        answer=statement(thing, verb, colour),
        expect=f"{verb} {colour}.",
        key=question,
        follow_up=rng.choice(["And {x}?", "What about {x}?"]).format(x=thing),
    )
