"""LoRA layers in one step, under bfloat16's autocast on a CPU: W x + s B A x and its gradients, as PEFT finds them.

PEFT computes both parts, scales and adds them, and autocast converts W, A, B and x for each anew, forwards and
backwards. These passes over memory took a fifth of SmolLM2's training step on two cores with AMX (results/LOG.md).
Within ``one_step`` a layer makes the same products with the sums and the scaling inside them, from one copy of W;
parameters, adapters and files stay PEFT's. Left out: whatever such a layer may have beside A and B (dropout, DoRA,
biases, several adapters at once), and float32, where the products take so long that nothing is gained.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

__all__ = ["one_step"]


@contextmanager
def one_step(model: nn.Module) -> Generator[None]:
    """Within it, plain LoRA layers of a PEFT model run in one step wherever autocast asks a CPU for bfloat16.

    Takes as much memory as the frozen weights do in bfloat16, from the first such step to the end.
    """
    layers = [layer for layer in model.modules() if _plain(layer)]
    for layer in layers:
        vars(layer)["forward"] = partial(_forward, layer, [])
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


def _forward(layer: Any, copies: list[torch.Tensor], x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    if not autocast or layer.disable_adapters:  # asked here: Accelerate enters autocast inside the model's forward call
        return type(layer).forward(layer, x, *args, **kwargs)
    (name,) = layer.active_adapters
    if not copies:
        copies.append(layer.get_base_layer().weight.detach().bfloat16())
    down, up = layer.lora_A[name].weight, layer.lora_B[name].weight * layer.scaling[name]
    return _LoraLinear.apply(x, copies[0], down, up)


class _LoraLinear(torch.autograd.Function):
    """x [..., d] → W x + B A x [..., k] in W's precision, for W [k, d] that is frozen, A [r, d] and B [k, r]."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        rows = x.flatten(0, -2).to(weight.dtype)
        down, up = down.to(weight.dtype), up.to(weight.dtype)
        low = rows @ down.T
        ctx.save_for_backward(rows, low, weight, down, up)
        ctx.shape, ctx.dtype = x.shape, x.dtype
        return (rows @ weight.T).addmm_(low, up.T).unflatten(0, x.shape[:-1])

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, low, weight, down, up = ctx.saved_tensors
        gradient = outer[0].flatten(0, -2).to(weight.dtype)
        low_gradient = gradient @ up
        x_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = (gradient @ weight).addmm_(low_gradient, down).view(ctx.shape).to(ctx.dtype)
        return x_gradient, None, (low_gradient.T @ rows).float(), (gradient.T @ low).float()
