"""Makes a model folder with random weights, through mlx-lm's own classes and writers."""

import contextlib
import copy
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx_lm.utils as mlx_lm
from mlx.utils import tree_flatten, tree_unflatten

import byte_bpe
from case import Case, Tensors

# Wider than usual, so that attention and MLP weigh more in the residual stream than the token
# itself does: else greedy decoding would repeat one token.
GAIN = 1.6
# About the standard deviation of the logits.
LOGIT_SPREAD = 3.0


def write_model(case: Case, seed: int, folder: Path) -> None:
    """Writes config.json, the weights and the tokenizer of `case` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()

    tokenizer = byte_bpe.make()
    config: dict[str, Any] = copy.deepcopy(case.config)
    config["torch_dtype"] = case.dtype
    config["eos_token_id"] = tokenizer.token_to_id(byte_bpe.END)

    model_class, args_class = mlx_lm._get_classes(config)
    # args_class may change what it is given: keep the file as the publisher would have written it.
    model = model_class(args_class.from_dict(copy.deepcopy(config)))
    if case.gemma:
        tie_gemma(model)
    model.update(tree_unflatten(random_weights(model, case, seed)))
    model.set_dtype(getattr(mx, case.dtype))
    if case.bits:
        model, config = quantise(model, config, case)

    with sharded(case.shards):
        mlx_lm.save_model(folder, model)
    if case.publish:
        publish(case.publish, folder)
    if not case.index:
        (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    mlx_lm.save_config(config, folder / "config.json")
    byte_bpe.save(folder, tokenizer)


def tie_gemma(model: nn.Module) -> None:
    """Takes the output layer away, as mlx-lm does when a Gemma checkpoint has none."""
    language_model = getattr(model, "language_model", model)
    if hasattr(language_model, "sanitize"):
        language_model.sanitize({})


def random_weights(model: nn.Module, case: Case, seed: int) -> list[tuple[str, mx.array]]:
    """A random value for every parameter, in a range that keeps logits spread."""
    mx.random.seed(seed)
    parameters = tree_flatten(model.parameters())
    return [(name, random_weight(name, old, case)) for name, old in parameters]


def random_weight(name: str, old: mx.array, case: Case) -> mx.array:
    noise = mx.random.normal(old.shape)
    for ending, (mean, spread) in case.special.items():
        if name.endswith(ending):
            return mean + spread * noise
    if name.endswith(".bias"):
        return 0.3 * noise
    if name.endswith("embed_tokens.weight"):
        # Gemma multiplies embeddings by sqrt(hidden): smaller ones, and a larger final norm.
        spread = LOGIT_SPREAD / 8 if case.gemma else LOGIT_SPREAD
        return spread / old.shape[-1] ** 0.5 * noise
    if name.endswith("lm_head.weight"):
        return LOGIT_SPREAD / old.shape[-1] ** 0.5 * noise
    if old.ndim == 1:
        # A norm's weight: Gemma stores it minus one.
        mean = 0.0 if case.gemma else 1.0
        if case.gemma and name.endswith("model.norm.weight"):
            mean = 7.0
        return mean + 0.2 * noise
    return GAIN / old.shape[-1] ** 0.5 * noise


def publish(rename: Callable[[Tensors], Tensors], folder: Path) -> None:
    """Writes the weights anew as the publisher would have."""
    tensors: Tensors = {}
    for file in sorted(folder.glob("model*.safetensors")):
        tensors |= mx.load(str(file))
    tensors = rename(tensors)
    mx.eval(tensors)
    for file in folder.glob("model*.safetensors*"):
        file.unlink()
    file = folder / "model.safetensors"
    mx.save_safetensors(str(file), tensors)
    name_fp8(file)


def name_fp8(file: Path) -> None:
    """Gives 8-bit floats their type: MLX keeps and writes them as uint8."""
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    for name in [name.removesuffix("_scale_inv") for name in header if name.endswith("_scale_inv")]:
        if header[name]["dtype"] == "U8":
            header[name]["dtype"] = "F8_E4M3"
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])


def quantise(model: nn.Module, config: dict, case: Case) -> tuple[nn.Module, dict]:
    """What `mlx_lm.convert --quantize` does."""

    def bits_of(path: str, _: nn.Module) -> bool | dict:
        for ending, own in case.overrides.items():
            if path.endswith(ending):
                return own if isinstance(own, dict) else {"group_size": case.group, "bits": own}
        return True

    predicate = bits_of if case.overrides else None
    with contextlib.redirect_stdout(io.StringIO()):
        return mlx_lm.quantize_model(
            model, config, case.group, case.bits, mode=case.mode, quant_predicate=predicate
        )


@contextlib.contextmanager
def sharded(count: int) -> Iterator[None]:
    """Makes mlx-lm cut weights into `count` files, however small they are."""
    original = mlx_lm.make_shards

    def cut(weights: dict[str, mx.array]) -> list[dict[str, mx.array]]:
        names = list(weights)
        step = -(-len(names) // count)
        parts = [names[start : start + step] for start in range(0, len(names), step)]
        return [{name: weights[name] for name in part} for part in parts]

    mlx_lm.make_shards = cut
    try:
        yield
    finally:
        mlx_lm.make_shards = original
