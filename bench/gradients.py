"""What gradients.rs measures, with MLX alone: gradients.py FORMAT TOKENS [ROUNDS] prints a line of JSON."""

import json
import sys
import time

import mlx.core as mx
import numpy as np

LAYERS = [(2048, 2048), (2048, 2048), (8192, 2048), (2048, 8192)]
RANK = 8


def values(shape: tuple[int, int], size: float) -> mx.array:
    """gradients.rs's."""
    numbers = np.arange(shape[0] * shape[1], dtype=np.uint32) * np.uint32(-1_640_531_535 % (1 << 32))
    numbers = (numbers.view(np.int32) >> 8).astype(np.float32) / np.float32(8_388_608) * np.float32(size)
    return mx.array(numbers.reshape(shape))


class Frozen:
    """A layer of one of the formats."""

    def __init__(self, form: str, shape: tuple[int, int]) -> None:
        self.dense, self.parts, self.bits = None, None, 0
        w = values(shape, 0.04)
        match form:
            case "float32":
                self.dense = w
            case "bfloat16":
                self.dense = w.astype(mx.bfloat16)
            case bits:
                self.bits = int(bits)
                self.parts = mx.quantize(w.astype(mx.bfloat16), group_size=64, bits=self.bits)
        mx.eval(self.dense if self.parts is None else self.parts)

    def __call__(self, x: mx.array) -> mx.array:
        if self.parts is None:
            # Activations have the type that mlx-lm would train in: the weights'.
            return (x.astype(self.dense.dtype) @ self.dense.T).astype(mx.float32)
        return mx.quantized_matmul(x, *self.parts, transpose=True, group_size=64, bits=self.bits)


def main() -> None:
    form, tokens = sys.argv[1], int(sys.argv[2])
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    mx.set_default_device(mx.cpu)
    layers = [Frozen(form, shape) for shape in LAYERS]
    adapters = []
    for rows, columns in LAYERS:
        adapters += [values((RANK, columns), 0.04), values((rows, RANK), 0.04)]
    x = values((tokens, LAYERS[0][1]), 1.0)

    def loss(adapters: list[mx.array]) -> mx.array:
        y = x
        for w, a, b in zip(layers, adapters[::2], adapters[1::2], strict=True):
            y = w(y) + y @ a.T @ b.T
        return mx.sum(y * y)

    seconds = []
    value = mx.array(0.0)
    for _ in range(rounds):
        started = time.perf_counter()
        value, gradients = mx.value_and_grad(loss)(adapters)
        mx.eval(value, gradients)
        seconds.append(time.perf_counter() - started)
    print(json.dumps({"format": form, "tokens": tokens, "seconds": seconds, "loss": value.item()}))


if __name__ == "__main__":
    main()
