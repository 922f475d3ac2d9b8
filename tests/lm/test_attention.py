from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from redraft.lm.attention import shared_heads
from redraft.lm.reading import visible

HEADS, GROUPS, LENGTH = 6, 2, 7
PLAIN = functional.scaled_dot_product_attention
SEGMENT = torch.tensor([[1, 1, 1, 2, 2, 3, 3], [0, 0, 1, 1, 2, 2, 3]])  # x, y' and y; padding


def given(value_width: int = 8) -> list[torch.Tensor]:
    """Q, K and V laid out as a model's projections leave them: [B, L, H, D], seen as [B, H, L, D]."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((HEADS, 8), (GROUPS, 8), (GROUPS, value_width))
    parts = (torch.randn(2, LENGTH, *shape, generator=generator) for shape in shapes)
    return [part.bfloat16().float().transpose(1, 2).requires_grad_() for part in parts]


def attended(parts: list[torch.Tensor], mask: Any, **more: Any) -> torch.Tensor:
    """[B, L, H, D], by what models call "sdpa"."""
    module: Any = SimpleNamespace(num_key_value_groups=HEADS // GROUPS, is_causal=True)
    return ALL_ATTENTION_FUNCTIONS["sdpa"](module, *parts, mask, **more)[0]


def with_gradients(out: torch.Tensor, parts: list[torch.Tensor]) -> list[torch.Tensor]:
    seen = (SEGMENT > 0)[..., None, None]  # what padding gives is used nowhere
    return [out.detach() * seen, *torch.autograd.grad((out.float().sin() * seen).sum(), parts)]


@pytest.fixture
def torchs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each call of torch's own attention."""
    calls: list[int] = []

    def counted(*args: Any, **more: Any) -> torch.Tensor:
        calls.append(1)
        return PLAIN(*args, **more)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", counted)
    return calls


@pytest.mark.parametrize("scaling", [None, 0.5])
@pytest.mark.parametrize("width", [8, 4])
def test_outputs_and_gradients_are_those_of_float32(width: int, scaling: float | None, torchs: list[int]) -> None:
    parts, mask = given(width), visible(SEGMENT)
    exact = with_gradients(attended(parts, mask, scaling=scaling), parts)
    assert len(torchs) == 1
    with torch.autocast("cpu", torch.bfloat16), shared_heads():
        out = attended(parts, mask, scaling=scaling)
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous()
    found = with_gradients(out, parts)
    assert len(torchs) == 1
    for one, other in zip(found, exact, strict=True):
        assert one.shape == other.shape
        assert (one - other).norm() / other.norm() < 0.01


def test_padding_that_sees_nothing_gives_numbers() -> None:
    parts, mask = given(), visible(SEGMENT)
    mask[1, :, 0] = False
    with torch.autocast("cpu", torch.bfloat16), shared_heads():
        found = with_gradients(attended(parts, mask), parts)
    assert all(one.isfinite().all() for one in found)


@pytest.mark.parametrize("case", ["float32", "no mask", "numbers", "dropout", "a bias", "afterwards"])
def test_all_else_is_torchs(case: str, torchs: list[int]) -> None:
    parts, mask, more = given(), visible(SEGMENT), dict[str, Any]()
    told = {
        "no mask": (None, {}),
        "numbers": (torch.zeros(mask.shape, dtype=torch.bfloat16), {}),
        "dropout": (mask, {"dropout": 0.5}),
        "a bias": (mask, {"position_bias": torch.zeros(1, HEADS, LENGTH, LENGTH, dtype=torch.bfloat16)}),
    }
    mask, more = told.get(case, (mask, more))
    with torch.autocast("cpu", torch.bfloat16, enabled=case != "float32"):
        with shared_heads():
            if case != "afterwards":
                attended(parts, mask, **more)
        if case == "afterwards":
            attended(parts, mask)
    assert len(torchs) == 1
