from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers.cache_utils import DynamicCache, DynamicLayer

from redraft.lm import packed as module
from redraft.lm.packed import packed, with_room


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


def test_a_changed_weight_is_packed_anew_and_an_unchanged_one_is_not() -> None:
    model, x = layers(), torch.randn(2, 16)
    with packed(model):
        model(x)
    first: Any = module._KNOWN[model[0]]  # type: ignore[index]
    with packed(model):
        model(x)
    assert module._KNOWN[model[0]] is first  # type: ignore[index]
    with torch.no_grad():
        model[0].weight.add_(1)
    with packed(model):
        found = model(x)
    torch.testing.assert_close(found, model(x))


def test_weights_in_training_are_left_alone() -> None:
    model = layers()
    model[0].weight.requires_grad_(True)
    with packed(model):
        assert ["forward" in vars(layer) for layer in model] == [False, True]


def test_without_the_operators_nothing_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_weight: torch.Tensor) -> torch.Tensor:
        raise AttributeError

    monkeypatch.setattr(module, "_pack", missing)
    module._works.cache_clear()
    try:
        model = layers()
        with packed(model):
            assert not any("forward" in vars(layer) for layer in model)
    finally:
        module._works.cache_clear()


def test_a_cache_with_room_is_the_plain_one() -> None:
    torch.manual_seed(0)
    plain, roomy = DynamicCache(), DynamicCache()
    for step, length in enumerate((5, 1, 1, 3, 1)):
        rows = 4 if step < 3 else 2
        new = [torch.randn(rows, 2, length, 8) for _ in "kv"]
        found = [cache.update(*new, 0) for cache in (plain, roomy)]
        for one, other in zip(*found, strict=True):
            assert torch.equal(one, other)
        if step == 0:
            roomy = with_room(roomy, 2)
            assert type(roomy.layers[0]) is not DynamicLayer
        if step == 2:
            for cache in (plain, roomy):
                cache.reorder_cache(torch.tensor([2, 0]))
    assert roomy.get_seq_length() == plain.get_seq_length() == 11
