"""LoRA layers in one step: W x + s B A x and its gradients, with the sums and the scaling inside the products.

PEFT computes the two parts, scales and adds them, forwards and backwards. These passes over memory, none of which the
mathematics needs, were 8 % of SmolLM2's training step on two cores (results/LOG.md). ``lean_lora`` swaps in the
same function with fewer of them for as long as it is entered; parameters, adapters and files stay PEFT's. Left out:
whatever such a layer may have beside A and B (dropout, DoRA, biases, several adapters at once), and autocast; there
PEFT's path stays.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

__all__ = ["lean_lora"]


@contextmanager
def lean_lora(model: nn.Module) -> Generator[None]:
    """Within it, plain LoRA layers of a PEFT model run forwards in one step; gradients may be asked for later."""
    layers = [layer for layer in model.modules() if _plain(layer)]
    for layer in layers:
        layer.forward = partial(_forward, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _plain(layer: Any) -> bool:
    """Whether a module is a LoRA layer with one active adapter and nothing beside A and B, in float32 on a CPU."""
    from peft.tuners.lora import Linear

    if not isinstance(layer, Linear) or layer.merged or layer.disable_adapters or len(layer.active_adapters) != 1:
        return False
    (name,) = layer.active_adapters
    if name not in layer.lora_A or name in layer.lora_variant or not isinstance(layer.lora_dropout[name], nn.Identity):
        return False
    return all(map(_bare, (layer.get_base_layer(), layer.lora_A[name], layer.lora_B[name])))


def _bare(part: Any) -> bool:
    bias = getattr(part, "bias", None)
    return type(part) is nn.Linear and bias is None and part.weight.dtype == torch.float32 and part.weight.is_cpu


def _forward(layer: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    if torch.is_autocast_enabled("cpu"):  # asked here: Accelerate enters it inside the model's forward call
        return type(layer).forward(layer, x, *args, **kwargs)
    (name,) = layer.active_adapters
    base, down, up = layer.get_base_layer(), layer.lora_A[name], layer.lora_B[name]
    return _LoraLinear.apply(x, base.weight, down.weight, up.weight * layer.scaling[name])


class _LoraLinear(torch.autograd.Function):
    """x [..., d] → W x + B A x [..., k], for W [k, d] that is frozen, A [r, d] and B [k, r]."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        rows = x.flatten(0, -2)
        low = rows @ down.T
        out = (rows @ weight.T).addmm_(low, up.T)
        ctx.save_for_backward(rows, low, weight, down, up)
        ctx.shape = x.shape
        return out.unflatten(0, x.shape[:-1])

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, low, weight, down, up = ctx.saved_tensors
        gradient = outer[0].flatten(0, -2)
        low_gradient = gradient @ up
        x_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = (gradient @ weight).addmm_(low_gradient, down).view(ctx.shape)
        return x_gradient, None, low_gradient.T @ rows, gradient.T @ low
