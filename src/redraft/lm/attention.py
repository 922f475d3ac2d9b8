"""Attention to train with on short texts, in bfloat16 on a CPU, where torch's own wastes most of its time.

Its fused kernel is slow backwards, and its plain one multiplies in float32, head by head, with keys and values copied
for each head that shares them: a quarter of SmolLM2's training step on two cores with AMX (results/LOG.md). Here the
heads that share keys are one product. Scores and softmax are in float32, all other products in bfloat16, as the fused
kernel has it. Left out: dropout, and whatever has no mask of truth values.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

__all__ = ["shared_heads"]


@contextmanager
def shared_heads() -> Generator[None]:
    """Within it, models that attend by "sdpa" do so as this module says, wherever autocast asks a CPU for bfloat16."""
    plain = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def attend(
        module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **more: Any
    ) -> tuple[torch.Tensor, None]:
        if not _suits(query, mask, more):
            return plain(module, query, key, value, mask, **more)
        scale = more.get("scaling")
        scaled = query * (query.shape[-1] ** -0.5 if scale is None else scale)
        attended = _Attention.apply(scaled, key, value, mask)
        return attended.transpose(1, 2).contiguous(), None

    ALL_ATTENTION_FUNCTIONS["sdpa"] = attend
    try:
        yield
    finally:
        del ALL_ATTENTION_FUNCTIONS["sdpa"]


def _suits(query: torch.Tensor, mask: Any, more: dict[str, Any]) -> bool:
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    masked = isinstance(mask, torch.Tensor) and mask.dtype == torch.bool and mask.dim() == 4 and mask.shape[1] == 1
    return query.is_cpu and autocast and masked and not more.get("dropout") and more.get("position_bias") is None


class _Attention(torch.autograd.Function):
    """softmax(Q Kᵀ) V [B, H, L, D] for Q [B, H, L, D], K and V [B, G, L, D], H a multiple of G, mask [B, 1, L, L]."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        (batch, heads, length, _), groups = query.shape, key.shape[1]
        q, k, v = _rows(query, groups), _rows(key, groups), _rows(value, groups)
        with torch.autocast("cpu", enabled=False):
            scores = torch.bmm(q.float(), k.float().mT)
            shared = scores.view(batch, groups, heads // groups, length, length)
            shared.masked_fill_(~mask[:, :, None], torch.finfo(torch.float32).min)  # padding may see nothing: no 0/0
            weights = scores.softmax(2).bfloat16()
        ctx.save_for_backward(q, k, v, weights)
        ctx.given = [(part.shape, part.dtype) for part in (query, key, value)]
        return torch.bmm(weights, v).view(batch, heads, length, -1)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, weights = ctx.saved_tensors
        gradient = _rows(outer[0], len(q) // len(outer[0]))
        inner = torch.bmm(gradient, v.mT)
        scores = torch.ops.aten._softmax_backward_data(inner, weights, 2, torch.bfloat16)
        found = torch.bmm(scores, k), torch.bmm(scores.mT, q), torch.bmm(weights.mT, gradient)
        return *(g.view(shape).to(dtype) for g, (shape, dtype) in zip(found, ctx.given, strict=True)), None


def _rows(part: torch.Tensor, groups: int) -> torch.Tensor:
    """[B, H, L, D] → [B G, H / G L, D]: what reads the same keys stands together."""
    batch, heads, length, width = part.shape
    return part.bfloat16().reshape(batch * groups, heads // groups * length, width)
