"""The whole loop on the tiny model: every stage is exercised, nothing is learned."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from redraft.errors import ConfigError, ModelError
from redraft.lab.bench.matrix import read_rows
from redraft.lab.demo import ARMS, DemoOptions, run_demo
from redraft.log import EditLog

OPTIONS = DemoOptions(seed=3, train=8, validation=8, online=6, max_new_tokens=12, epochs=1)


def silent(_what: str, _done: int, _total: int) -> None:
    """No progress."""


class PowerCutError(Exception):
    """What a kill looks like from inside."""


def test_the_loop_and_its_numbers(tiny_model_folder: Path, tmp_path: Path) -> None:
    seen: set[str] = set()

    def watch(what: str, _done: int, _total: int) -> None:
        seen.add(what)

    out = tmp_path / "demo"
    summary = run_demo(out, OPTIONS, model=str(tiny_model_folder), cache=tmp_path / "cache", progress=watch)
    assert seen == {"log", "reference", "sft", "dpo", "early", "answering", "serve"}
    assert summary.heldout.keys() == {*ARMS}
    assert 0 < summary.heldout_edits < OPTIONS.validation  # the others chose the epochs
    rows = read_rows(out / "matrix.jsonl")
    assert len(rows) == len(ARMS) * OPTIONS.online
    for arm in ARMS:
        costs = [row.cost for row in rows if row.policy == arm]
        assert summary.mean_cost[arm] == pytest.approx(sum(costs) / len(costs))
    assert json.loads((out / "summary.json").read_text())["mean_cost"].keys() == {*ARMS, "late", "uniform"}
    assert sum(summary.pulls["late"].values()) == OPTIONS.online
    assert "</html>" in (out / "report.html").read_text()
    with EditLog(f"sqlite:///{out / 'redraft.db'}", create=False) as log:
        assert log.counts("email").completions == OPTIONS.train + OPTIONS.validation
        assert log.verify() == []


def test_an_interrupted_demo_goes_on(tiny_model_folder: Path, tmp_path: Path) -> None:
    def cut(what: str, _done: int, _total: int) -> None:
        if what == "dpo":
            raise PowerCutError

    def run(out: Path, progress: Callable[[str, int, int], None]) -> Mapping[str, float]:
        model, cache = str(tiny_model_folder), tmp_path / "cache"
        return run_demo(out, OPTIONS, model=model, cache=cache, progress=progress).mean_cost

    with pytest.raises(PowerCutError):
        run(tmp_path / "cut", cut)
    assert run(tmp_path / "cut", silent) == run(tmp_path / "whole", silent)


def test_a_folder_holds_one_demo(tiny_model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text('{"seed": 9}')
    with pytest.raises(ConfigError, match="other options"):
        run_demo(tmp_path, replace(OPTIONS, seed=4), model=str(tiny_model_folder), cache=tmp_path, progress=silent)


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        run_demo(tmp_path / "file" / "demo", OPTIONS, model="none", cache=tmp_path, progress=silent)


def test_a_wrong_model_leaves_the_folder_free(tmp_path: Path):
    with pytest.raises(ModelError):
        run_demo(tmp_path, OPTIONS, model=str(tmp_path / "nothing"), cache=tmp_path, progress=silent)
    assert not (tmp_path / "demo.json").exists()
