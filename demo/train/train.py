"""Trains the demo model and writes it in 4 bits.

    python train.py --model ../model

The folder must hold the tokenizer already (make_tokenizer.py). Everything is
seeded. The last part of the training sees the weights as 4 bits give them
back, so that the accuracy measured here is that of the file which ships.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import export
from data import attention_mask, training_rows
from model import Llama
from score import accuracy

# What a token of a question counts for, when one of an answer counts 1: enough
# to learn the look of questions, too little to spend capacity on guessing them.
QUESTION_WEIGHT = 0.1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder to write into")
    parser.add_argument("--log", type=Path, help="JSON file for the figures of the run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=64, help="rows of 1024 tokens a step")
    parser.add_argument("--documents", type=int, default=1_500_000)
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--warmup", type=int, default=200, help="steps of rising rate")
    parser.add_argument("--four-bit-from", type=float, default=0.6,
                        help="share of the steps after which weights are seen in 4 bits")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-compile", action="store_true", help="do without torch.compile")
    return parser.parse_args()


def learning_rate(step: int, args: argparse.Namespace) -> float:
    """Rises, stays, and falls to nothing in a half cosine over the 4-bit part."""
    if step < args.warmup:
        return args.rate * (step + 1) / args.warmup
    decay_from = args.steps * args.four_bit_from
    if step < decay_from:
        return args.rate
    done = (step - decay_from) / (args.steps - decay_from)
    return args.rate * 0.5 * (1 + math.cos(math.pi * done))


def loss_of(model, ids, learnt, numbers, four_bit):
    """Mean loss of the next token, never across the border of two documents."""
    logits = model(ids, attention_mask(numbers), four_bit)
    target = ids[:, 1:]
    weight = torch.where(learnt[:, 1:], 1.0, QUESTION_WEIGHT)
    weight = weight * ((numbers[:, 1:] == numbers[:, :-1]) & (numbers[:, 1:] > 0))
    each = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), target.flatten(), reduction="none")
    return (each * weight.flatten()).sum() / weight.sum()


def batches(rows, size: int, seed: int, device):
    """Endless batches, every epoch in an order of its own."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(rows[0]), generator=generator)
        for chosen in order[: len(order) // size * size].split(size):
            ids, learnt, numbers = (part[chosen.to(part.device)].to(device) for part in rows)
            yield ids.long(), learnt, numbers


def optimiser_for(model: Llama, rate: float) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim == 2]
    norms = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": norms, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95))


def main() -> None:
    args = arguments()
    started = time.time()
    torch.manual_seed(args.seed)
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    rows = training_rows(args.model / "tokenizer.json", args.documents, args.seed, args.workers)
    # Memory allowing, the whole text lives on the device: copying would stall it.
    rows = [part.to(args.device) for part in rows]
    tokens = int((rows[2] > 0).sum())
    print(f"{tokens} tokens in {len(rows[0])} rows, {time.time() - started:.0f} s", flush=True)

    model = Llama().to(args.device)
    run = model if args.no_compile else torch.compile(model)
    optimiser = optimiser_for(model, args.rate)
    print(sum(p.numel() for p in model.parameters()), "parameters", flush=True)

    for step, batch in zip(range(args.steps), batches(rows, args.batch, args.seed, args.device)):
        four_bit = step >= args.steps * args.four_bit_from
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, args)
        loss = loss_of(run, *batch, four_bit)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if step % 100 == 99:
            seconds = time.time() - started
            print(f"step {step + 1} loss {loss.item():.4f} {seconds:.0f} s", flush=True)
        if step % 1000 == 999:
            print(accuracy(model, tokenizer, four_bit, args.device), flush=True)

    figures = {
        "held_out_exact_answers": accuracy(model, tokenizer, True, args.device),
        "training_tokens": tokens,
        "steps": args.steps,
        "tokens_per_step": args.batch * rows[0].shape[1],
        "seconds": round(time.time() - started),
        "device": torch.cuda.get_device_name() if args.device == "cuda" else args.device,
        "torch": torch.__version__,
    }
    export.write(model, tokenizer, args.model)
    print(json.dumps(figures, indent=2))
    if args.log:
        args.log.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
