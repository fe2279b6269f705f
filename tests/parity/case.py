"""One model that mlxrt is compared with mlx-lm on: small, with an awkward shape.

rms_norm_eps is larger in the families' configs than in real models, so that a wrong one shows in the
logits.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx

Config = dict[str, Any]
Tensors = dict[str, mx.array]

UNTIED: Config = {"tie_word_embeddings": False}


@dataclass(frozen=True)
class Case:
    """One model: its config.json, how its weights are made and stored, and how they are cut into files."""

    name: str
    config: Config
    dtype: str = "float32"
    bits: int = 0  # 0: not quantised
    group: int = 0
    mode: str = "affine"
    # Path ending -> bits of that layer, or all its settings.
    overrides: dict[str, int | Config] = field(default_factory=dict)
    shards: int = 1
    index: bool = True  # keep model.safetensors.index.json
    # Path ending -> mean and spread of a random tensor, where the usual ones make no sense.
    special: dict[str, tuple[float, float]] = field(default_factory=dict)
    # Norms are stored minus one, embeddings are multiplied by sqrt(hidden_size).
    gemma: bool = False
    # mlx-lm's names and layouts to those of the publisher, so that renaming and splitting is tried.
    publish: Callable[[Tensors], Tensors] | None = None
    # What the config.json that mlxrt reads has otherwise than mlx-lm's: keys that mlx-lm does not know.
    says: Config = field(default_factory=dict)


def merged(config: Config, says: Config) -> Config:
    """`config` with what `says` has otherwise; None takes a key away."""
    inner = {k: merged(config.get(k, {}), v) for k, v in says.items() if isinstance(v, dict)}
    return {k: v for k, v in (config | says | inner).items() if k not in says or v is not None}


def rewrite(file: Path, says: Config) -> None:
    """Makes a config.json say something else."""
    config = merged(json.loads(file.read_text()), says)
    file.write_text(json.dumps(config, indent=2) + "\n")
