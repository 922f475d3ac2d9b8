from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from redraft.lm.lora import one_step


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 20, bias=False)
        self.second = nn.Linear(20, 8, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x)))


def adapted(**options: Any) -> Any:
    torch.manual_seed(0)
    shape = LoraConfig(r=4, lora_alpha=10, target_modules=["first", "second"], init_lora_weights=False, **options)
    return get_peft_model(Two(), shape)  # pyright: ignore[reportArgumentType]


def bfloat16() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


def in_one_step(out: torch.Tensor) -> bool:
    return "LoraLinear" in type(out.grad_fn).__name__


def gradients(out: torch.Tensor, model: Any, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The output, and the gradients of a sum over it, in x, A and B of two layers."""
    parts = {"x": x, **{name: part for name, part in model.named_parameters() if part.requires_grad}}
    found = torch.autograd.grad(out.float().square().sum(), list(parts.values()))
    return {"out": out.detach().float(), **dict(zip(parts, found, strict=True))}


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("shape", [(3, 12), (2, 5, 12)])
def test_outputs_and_gradients_are_those_of_float32(shape: tuple[int, ...], inside: bool) -> None:
    model, x = adapted(), torch.randn(shape).requires_grad_()
    exact = gradients(model(x), model, x)
    with bfloat16():
        peft = model(x)
    assert not in_one_step(peft)
    with one_step(model):
        if inside:  # as Accelerate has it
            out = bfloat16()(model.forward)(x)
        else:
            with bfloat16():
                out = model(x)
    assert in_one_step(out)
    assert out.dtype == peft.dtype == torch.bfloat16
    theirs, found = gradients(peft, model, x), gradients(out, model, x)
    assert len(found) == 6
    for name, expected in exact.items():
        assert found[name].dtype == theirs[name].dtype == expected.dtype, name
        assert (found[name] - expected).norm() / expected.norm() < 0.02, name


def test_a_step_sees_what_was_learnt() -> None:
    model, x = adapted(), torch.randn(3, 12)
    with one_step(model), bfloat16():
        before = model(x)
        with torch.no_grad():
            for name, part in model.named_parameters():
                if "lora_B" in name:
                    part.mul_(2)
        after = model(x)
    assert (after - model(x)).norm() / after.norm() < 0.02
    assert (after - before).norm() / after.norm() > 0.2


def test_float32_stays_pefts() -> None:
    model, x = adapted(), torch.randn(3, 12)
    with one_step(model):
        out = model(x)
    assert not in_one_step(out)
    assert torch.equal(out, model(x))


@pytest.mark.parametrize("options", [{"lora_dropout": 0.5}, {"use_dora": True}])
def test_layers_with_more_than_a_and_b_are_left_alone(options: dict[str, Any]) -> None:
    model = adapted(**options)
    with one_step(model), bfloat16():
        assert not in_one_step(model(torch.randn(3, 12)))


def test_the_layers_are_pefts_again_afterwards() -> None:
    model, x = adapted(), torch.randn(3, 12)
    with pytest.raises(ValueError, match="halfway"), one_step(model):
        raise ValueError("halfway")
    with bfloat16():
        assert not in_one_step(model(x))


@pytest.mark.parametrize("outside", [True, False])
def test_an_adapter_that_is_off_stays_off(outside: bool) -> None:
    model, x = adapted(), torch.randn(3, 12)
    entered: list[Callable[[], Any]] = [model.disable_adapter, lambda: one_step(model)]
    with bfloat16():
        with model.disable_adapter():
            expected = model(x)
        with ExitStack() as stack:
            for enter in entered if outside else entered[::-1]:
                stack.enter_context(enter())
            off = model(x)
        assert torch.equal(off, expected)
        assert not torch.equal(off, model(x))
