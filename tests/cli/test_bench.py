"""``redraft bench`` as a person meets it: the tiny model, what goes wrong, and the whole smoke run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from redraft.cli.app import main
from redraft.lab.bench.matrix import read_rows

ROOT = Path(__file__).parents[2]
Ran = tuple[int, str, str]
FILE = """
name = "tiny"
tasks = ["office"]
train_users = ["strong"]
test_users = ["strong"]
seeds = [1]
methods = ["sft"]
sizes = { train = 5, validation = 3, online = 3 }
decoding = { max_prompt = 64, max_new_tokens = 8 }
training = { epochs = 1, rank = 2 }

[smoke]
sizes = { train = 4, validation = 2, online = 2 }
"""


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run ``redraft`` in a folder with an experiment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDRAFT_MODEL__CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("REDRAFT_DATA", raising=False)
    Path("tiny.toml").write_text(FILE)

    def run(*args: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["redraft", *args])
        with pytest.raises(SystemExit) as caught:
            main()
        written = capsys.readouterr()
        return int(caught.value.code or 0), written.out, written.err

    return run


def test_run_and_continue(shell: Callable[..., Ran], tiny_model_folder: Path) -> None:
    command = ("bench", "run", "tiny.toml", "--override", f"model={tiny_model_folder}")
    status, out, _ = shell(*command, "--minutes", "0")
    assert status == 0
    assert "1 of 1 cells left: office strong, seed 1" in out
    status, out, _ = shell(*command, "--json")
    assert status == 0
    found = json.loads(out)
    assert (found["out"], found["cells"], found["left"]) == ("results/tiny", 1, [])
    rows = read_rows(Path("results/tiny/matrix.jsonl.gz"))
    (setting,) = found["settings"]
    for policy, mean in setting["mean_cost"].items():
        costs = [row.cost for row in rows if row.policy == policy]
        assert len(costs) == 3
        assert mean == pytest.approx(sum(costs) / 3)
    status, out, _ = shell(*command)
    assert status == 0
    assert "left" not in out
    assert f"{setting['mean_cost']['sft']:.3f}" in out
    described = json.loads(Path("results/tiny/experiment.json").read_text())
    assert described["command"] == f"redraft {' '.join(command)}"


def test_a_task_without_its_data_is_left_out_and_the_others_run(
    shell: Callable[..., Ran], tiny_model_folder: Path
) -> None:
    tasks = ("--override", 'tasks=["office", "summary"]', "--override", f"model={tiny_model_folder}")
    status, out, err = shell("bench", "run", "tiny.toml", "--smoke", *tasks)
    assert status == 0
    assert "1 of 2 cells left: summary strong, seed 1" in out
    assert "left out: task 'summary' needs public data: set REDRAFT_DATA to a folder with edits/defacto" in err
    assert max(map(len, out.splitlines())) <= 80
    assert {row.task for row in read_rows(Path("results/tiny-smoke/matrix.jsonl.gz"))} == {"office"}


def test_report_is_made_of_what_a_run_left(shell: Callable[..., Ran], tiny_model_folder: Path) -> None:
    shell("bench", "run", "tiny.toml", "--out", "run", "--override", f"model={tiny_model_folder}")
    status, out, err = shell("bench", "report", "run", "--json")
    assert status == 0
    assert set(json.loads(out)["settings"]["office strong"]["mean_cost"]) >= {"base", "sft", "late"}
    assert "report: run/report.html" in err
    assert Path("run/report.html").exists()
    status, out, _ = shell("bench", "report", "run")
    assert (status, out.split()[0]) == (0, "#")
    assert "Answers by" in out or "No policy beats" in out
    assert max(map(len, out.splitlines())) <= 80
    assert " ".join(out.split()).endswith("The tables are in run/tables.md.")


def test_smoke_goes_to_a_folder_of_its_own(shell: Callable[..., Ran], tiny_model_folder: Path) -> None:
    status, out, _ = shell("bench", "run", "tiny.toml", "--smoke", "--override", f"model={tiny_model_folder}", "--json")
    assert status == 0
    assert json.loads(out)["out"] == "results/tiny-smoke"
    assert len(read_rows(Path("results/tiny-smoke/matrix.jsonl.gz"))) == 2 * 2


def test_a_reading_of_rows_runs_nothing(shell: Callable[..., Ran]) -> None:
    status, out, _ = shell("bench", "run", str(ROOT / "runs" / "ablation.toml"), "--json")
    assert status == 0
    assert json.loads(out) == {"out": "results/ablation", "cells": 0, "left": [], "settings": [], "left_out": []}
    described = json.loads(Path("results/ablation/experiment.json").read_text())
    assert (described["kind"], described["rows_from"]) == ("ablation", "results/cpu")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("none.toml",), "none.toml: cannot be read"),
        (("tiny.toml", "--override", "seed=1"), "unknown key 'seed'"),
        (("tiny.toml", "--override", "seeds"), "expected KEY.PATH=VALUE"),
        (("tiny.toml", "--out", "tiny.toml/run"), "cannot be written"),
        (("tiny.toml", "--override", 'test_users=["nobody"]'), "nobody"),
        (("tiny.toml", "--override", "model=no-such-model-here"), "no-such-model-here"),
        (("tiny.toml", "--override", 'tasks=["email"]'), "contexts/mts_dialog_train.csv (MTS-Dialog, CC BY 4.0,"),
        (("tiny.toml", "--override", "responses_from=none"), "there are no rows"),
    ],
)
def test_bad_input_is_one_line_and_status_two(shell: Callable[..., Ran], arguments: tuple[str, ...], says: str) -> None:
    status, out, err = shell("bench", "run", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("redraft: ")
    assert says in err


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.timeout(900)
def test_the_small_experiment_smokes(tmp_path: Path) -> None:
    if "REDRAFT_DATA" not in os.environ:
        pytest.skip("REDRAFT_DATA is not set: no contexts to work on")
    command = [
        Path(sys.executable).with_name("redraft"),
        "bench",
        "run",
        str(ROOT / "runs" / "cpu.toml"),
        "--smoke",
        "--json",
    ]
    done = subprocess.run([*command, "--out", str(tmp_path / "cpu")], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["cells"], found["left"]) == (4, [])
    assert all(set(setting["mean_cost"]) == {"base", "sft", "dpo", "early"} for setting in found["settings"])
    assert len(read_rows(tmp_path / "cpu" / "matrix.jsonl.gz")) == 2 * 2 * 4 * 3
