from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from redraft.lm.lora import lean_lora


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


def gradients(model: Any, x: torch.Tensor, *, lean: bool) -> dict[str, torch.Tensor]:
    model.zero_grad()
    x = x.clone().requires_grad_()
    if lean:
        with lean_lora(model):
            out = model(x)
    else:
        out = model(x)
    out.square().sum().backward()
    assert x.grad is not None
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {"out": out.detach(), "x": x.grad, **found}


@pytest.mark.parametrize("shape", [(3, 12), (2, 5, 12)])
def test_outputs_and_gradients_are_pefts(shape: tuple[int, ...]):
    model, x = adapted(), torch.randn(shape)
    plain, lean = gradients(model, x, lean=False), gradients(model, x, lean=True)
    assert len(plain) == 6  # the output, x, and A and B of two layers
    assert plain.keys() == lean.keys()
    for name, expected in plain.items():
        torch.testing.assert_close(lean[name], expected, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("inside", [True, False])
def test_under_autocast_layers_are_pefts(inside: bool):
    model, x = adapted(), torch.randn(3, 12)
    cast = torch.autocast("cpu", torch.bfloat16)
    with cast:
        plain = gradients(model, x, lean=False)
    if inside:  # as Accelerate has it
        model.forward = cast(model.forward)
        lean = gradients(model, x, lean=True)
    else:
        with cast:
            lean = gradients(model, x, lean=True)
    assert plain["out"].dtype == torch.bfloat16
    for name, expected in plain.items():
        torch.testing.assert_close(lean[name], expected, rtol=0, atol=0, msg=name)


def test_the_layers_are_pefts_again_afterwards():
    model = adapted()
    before = [layer.forward for layer in model.modules()]
    with lean_lora(model):
        assert sum(layer.forward != old for layer, old in zip(model.modules(), before, strict=True)) == 2
    assert [layer.forward for layer in model.modules()] == before


@pytest.mark.parametrize("options", [{"lora_dropout": 0.5}, {"use_dora": True}])
def test_layers_with_more_than_a_and_b_are_left_alone(options: dict[str, Any]):
    model = adapted(**options)
    before = [layer.forward for layer in model.modules()]
    with lean_lora(model):
        assert [layer.forward for layer in model.modules()] == before


def test_an_adapter_that_is_off_stays_off():
    model, x = adapted(), torch.randn(3, 12)
    with model.disable_adapter(), lean_lora(model):
        torch.testing.assert_close(model(x), model.get_base_model()(x))
        off = model(x)
    assert not torch.allclose(off, model(x))
