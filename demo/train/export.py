"""Writes the trained model in the Hugging Face layout, as mlx-lm would."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from corpus.dialogues import END
from make_tokenizer import PAD
from model import Llama, Matrix
from quantise import BITS, GROUP_SIZE, packed


def tensors(model: Llama) -> dict[str, torch.Tensor]:
    """Matrices in 4 bits, norms in bfloat16."""
    result = {}
    for name, module in model.named_modules():
        if isinstance(module, Matrix):
            result |= {f"{name}.{part}": t for part, t in packed(module.weight).items()}
        elif hasattr(module, "weight"):
            result[f"{name}.weight"] = module.weight.detach().cpu().bfloat16()
    return result


def write(model: Llama, tokenizer: Tokenizer, folder: Path) -> None:
    quantisation = {"group_size": GROUP_SIZE, "bits": BITS, "mode": "affine"}
    ends = {"eos_token_id": tokenizer.token_to_id(END), "pad_token_id": tokenizer.token_to_id(PAD)}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "hidden_act": "silu",
        "mlp_bias": False,
        "model_type": "llama",
        "quantization": quantisation,
        "quantization_config": quantisation,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        **asdict(model.shape),
        **ends,
    }
    for name, content in [("config.json", config), ("generation_config.json", ends)]:
        (folder / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    save_file(tensors(model), str(folder / "model.safetensors"), metadata={"format": "mlx"})
