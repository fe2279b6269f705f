"""A small Llama whose numbers match Hugging Face's and mlx-lm's.

Parameters carry Hugging Face's names, so the state dict can be exported as it
is. Activations are in bfloat16 from the embedding to the logits, as they are
when the exported model runs.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from quantise import fake_quantise


@dataclass(frozen=True)
class Shape:
    """Sizes; every input of a matrix is a multiple of the quantisation group."""

    vocab_size: int = 1024
    hidden_size: int = 256
    intermediate_size: int = 704
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    max_position_embeddings: int = 1024
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0


class Matrix(nn.Module):
    """A weight without bias that is fake-quantised on request."""

    def __init__(self, outputs: int, inputs: int, std: float):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * std)

    def value(self, four_bit: bool) -> torch.Tensor:
        weight = fake_quantise(self.weight) if four_bit else self.weight
        return weight.bfloat16()

    def forward(self, x: torch.Tensor, four_bit: bool) -> torch.Tensor:
        return F.linear(x, self.value(four_bit))


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps).to(x.dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding over the two halves of a head, not over neighbours."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, shape: Shape, std: float, out_std: float):
        super().__init__()
        self.heads, self.kv_heads = shape.num_attention_heads, shape.num_key_value_heads
        self.head_dim = shape.head_dim
        inner, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        self.q_proj = Matrix(inner, shape.hidden_size, std)
        self.k_proj = Matrix(kv, shape.hidden_size, std)
        self.v_proj = Matrix(kv, shape.hidden_size, std)
        self.o_proj = Matrix(shape.hidden_size, inner, out_std)

    def forward(self, x, cos, sin, mask, four_bit):
        batch, length, _ = x.shape

        def heads(projected, count):
            return projected.view(batch, length, count, self.head_dim).transpose(1, 2)

        q = rotate(heads(self.q_proj(x, four_bit), self.heads), cos, sin)
        k = rotate(heads(self.k_proj(x, four_bit), self.kv_heads), cos, sin)
        v = heads(self.v_proj(x, four_bit), self.kv_heads)
        # Query heads 0 and 1 share key-value head 0, heads 2 and 3 head 1.
        k, v = (t.repeat_interleave(self.heads // self.kv_heads, dim=1) for t in (k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1), four_bit)


class MLP(nn.Module):
    def __init__(self, shape: Shape, std: float, out_std: float):
        super().__init__()
        self.gate_proj = Matrix(shape.intermediate_size, shape.hidden_size, std)
        self.up_proj = Matrix(shape.intermediate_size, shape.hidden_size, std)
        self.down_proj = Matrix(shape.hidden_size, shape.intermediate_size, out_std)

    def forward(self, x, four_bit):
        gated = F.silu(self.gate_proj(x, four_bit)) * self.up_proj(x, four_bit)
        return self.down_proj(gated, four_bit)


class Layer(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        std = 0.02
        # Two additions to the residual a layer; their sum is to keep its size.
        out_std = std / (2 * shape.num_hidden_layers) ** 0.5
        self.self_attn = Attention(shape, std, out_std)
        self.mlp = MLP(shape, std, out_std)
        self.input_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)

    def forward(self, x, cos, sin, mask, four_bit):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask, four_bit)
        return x + self.mlp(self.post_attention_layernorm(x), four_bit)


class Body(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.embed_tokens = Matrix(shape.vocab_size, shape.hidden_size, 0.02)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)


class Llama(nn.Module):
    def __init__(self, shape: Shape = Shape()):
        super().__init__()
        self.shape = shape
        self.model = Body(shape)
        half = torch.arange(0, shape.head_dim, 2, dtype=torch.float64) / shape.head_dim
        angles = torch.outer(
            torch.arange(shape.max_position_embeddings, dtype=torch.float64),
            shape.rope_theta**-half,
        )
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, four_bit: bool) -> torch.Tensor:
        """Logits for a batch; `mask` is added to the attention scores."""
        length = ids.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        # The embedding is the output matrix too, so it is quantised once for both.
        embedding = self.model.embed_tokens.value(four_bit)
        x = F.embedding(ids, embedding)
        for layer in self.model.layers:
            x = layer(x, cos, sin, mask, four_bit)
        return F.linear(self.model.norm(x), embedding)
