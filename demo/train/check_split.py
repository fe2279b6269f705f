"""Checks that no held-out question is in the training text.

    python check_split.py --documents 300000

It reads training documents as text, without the generator's own notion of what
is held out, and looks for the held-out questions in them, in any capitals and
with or without a final mark. Sums and differences are looked for as numbers.
"""

import argparse
import re
from random import Random

from corpus import held_out
from corpus.dialogues import END, START
from corpus.documents import training_document

USER = re.compile(re.escape(f"{START}user\n") + "(.*?)" + re.escape(END), re.DOTALL)
EQUATION = re.compile(r"(\d+) ([+-]) (\d+) = ")


def plain(question: str) -> str:
    return question.lower().strip().rstrip("?.!")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=300_000)
    parser.add_argument("--count", type=int, default=2000, help="held-out questions of a kind")
    args = parser.parse_args()
    drawn = held_out.questions_of_each_kind(args.count, seed=1)
    # A question about something told earlier is only held out with the telling.
    items = [item for items in drawn.values() for item in items if not item.history]
    questions = {plain(item.question) for item in items}
    sentences = {item.key for item in drawn["domains"]}
    equations = {item.answer.split("=")[0] + "= " for item in drawn["sums"] + drawn["differences"]}

    rng = Random("check")
    asked = 0
    for _ in range(args.documents):
        text = "".join(piece for piece, _ in training_document(rng))
        for question in USER.findall(text):
            asked += 1
            assert plain(question) not in questions, question
        for a, sign, b in EQUATION.findall(text):
            assert f"{a} {sign} {b} = " not in equations, text
        assert not any(line in sentences for line in text.split("\n")), text
    print(f"{len(questions)} held-out questions, none among {asked} asked in training")


if __name__ == "__main__":
    main()
