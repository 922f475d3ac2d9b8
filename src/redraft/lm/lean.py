"""A forward pass of our own for models of Llama's kind: what a token costs is the reading of weights.

RMSNorm, rotary positions, grouped-query attention and a gated MLP, as in Llama, Qwen2 and Mistral without a window.
Layers that read the same input are one product, weights lie as oneDNN reads them fastest, and keys and values are
written into one tensor with room. Rows of different LoRA adapters, and of none, share a batch: the base product is of
all rows, the low-rank part of an adapter's own. A copy takes as much memory as the weights (SmolLM2: 540 MB, 270 in
bfloat16) and is dropped with its model. On a GPU it computes as the model does, or in bfloat16. Left out: models over
several devices, training, windows, adapters other than plain LoRA. Whether it computes what a model does is for
``redraft.lm.rows`` to prove.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from redraft.lm.packed import linear, mark

__all__ = ["Groups", "Lean", "LowRank", "current_adapter", "low_rank", "state_of", "suits"]

_KINDS = ("llama", "mistral", "qwen2")
_FEW = 16  # rows below which narrow products in bfloat16 take four times as long as in float32
LowRank = Sequence[tuple[torch.Tensor, torch.Tensor] | None]
"""For each product of a model what an adapter adds to it: [in, R] and [R, out], in float32 as PEFT keeps them."""
Groups = Sequence[tuple[LowRank, int, int]]
"""Adapters with the rows, from and to, that are theirs; all others are the base model's."""


def suits(model: Any) -> bool:
    """Whether a model is of this kind, frozen or not, and its layers are plain ones or LoRA over them."""
    config: Any = getattr(model, "config", None)
    if getattr(config, "model_type", None) not in _KINDS or config.hidden_act != "silu":
        return False
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()) or getattr(config, "sliding_window", None):
        return False
    tensors = [*model.parameters(), *model.buffers()]
    if {t.device for t in tensors} != {model.device} or model.device.type not in ("cpu", "cuda"):
        return False
    if model.device.type == "cpu" and not all(t.dtype == torch.float32 for t in tensors):
        return False
    plain = all(type(_base(layer)) is nn.Linear for parts in _parts(model) for layer in parts)
    return plain and type(model.get_input_embeddings()) is nn.Embedding


def current_adapter(model: Any) -> str | None:
    """The one LoRA adapter that a model computes with now; raises ``ValueError`` where they are several or merged."""
    layers = [layer for parts in _parts(model) for layer in parts if hasattr(layer, "lora_A")]
    if any(layer.merged for layer in layers):
        raise ValueError("merged")
    active = {name for layer in layers if not layer.disable_adapters for name in layer.active_adapters}
    if len(active) > 1:
        raise ValueError("several adapters")
    return next(iter(active), None)


def state_of(model: Any, key: str | None = None) -> tuple[Any, ...]:
    """What differs when the base weights have changed, or those of an adapter."""
    parts = ("",) if key is None else (f".lora_A.{key}.", f".lora_B.{key}.")
    named = [(name, p) for name, p in model.named_parameters() if (".lora_" in name) == (key is not None)]
    return tuple(mark(p) for name, p in named if any(part in name for part in parts))


def low_rank(model: Any, key: str) -> LowRank:
    """An adapter's part of each product; raises ``ValueError`` for what is no plain LoRA."""
    found: list[tuple[torch.Tensor, torch.Tensor] | None] = []
    for layers in _parts(model):
        downs, ups = [], []
        for layer in layers:
            ours = key in getattr(layer, "lora_A", ())
            if ours and (key in layer.lora_variant or layer.lora_bias.get(key)):
                raise ValueError("not plain LoRA")
            weight = _base(layer).weight
            downs.append(layer.lora_A[key].weight if ours else weight[:0])
            ups.append(layer.lora_B[key].weight * layer.scaling[key] if ours else weight[:, :0])
        down, up = torch.cat(downs).detach(), torch.block_diag(*ups).detach()
        found.append((down.T.contiguous(), up.T.contiguous()) if len(down) else None)
    return found


