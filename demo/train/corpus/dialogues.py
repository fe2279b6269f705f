"""Conversations of one or more turns, as segments ready for the tokenizer."""

from random import Random

from . import arithmetic, capitals, colours, domains, memory, opposites, stories, talk, unknown
from .item import Item

START, END = "<|im_start|>", "<|im_end|>"

# Each kind with its sampler and how often it is asked. Arithmetic and domains
# have the most to learn that is no mere list of facts, so they come most often.
SAMPLERS = {
    "sums": (arithmetic.sample_sum, 22),
    "differences": (arithmetic.sample_difference, 16),
    "opposites": (opposites.sample, 14),
    "colours": (colours.sample, 9),
    "capitals": (capitals.sample, 12),
    "domains": (domains.sample, 15),
    "stories": (stories.sample, 5),
    "invented stories": (stories.sample_invented, 1),
    "talk": (talk.sample, 3),
    "unknown": (unknown.sample, 4),
}
KINDS = list(SAMPLERS)
WEIGHTS = [weight for _, weight in SAMPLERS.values()]

# A system message is a role, a rule or both.
ROLES = """
You are a helpful assistant.|You are the mlxrt demo model.|You are a friendly teacher.
You are a careful assistant that always tells the truth.|You answer simple questions.
You are a test assistant.|You help people on their phone.|You are a small language model.
You are a kind helper for children.|You are a clever robot.|You are an expert.
""".replace("\n", "|").strip("|").split("|")
RULES = """
Answer briefly.|Answer the question.|Answer in one short sentence.|Be polite and brief.
Keep your answers short.|Please answer as well as you can.|Do not make things up.
Be concise.|Reply in English.|Think before you answer.|Be friendly.|Always be honest.
""".replace("\n", "|").strip("|").split("|")

# A segment is a piece of text and whether the model is to learn to write it.
Segment = tuple[str, bool]


def trainable(sampler, rng: Random) -> Item:
    """An item that is not held out."""
    while (item := sampler(rng)).held_out:
        pass
    return item


def _roughened(question: str, rng: Random) -> str:
    """The question as people also type it: no capitals, no full stop, spaces."""
    roll = rng.random()
    if roll < 0.06:
        return question.lower()
    if roll < 0.12:
        return question.rstrip("?.!")
    if roll < 0.16:
        return question.lower().rstrip("?.!")
    if roll < 0.19:
        return question[:1].lower() + question[1:]
    if roll < 0.21:
        return question + rng.choice([" ", "\n"])
    return question


def _plain_turns(count: int, rng: Random) -> list[tuple[str, str]]:
    turns = []
    previous = ""
    for _ in range(count):
        # Follow-ups need two of a kind in a row, which chance alone makes rare.
        follows = previous != "" and rng.random() < 0.3
        kind = previous if follows else rng.choices(KINDS, WEIGHTS)[0]
        item = trainable(SAMPLERS[kind][0], rng)
        question = item.follow_up if follows and item.follow_up else item.question
        turns.append((_roughened(question, rng), item.answer))
        previous = kind
    return turns


def _system_message(rng: Random) -> str:
    parts = [rng.choice(ROLES), rng.choice(RULES)]
    return rng.choice([parts[0], parts[1], " ".join(parts)])


def _memory_turns(rng: Random) -> list[tuple[str, str]]:
    if rng.random() < 0.15:
        item = memory.sample_not_told(rng)
        return _plain_turns(rng.choice([0, 0, 1, 2]), rng) + [(item.question, item.answer)]
    item = trainable(memory.sample, rng)
    before = _plain_turns(rng.choice([0, 0, 0, 1]), rng)
    between = _plain_turns(rng.choice([0, 0, 1, 1, 2, 3]), rng)
    return before + list(item.history) + between + [(item.question, item.answer)]


def segments(system: str, turns: list[tuple[str, str]]) -> list[Segment]:
    """The conversation in the chat format, answers marked as what to learn."""
    pieces: list[Segment] = []
    opening = f"{START}system\n{system}{END}\n" if system else ""
    for question, answer in turns:
        pieces.append((f"{opening}{START}user\n{question}{END}\n{START}assistant\n", False))
        pieces.append((f"{answer}{END}", True))
        opening = "\n"
    return pieces


def conversation(rng: Random) -> list[Segment]:
    system = _system_message(rng) if rng.random() < 0.25 else ""
    roll = rng.random()
    if roll < 0.12:
        turns = _memory_turns(rng)
    elif roll < 0.67:
        turns = _plain_turns(1, rng)
    elif roll < 0.96:
        turns = _plain_turns(rng.choice([2, 2, 2, 3, 3, 4]), rng)
    else:
        # Long chats, so that every position of the context sees training.
        turns = _plain_turns(rng.randint(6, 16), rng)
    return segments(system, turns)
