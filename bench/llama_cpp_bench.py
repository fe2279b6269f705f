"""Many callers at once with llama.cpp. batch.rs does the same with mlxrt, with the same ids; prints one JSON object.

llama_cpp_bench.py FILE THREADS throughput PROMPT GENERATED CONCURRENT...
"""

import ctypes
import json
import sys
import time
from pathlib import Path

import llama_cpp as llama
import numpy as np

sys.path.append(str(Path(__file__).resolve().parent))
from many import Times, prompt, rates  # noqa: E402

# llama.cpp's own default: the most tokens of one call.
BATCH = 2048


class Context:
    """Room for `count` sequences of `length` tokens."""

    def __init__(self, model, count: int, length: int, threads: int) -> None:
        params = llama.llama_context_default_params()
        params.n_ctx = count * length
        params.n_batch = BATCH
        params.n_seq_max = count
        # Each sequence attends to its own cells alone.
        params.kv_unified = False
        params.n_threads = params.n_threads_batch = threads
        params.no_perf = True
        self.context = llama.llama_init_from_model(model, params)
        if not self.context:
            raise SystemExit("llama.cpp: no context")
        self.vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
        self.batch = llama.llama_batch_init(BATCH, 0, 1)

    def decode(self, tokens: list[tuple[int, int, int, bool]]) -> list[int]:
        """Computes (token, position, sequence, whether its logits are wanted) of each; the most likely tokens
        behind those whose logits are wanted."""
        batch = self.batch
        batch.n_tokens = len(tokens)
        for i, (token, position, sequence, wanted) in enumerate(tokens):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = wanted
        if llama.llama_decode(self.context, batch) != 0:
            raise SystemExit("llama.cpp: llama_decode failed")
        return [self.best(i) for i, (*_, wanted) in enumerate(tokens) if wanted]

    def best(self, index: int) -> int:
        logits = llama.llama_get_logits_ith(self.context, index)
        return int(np.argmax(np.ctypeslib.as_array(logits, shape=(self.vocab,))))

    def close(self) -> None:
        llama.llama_batch_free(self.batch)
        llama.llama_free(self.context)


def throughput(model, threads: int, length: int, generated: int, count: int) -> dict:
    """`count` requests at once: generated tokens per second, as batch.rs counts them."""
    context = Context(model, count, length + generated, threads)
    context.decode([(1, 0, 0, True)])  # warm up
    llama.llama_memory_clear(llama.llama_get_memory(context.context), True)
    times: Times = {number: [] for number in range(count)}
    prompts = [
        (token, position, number, position + 1 == length)
        for number in times
        for position, token in enumerate(prompt(length, number, context.vocab))
    ]

    start = time.perf_counter()
    answers: list[list[int]] = []
    for first in range(0, len(prompts), BATCH):
        answers += [[token] for token in context.decode(prompts[first : first + BATCH])]
    note(times)
    for position in range(length, length + generated - 1):
        step = [(answer[-1], position, n, True) for n, answer in enumerate(answers)]
        for answer, token in zip(answers, context.decode(step)):
            answer.append(token)
        note(times)
    context.close()
    return {**rates(start, times, length, generated), "answer": answers[0]}


def note(times: Times) -> None:
    """All sequences have a token more."""
    now = time.perf_counter()
    for each in times.values():
        each.append(now)


@llama.llama_log_callback
def errors(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    if level == 4:  # GGML_LOG_LEVEL_ERROR
        print(text.decode(errors="replace"), end="", file=sys.stderr)


def main() -> None:
    file, threads = sys.argv[1], int(sys.argv[2])
    length, generated, *counts = map(int, sys.argv[4:])
    llama.llama_log_set(errors, ctypes.c_void_p(0))
    llama.llama_backend_init()
    params = llama.llama_model_default_params()
    params.n_gpu_layers = 0
    model = llama.llama_model_load_from_file(file.encode(), params)
    if not model:
        raise SystemExit(f"llama.cpp: {file} cannot be loaded")
    runs = [throughput(model, threads, length, generated, count) for count in counts]
    weight_bytes = llama.llama_model_size(model)
    print(json.dumps({"engine": "llama.cpp", "device": "cpu", "weight_bytes": weight_bytes, "runs": runs}))


if __name__ == "__main__":
    main()
