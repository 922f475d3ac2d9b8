"""Weights as oneDNN reads them fastest, and keys and values that grow in place: what each step of an answer reads.

A step reads all weights for a few rows, so their layout decides its time. Torch's operators for it are not public:
they are tried on a small product first, and where they are missing or err the plain ones go on. A packed copy takes
as much memory as the weights (half a gigabyte of SmolLM2's), and lasts as long as its layer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers.cache_utils import DynamicCache, DynamicLayer

__all__ = ["packed", "with_room"]

_Forward = Callable[[torch.Tensor], torch.Tensor]
_KNOWN: WeakKeyDictionary[nn.Linear, tuple[tuple[int, int, torch.dtype], torch.Tensor]] = WeakKeyDictionary()


@contextmanager
def packed(model: nn.Module) -> Generator[None]:
    """Within it, the frozen linear layers of a model on the CPU use packed weights; nothing can be differentiated."""
    layers = [layer for layer in model.modules() if type(layer) is nn.Linear and _suits(layer)]
    for layer in layers:
        layer.forward = _forward(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _suits(layer: nn.Linear) -> bool:
    weight = layer.weight
    return weight.device.type == "cpu" and not weight.requires_grad and _works(weight.dtype)


@cache
def _works(dtype: torch.dtype) -> bool:
    """Whether the operators are there and right, on a small product."""
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(shape, generator=generator).to(dtype) for shape in ((24, 16), (3, 5, 16)))
    layer = nn.Linear(16, 24, dtype=dtype).requires_grad_(False)
    layer.weight.copy_(weight)
    try:
        found = _product(x, _pack(layer.weight), layer.bias)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.allclose(found, nn.functional.linear(x, layer.weight, layer.bias), rtol=1e-2, atol=1e-2)


def _forward(layer: nn.Linear) -> _Forward:
    weight, bias = layer.weight, layer.bias
    state = weight._version, weight.data_ptr(), weight.dtype
    known = _KNOWN.get(layer)
    if known is None or known[0] != state:
        known = _KNOWN[layer] = state, _pack(weight)
    copy = known[1]
    return lambda x: _product(x, copy, bias)


def _pack(weight: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)


def _product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def with_room(read: Any, tokens: int) -> Any:
    """A cache of keys and values with room for as many further tokens; one of another kind as it is."""
    if type(read) is DynamicCache:
        read.layers = [_Roomy(layer, tokens) if type(layer) is DynamicLayer else layer for layer in read.layers]
    return read


class _Roomy(DynamicLayer):
    """Keys and values [B, H, T, D] at the start of longer tensors, so that a token is written and nothing copied."""

    def __init__(self, layer: DynamicLayer, tokens: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = layer.dtype, layer.device, layer.is_initialized
        self.keys, self.values = layer.keys, layer.values
        self._tokens = tokens
        self._room: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Write what comes next and return all there is, as ``DynamicLayer`` does."""
        before = self.keys.shape[-2]
        end = before + key_states.shape[-2]
        if self._room is None or self._room[0].shape[-2] < end:
            self._room = self._made(self.keys, end), self._made(self.values, end)
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, before:end] = new
        self.keys, self.values = (room[:, :, :end] for room in self._room)
        return self.keys, self.values

    def _made(self, states: torch.Tensor, end: int) -> torch.Tensor:
        room = states.new_empty(*states.shape[:2], end + self._tokens, states.shape[3])
        room[:, :, : states.shape[2]] = states
        return room

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Keep these rows: their room is made anew with the next token."""
        super().reorder_cache(beam_idx)
        self._room = None
