"""``redraft bench choose``: its files from rows, and what it cannot read."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from bench_rows import EXPERIMENT, MEANS, make_rows, make_training, write_run

from redraft.cli.app import main
from redraft.errors import DataError
from redraft.lab.report.choice import write_choice

SMALL = {**EXPERIMENT, "tasks": ["email"], "train_users": ["weak"], "seeds": [1], "sizes": {"online": 20}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arms = {"sft2": {"method": "sft", "start": "sft"}, "best": {"of": "sft", "best_of": 4}}
    rows = make_rows({"email weak": {**MEANS["email weak"], "sft2": 0.1, "best": 0.3}}, seeds=[1], rounds=20)
    where = tmp_path_factory.mktemp("results") / "run"
    return write_run(where, rows, {**SMALL, "arms": arms}, make_training([1]))


def test_tables_and_numbers_are_written_beside_the_rows(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["redraft", "bench", "choose", str(folder)])
    with pytest.raises(SystemExit) as caught:
        main()
    out = capsys.readouterr().out
    assert not caught.value.code
    assert " ".join(out.split()).endswith(f"The tables are in {folder}/choice.md.")
    text, made = (folder / "choice.md").read_text("utf-8"), json.loads((folder / "choice.json").read_text("utf-8"))
    rules = made["choosing"]["strong"]["rules"]
    assert rules["held-out edit cost"]["by_setting"] == rules["sft2"]["by_setting"]  # its texts are what is wanted
    assert "the policy that 16 edits of base's drafts favour costs 0.100 a round" in " ".join(out.split())
    assert rules["likelihood"]["by_setting"]["email weak"] == pytest.approx(0.4)  # all have the same loss: the first
    assert "| email weak: sft2 − sft |" in text
    assert "| email weak: best − sft |" in text
    assert [(row["one"], row["other"]) for row in made["pairs"]] == [
        ("sft", "base"), ("dpo", "base"), ("early", "base"), ("sft2", "base"), ("dpo", "sft"), ("early", "sft"),
        ("sft2", "sft"), ("early", "dpo"), ("sft2", "dpo"), ("sft2", "early"),
    ]  # fmt: skip


def test_answers_of_another_run_are_chosen_by_its_losses(folder: Path, tmp_path: Path) -> None:
    lender = write_run(tmp_path / "lender", [], SMALL, make_training([1]))
    borrower = write_run(tmp_path / "run", make_rows({"email weak": MEANS["email weak"]}, seeds=[1], rounds=17),
                         {**SMALL, "sizes": {"online": 17}, "responses_from": f"results/{lender.name}"})  # fmt: skip
    assert "likelihood" in write_choice(borrower)["choosing"]["strong"]["rules"]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    short = write_run(tmp_path / "short", make_rows({"email weak": MEANS["email weak"]}, rounds=16), SMALL)
    with pytest.raises(DataError, match="short: no complete cell has base and more than 16 rounds"):
        write_choice(short)
    reading = {"name": "ablation", "kind": "cost", "rows_from": "results/short", "costs": ["word"]}
    with pytest.raises(DataError, match="other: reads the rows of another run"):
        write_choice(write_run(tmp_path / "other", [], reading))
    assert not list(tmp_path.rglob("choice.*"))
