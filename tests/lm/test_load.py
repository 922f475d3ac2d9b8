"""Which names are looked up where, and what is said of those that are nowhere. No test here asks a hub."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from redraft.errors import ConfigError, ModelError
from redraft.lm.load import compute_dtype, load_base, quiet_libraries


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the hub, which answers nobody."""
    asked: list[str] = []

    def nobody(url: str, **_: Any) -> None:
        asked.append(url)
        raise ConnectionError("[Errno -2] Name or service not known\nand more")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", nobody)
    return asked


@pytest.mark.parametrize(
    "name",
    ["no-such-model", "./owner/model", "../model", "~/model", "/owner/model", "owner/model/", "a/b/c", "a\\b", "a b/c"],
)
def test_what_can_be_no_hub_id_is_refused_unasked(tmp_path: Path, asked: list[str], name: str) -> None:
    with pytest.raises(ModelError, match="use 'smollm2', a hub id OWNER/NAME or a folder") as caught:
        load_base(name, tmp_path)
    assert repr(name) in str(caught.value)
    assert asked == []


def test_a_hub_that_is_not_there_is_asked_once(tmp_path: Path, asked: list[str]) -> None:
    with pytest.raises(ModelError, match="'owner/model': not available from the hub") as caught:
        load_base("owner/model", tmp_path)
    assert "Name or service not known" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [url.endswith("/owner/model/resolve/main/config.json") for url in asked] == [True]


@pytest.mark.parametrize(("name", "cached"), [("owner/model", None), ("owner/model", "x"), ("gpt2", "x")])
def test_what_the_hub_or_its_cache_has_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, cached: str | None
) -> None:
    reached: list[str] = []

    def load(source: str, **_: Any) -> None:
        reached.append(source)
        raise OSError("far enough")

    def there(_url: str) -> None:
        return None

    def look_up(_name: str, _file: str) -> str | None:
        return cached

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", there)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", look_up)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", load)
    with pytest.raises(ModelError, match="far enough"):
        load_base(name, tmp_path)
    assert reached == [name]


def test_the_hubs_retries_are_not_told() -> None:
    quiet_libraries()
    assert not logging.getLogger("huggingface_hub.utils._http").isEnabledFor(logging.WARNING)


def test_what_to_multiply_in_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for told in ("float32", "bfloat16"):
        monkeypatch.setenv("REDRAFT_PRECISION", told)
        assert str(compute_dtype()) == f"torch.{told}"
    monkeypatch.setenv("REDRAFT_PRECISION", "half")
    with pytest.raises(ConfigError, match="REDRAFT_PRECISION = 'half': use one of float32, bfloat16, or leave it uns"):
        compute_dtype()
