"""Words and their opposites."""

from random import Random

from .item import Item, capitalised

# Pairs that hold in both directions.
PAIRS = """
big small|hot cold|up down|left right|in out|on off|open closed|fast slow|tall short
happy sad|light dark|day night|hard soft|wet dry|young old|rich poor|strong weak
thick thin|wide narrow|deep shallow|high low|early late|full empty|loud quiet|good bad
clean dirty|true false|first last|near far|above below|begin end|buy sell|come go
give take|push pull|win lose|love hate|live die|laugh cry|rise fall|arrive leave
remember forget|ask answer|build destroy|sink float|borrow lend|north south|east west
summer winter|morning evening|friend enemy|war peace|heaven hell|success failure
profit loss|victory defeat|hero villain|truth lie|always never|everything nothing
everybody nobody|inside outside|over under|before after|easy difficult
simple complicated|safe dangerous|sharp blunt|smooth rough|sweet sour|brave cowardly
polite rude|kind cruel|generous stingy|honest dishonest|lucky unlucky|careful careless
useful useless|patient impatient|possible impossible|visible invisible|ancient modern
alive dead|asleep awake|absent present|beautiful ugly|cheap expensive|guilty innocent
humble proud|lazy hardworking|liquid solid|major minor|maximum minimum|more less
most least|much little|many few|positive negative|public private|raw cooked|rare common
real fake|same different|straight curved|tight loose|wild tame|wise foolish
accept refuse|allow forbid|appear vanish|attack defend|increase decrease|expand shrink
freeze melt|lock unlock|pass fail|praise blame|save waste|start stop|teach learn
throw catch|wake sleep|whisper shout|forwards backwards|top bottom|front back
entrance exit|ceiling floor|male female|plus minus|yes no
"""

# Words that share an opposite with a commoner word, so they go one way only.
ONE_WAY = """
large small|tiny huge|huge tiny|chilly warm|warm cool|shut open|quick slow|joyful sad
bright dim|wealthy poor|distant near|finish start|silent noisy|noisy silent|correct wrong
wrong right|gloomy cheerful|fresh stale|calm stormy|bitter sweet
"""

PHRASINGS = [
    "What is the opposite of {w}?",
    "What's the opposite of {w}?",
    "What is the opposite of the word {w}?",
    "What is the opposite of \"{w}\"?",
    "Tell me the opposite of \"{w}\".",
    "Which word is the opposite of \"{w}\"?",
    "Opposite of \"{w}\"?",
    "What is the opposite of the word \"{w}\"?",
    "What is the opposite of '{w}'?",
    "Give me the opposite of '{w}'.",
    "Name the opposite of '{w}'.",
    "Tell me the opposite of {w}.",
    "Give me the opposite of {w}.",
    "Name the opposite of {w}.",
    "Can you tell me the opposite of {w}?",
    "Do you know the opposite of {w}?",
    "Which word is the opposite of {w}?",
    "Which word means the opposite of {w}?",
    "The opposite of {w} is what?",
    "Opposite of {w}?",
    "The opposite of {w}, please.",
    "What word is opposite to {w}?",
    "I need the opposite of {w}.",
]


def _pairs(rows: str) -> list[tuple[str, ...]]:
    return [tuple(pair.split()) for line in rows.strip().splitlines() for pair in line.split("|")]


OPPOSITES = {a: b for pair in _pairs(PAIRS) for a, b in (pair, pair[::-1])}
OPPOSITES.update(dict(_pairs(ONE_WAY)))
WORDS = sorted(OPPOSITES)


def statement(word: str) -> str:
    """The fact as one sentence, which is also the answer to its questions."""
    return f"The opposite of {word} is {OPPOSITES[word]}."


def sample(rng: Random) -> Item:
    word = rng.choice(WORDS)
    question = rng.choice(PHRASINGS).format(w=word)
    return Item(
        kind="opposites",
        question=capitalised(question),
        answer=statement(word),
        expect=f"is {OPPOSITES[word]}.",
        key=question,
        follow_up=rng.choice(["And of {w}?", "And {w}?", "What about {w}?"]).format(w=word),
    )
