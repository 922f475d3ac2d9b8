"""How a model reads two responses to one prompt: in one packed sequence, or each in a sequence of its own.

``redraft.lm.probe`` finds out which way is right for a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["LAYERED", "PACKED", "PLAIN", "TWO_PASSES", "WINDOWED", "Reading", "visible"]

PACKED, WINDOWED, LAYERED, TWO_PASSES = "packed", "packed, windowed", "packed, windowed by layer", "two passes"


@dataclass(frozen=True, slots=True)
class Reading:
    """``way`` is one of the four above; ``window`` the tokens that a windowed layer sees, itself included.

    ``additive``: masks are numbers to add instead of truth values.
    """

    way: str = PACKED
    window: int = 0
    chunk: int = 0
    additive: bool = False

    def mask(self, visible: torch.Tensor, positions: torch.Tensor, dtype: torch.dtype) -> Any:
        """What the model takes as its mask, from ``visible`` [B, 1, L, L] and the positions [B, L]."""
        if self.way == PACKED:
            return self._formed(visible, dtype)
        back = positions[:, None, :, None] - positions[:, None, None, :]
        near = self._formed(visible & (back < self.window), dtype)
        if self.way == WINDOWED:
            return near
        places = positions // max(self.chunk, 1)
        same = visible & (places[:, None, :, None] == places[:, None, None, :])
        whole, chunked = self._formed(visible, dtype), self._formed(same, dtype)
        return {"full_attention": whole, "sliding_attention": near, "chunked_attention": chunked}

    def _formed(self, visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        if not self.additive:
            return visible
        return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(
            ~visible, torch.finfo(dtype).min
        )


PLAIN = Reading()


def visible(segment: torch.Tensor) -> torch.Tensor:
    """[B, 1, L, L]: column j is visible to i when it is not later and holds x or a part of i's own response."""
    query, key = segment[:, :, None], segment[:, None, :]
    causal = torch.ones(segment.shape[1], segment.shape[1], dtype=torch.bool, device=segment.device).tril()
    seen = causal & (key > 0) & ((key == 1) | (key == query))
    # A padding row that sees nothing would be 0/0 in the softmax; its output is used nowhere.
    return (seen | torch.eye(segment.shape[1], dtype=torch.bool, device=segment.device))[:, None]
