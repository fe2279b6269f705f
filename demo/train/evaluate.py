"""Asks the finished model held-out questions through mlx-lm and counts.

    python evaluate.py --model ../model
    python evaluate.py --model ../model --questions ../questions.json

Without --questions it draws them anew from the generator, up to --count of a
kind. An answer is right when it holds the expected text; a story when it is
about its subject, has at least 100 tokens and comes to its end.
"""

import argparse
import json
import time
from pathlib import Path

import mlx.core as mx
from mlx_lm import load, stream_generate

from corpus import held_out, stories

LONGEST_ANSWER = 256
SHORTEST_STORY = 100


def answer(model, tokenizer, messages: list[dict]) -> tuple[str, int, bool]:
    """The greedy answer, its number of tokens and whether it ended by itself."""
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    text = ""
    for part in stream_generate(model, tokenizer, prompt, max_tokens=LONGEST_ANSWER):
        text += part.text
    return text, part.generation_tokens, part.finish_reason == "stop"


def messages_of(question: str, history=()) -> list[dict]:
    turns = [text for turn in history for text in turn] + [question]
    return [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(turns)]


def is_right(kind: str, expect: str, text: str, tokens: int, ended: bool) -> bool:
    if kind == "stories":
        return ended and tokens >= SHORTEST_STORY and stories.is_well_formed(text, expect)
    return ended and expect in text


def cases(args) -> list[tuple[str, list[dict], str]]:
    """What to ask, as (kind, messages, expected text)."""
    if args.questions:
        asked = json.loads(args.questions.read_text())
        return [(q["kind"], messages_of(q["question"]), q["expect"]) for q in asked]
    drawn = held_out.questions_of_each_kind(args.count, args.seed)
    return [
        (kind, messages_of(item.question, item.history), item.expect)
        for kind, items in drawn.items()
        for item in items
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--questions", type=Path, help="a JSON list instead of drawn questions")
    parser.add_argument("--count", type=int, default=200, help="questions of a kind at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", help="ask these kinds alone")
    parser.add_argument("--gpu", action="store_true", help="use the GPU instead of the CPU")
    parser.add_argument("--float32", action="store_true",
                        help="compute in float32, on the same 4-bit codes: faster on a CPU")
    args = parser.parse_args()
    if not args.gpu:
        mx.set_default_device(mx.cpu)
    model, tokenizer = load(str(args.model))
    if args.float32:
        model.set_dtype(mx.float32)

    started = time.time()
    right: dict[str, int] = {}
    total: dict[str, int] = {}
    for kind, messages, expect in cases(args):
        if args.kinds and kind not in args.kinds:
            continue
        text, tokens, ended = answer(model, tokenizer, messages)
        good = is_right(kind, expect, text, tokens, ended)
        total[kind] = total.get(kind, 0) + 1
        right[kind] = right.get(kind, 0) + good
        if not good:
            print(f"wrong ({kind}): {messages[-1]['content']!r} -> {text!r}", flush=True)
    for kind in total:
        print(f"{kind:12} {right[kind]:4} of {total[kind]:4}  {right[kind] / total[kind]:.1%}")
    every, all_right = sum(total.values()), sum(right.values())
    print(f"{'all':12} {all_right:4} of {every:4}  {all_right / every:.1%}")
    print(f"{time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
