"""Writes the held-out questions that the end-to-end tests ask.

    python make_questions.py --out ../questions.json

Each has its kind, the question and a text that a right answer contains. Kinds
that need earlier turns are left out, so that a test can ask any of them alone.
"""

import argparse
import json
from pathlib import Path

from corpus import held_out

PER_KIND = 30
# Another seed than evaluate.py's, so that the two do not ask the same sample.
SEED = 2


def questions() -> list[dict[str, str]]:
    drawn = held_out.questions_of_each_kind(PER_KIND, SEED)
    return [
        {"kind": item.kind, "question": item.question, "expect": item.expect}
        for items in drawn.values()
        for item in items
        if not item.history
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    lines = ",\n".join("  " + json.dumps(question) for question in questions())
    parser.parse_args().out.write_text(f"[\n{lines}\n]\n")
