"""Writes a dense model of make_model.py for llama.cpp: its very weights, in one of GGUF's formats.

make_gguf.py MODEL FORMAT FILE: Q4_0, Q8_0 or BF16 for every matrix, the embedding too; vectors are float32. No
tokenizer. Does nothing if the file is there already.
"""

import json
import sys
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
from gguf import GGMLQuantizationType as Format
from gguf import quants

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "parity"))
from gguf_files import ARCHITECTURES, Case, permute, write_metadata  # noqa: E402


def heads_of(config: dict, name: str) -> int:
    """How many heads of rotary halves the rows are; 0 where they stay as they are."""
    if config["model_type"] != "llama":
        return 0
    key = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(name.split(".")[-2])
    return config[key] if key else 0


def write(model: Path, matrices: Format, file: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    architecture = {**ARCHITECTURES, "gpt_oss": "gpt-oss"}[config["model_type"]]
    names = gguf.get_tensor_name_map(
        next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture),
        config["num_hidden_layers"],
    )
    writer = gguf.GGUFWriter(file, architecture)
    write_metadata(writer, Case(model.name, config, [matrices]))
    if experts := config.get("num_local_experts"):
        writer.add_sliding_window(config["sliding_window"])
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config["num_experts_per_tok"])
        writer.add_expert_feed_forward_length(config["intermediate_size"])
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(config["vocab_size"])
    for path in sorted(model.glob("*.safetensors")):
        for name, weight in mx.load(str(path)).items():
            values = np.array(weight.astype(mx.float32))
            heads = heads_of(config, name)
            values = permute(values, heads) if heads else values
            # The layout's Gemma has the 1 in its norms; routers and biases of experts stay floats.
            values = values + 1 if config["model_type"] == "gemma3_text" and "norm" in name else values
            is_matrix = values.ndim > 1 and name.endswith(".weight") and ".router." not in name
            kind = matrices if is_matrix else Format.F32
            data = quants.quantize(values, kind)
            # The only name without an ending.
            name = f"{name}.weight" if name.endswith(".sinks") else name
            writer.add_tensor(names.get_name(name, (".weight", ".bias")), data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    model, kind, file = Path(sys.argv[1]), Format[sys.argv[2]], Path(sys.argv[3])
    if file.exists():
        return
    mx.set_default_device(mx.cpu)
    partial = file.with_suffix(".partial")
    write(model, kind, partial)
    partial.rename(file)


if __name__ == "__main__":
    main()
