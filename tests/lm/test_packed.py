from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from redraft.lm import packed as module
from redraft.lm.packed import packed


def layers(**more: Any) -> nn.Sequential:
    return nn.Sequential(nn.Linear(16, 24, **more), nn.Linear(24, 8, bias=False, **more)).requires_grad_(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [(16,), (1, 16), (3, 5, 16)])
def test_a_packed_layer_computes_what_it_did(dtype: torch.dtype, rows: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, x = layers(dtype=dtype), torch.randn(rows, dtype=dtype)
    plain = model(x)
    with packed(model):
        assert all("forward" in vars(layer) for layer in model)
        torch.testing.assert_close(model(x), plain)
    assert not any("forward" in vars(layer) for layer in model)


@pytest.mark.parametrize("counted", [True, False])
def test_a_changed_weight_is_packed_anew_and_an_unchanged_one_is_not(counted: bool) -> None:
    model, x = layers(), torch.randn(2, 16)
    with packed(model):
        model(x)
    first: Any = module._KNOWN[model[0]]  # type: ignore[index]
    with packed(model):
        model(x)
    assert module._KNOWN[model[0]] is first  # type: ignore[index]
    with torch.no_grad():
        weight: Any = model[0].weight
        if counted:
            weight.add_(1)
        else:
            weight.data += 1  # as PEFT merges
    with packed(model):
        found = model(x)
    torch.testing.assert_close(found, model(x))


def test_weights_in_training_are_left_alone() -> None:
    model = layers()
    model[0].weight.requires_grad_(True)
    with packed(model):
        assert ["forward" in vars(layer) for layer in model] == [False, True]


def test_under_autocast_a_layer_computes_as_it_would() -> None:
    model, x = layers(), torch.randn(2, 16)
    with torch.autocast("cpu", torch.bfloat16):
        plain = model(x)
        with packed(model):
            assert torch.equal(model(x), plain)


def test_copies_leave_half_of_what_is_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = tmp_path / "meminfo"
    monkeypatch.setattr(module, "Path", {"/proc/meminfo": told}.__getitem__)
    model: Any = layers()  # 16 · 24 + 24 · 8 weights, 2,304 bytes
    for free, fit in ((4, False), (5, True)):
        told.write_text(f"MemTotal:       24684084 kB\nMemAvailable:   {free} kB\n")
        assert module.fits(layer.weight for layer in model) == fit
        with packed(model):
            assert all(("forward" in vars(layer)) == fit for layer in model)
    told.unlink()
    assert module.fits(layer.weight for layer in model)


def test_without_the_operators_nothing_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_weight: torch.Tensor, _bias: torch.Tensor | None) -> Any:
        raise AttributeError

    monkeypatch.setattr(module, "linear", missing)
    module.works.cache_clear()
    try:
        model = layers()
        with packed(model):
            assert not any("forward" in vars(layer) for layer in model)
    finally:
        module.works.cache_clear()