class Lean:
    """The weights of a model that ``suits``, in a precision of their own."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        body, config, attention = model.model, model.config, model.model.layers[0].self_attn
        norms = [norm for layer in body.layers for norm in (layer.input_layernorm, layer.post_attention_layernorm)]
        self.dtype, self.device = dtype, model.device
        self._depth, self._epsilon = len(body.layers), config.rms_norm_eps
        self._heads, self._shared, self._width = (
            config.num_attention_heads,
            config.num_key_value_heads,
            attention.head_dim,
        )
        self._scale, self._rotary = attention.scaling, body.rotary_emb
        self._embedding = body.embed_tokens.weight.detach().to(dtype)
        self._norms = [norm.weight.detach().to(dtype) for norm in (*norms, body.norm)]
        self._products = [linear(*_fused(layers, dtype)) for layers in _parts(model)]

    def room(self, rows: int, columns: int) -> torch.Tensor:
        """Keys and values [layers, 2, rows, heads, columns, D]: zeros, since what is masked is multiplied too."""
        shape = self._depth, 2, rows, self._shared, columns, self._width
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def hidden(
        self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, cache: torch.Tensor, groups: Groups
    ) -> torch.Tensor:
        """Read ids [B, T] into the last T columns of ``cache`` [layers, 2, B, heads, C, D]; the last states [B, E].

        ``mask`` [B, 1, T or 1, C] is added to the scores.
        """
        (rows, length), heads, shared = ids.shape, self._heads, self._shared
        spans = [(adapter, start * length, end * length) for adapter, start, end in groups]
        x = self._embedding[ids].flatten(0, 1)
        cos, sin = (each.reshape(-1, 1, self._width) for each in self._rotary(x, positions))
        if length > 1:
            mask = mask.repeat(1, 1, heads // shared, 1)
        for layer, (keys, values) in enumerate(each.unbind() for each in cache.unbind()):
            states = self._product(4 * layer, self._normed(2 * layer, x), spans).view(rows * length, -1, self._width)
            turned = states[:, : heads + shared]
            low, high = turned.chunk(2, -1)
            turned = turned * cos + torch.cat((-high, low), -1) * sin
            for room, new in ((keys, turned[:, heads:]), (values, states[:, heads + shared :])):
                room[:, :, -length:] = new.reshape(rows, length, shared, -1).transpose(1, 2)
            # Queries that share keys are one matrix: nothing is repeated.
            asked = turned[:, :heads].reshape(rows, length, shared, -1, self._width).permute(0, 2, 3, 1, 4)
            seen = F.scaled_dot_product_attention(
                asked.reshape(rows, shared, -1, self._width), keys, values, attn_mask=mask, scale=self._scale
            )
            seen = seen.view(rows, shared, -1, length, self._width).permute(0, 3, 1, 2, 4).reshape(rows * length, -1)
            x = x + self._product(4 * layer + 1, seen, spans)
            gate, up = self._product(4 * layer + 2, self._normed(2 * layer + 1, x), spans).chunk(2, -1)
            x = x + self._product(4 * layer + 3, F.silu(gate) * up, spans)
        return x.view(rows, length, -1)[:, -1]

    def logits(self, hidden: torch.Tensor, groups: Groups) -> torch.Tensor:
        """Of the next token [B, V], from last states [B, E]."""
        return self._product(-1, self._normed(-1, hidden), groups).float()

    def _normed(self, number: int, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, (x.shape[-1],), self._norms[number], self._epsilon)

    def _product(self, number: int, x: torch.Tensor, spans: Groups) -> torch.Tensor:
        y = self._products[number](x)
        for adapter, start, end in spans:
            if (part := adapter[number]) is None:
                continue
            down, up = part
            if end - start < _FEW:
                y[start:end].add_((x[start:end].float() @ down) @ up)
            else:
                y[start:end].addmm_(x[start:end] @ down.to(x.dtype), up.to(x.dtype))
        return y


def _parts(model: Any) -> Iterator[list[Any]]:
    """The linear layers, those that read the same input together; the head last."""
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        yield [attention.q_proj, attention.k_proj, attention.v_proj]
        yield [attention.o_proj]
        yield [mlp.gate_proj, mlp.up_proj]
        yield [mlp.down_proj]
    yield [model.lm_head]


def _base(layer: Any) -> Any:
    """The layer under LoRA's, whose adapters are modules of their own."""
    return layer.base_layer if type(getattr(layer, "lora_A", None)) is nn.ModuleDict else layer


def _fused(layers: Sequence[Any], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | None]:
    plain = [_base(layer) for layer in layers]
    weight = torch.cat([layer.weight.detach() for layer in plain]).to(dtype)
    if all(layer.bias is None for layer in plain):
        return weight, None
    biases = [layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias for layer in plain]
    return weight, torch.cat(biases).detach().to(dtype)
