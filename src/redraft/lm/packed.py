"""Weights as oneDNN reads them fastest: a step of an answer reads all of them for a few rows.

Torch's operators for it are not public: they are tried on a small product first, and where they are missing or err the
plain ones go on. A packed copy takes as much memory as the weights, and lasts as long as its layer; none is made that
would take more than half of what is free. Models of Llama's kind have copies of their own (``redraft.lm.lean``).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

__all__ = ["fits", "linear", "mark", "packed", "works"]

_Linear = Callable[[torch.Tensor], torch.Tensor]
_KNOWN: WeakKeyDictionary[nn.Linear, tuple[Any, _Linear]] = WeakKeyDictionary()


@contextmanager
def packed(model: nn.Module) -> Generator[None]:
    """Within it, the frozen linear layers of a model on the CPU use packed weights; nothing can be differentiated."""
    layers = [layer for layer in model.modules() if type(layer) is nn.Linear and _suits(layer)]
    if not fits(layer.weight for layer in layers if layer not in _KNOWN):
        layers = []
    for layer in layers:
        vars(layer)["forward"] = _forward(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def fits(weights: Iterable[torch.Tensor]) -> bool:
    """Whether a copy of weights takes at most half of the memory that is free, as far as the system tells."""
    kept = [*weights]
    if kept and kept[0].is_cuda:
        return sum(weight.nbytes for weight in kept) <= torch.cuda.mem_get_info(kept[0].device)[0] / 2
    try:
        told = dict(line.split(":") for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        free = 1024 * int(told["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):  # not Linux
        return True
    return sum(weight.nbytes for weight in kept) <= free / 2


def linear(weight: torch.Tensor, bias: torch.Tensor | None) -> _Linear:
    """The product of rows [N, in] with a packed copy of ``weight`` [out, in]; on a GPU with the weight as it is."""
    if weight.device.type != "cpu":
        return lambda x: nn.functional.linear(x, weight, bias)
    copy = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
    product = torch.ops.mkldnn._linear_pointwise
    return lambda x: product(x, copy, bias, "none", [], "")


def mark(weight: torch.Tensor) -> tuple[int, int, float]:
    """What differs when a weight has changed. PEFT merges by way of ``.data``, which no version counts."""
    return weight._version, weight.data_ptr(), float(weight.detach().flatten()[-1])


@cache
def works(dtype: torch.dtype) -> bool:
    """Whether the operators are there and right, on a small product."""
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(shape, generator=generator).to(dtype) for shape in ((24, 16), (15, 16)))
    try:
        found = linear(weight, weight[:, 0].contiguous())(x)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.allclose(found, nn.functional.linear(x, weight, weight[:, 0]), rtol=1e-2, atol=1e-2)


def _suits(layer: nn.Linear) -> bool:
    weight = layer.weight
    return weight.device.type == "cpu" and not weight.requires_grad and works(weight.dtype)


def _forward(layer: Any) -> _Linear:
    state = mark(layer.weight), layer.weight.dtype, None if layer.bias is None else mark(layer.bias)
    known = _KNOWN.get(layer)
    if known is None or known[0] != state:
        known = _KNOWN[layer] = state, linear(layer.weight, layer.bias)
    plain, product, dtype = partial(nn.Linear.forward, layer), known[1], layer.weight.dtype
    return lambda x: product(x) if x.dtype == dtype and not torch.is_autocast_enabled("cpu") else plain(x)
