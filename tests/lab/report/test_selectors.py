"""``redraft bench selectors``: what rules pay on rows of which every price is known by hand."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench_rows import EXPERIMENT, write_run

from redraft.cli.app import main
from redraft.costs import COSTS
from redraft.lab.bench import selectors
from redraft.lab.bench.matrix import MatrixRow

WANTED = "a b c d"
ANSWERS = {"base": "x x x d", "sft": "a b x x", "dpo": "x x x x"}  # Δ to what is wanted: 3/4, 1/2 and 1
ROUNDS, SERVED = 20, 50


def run(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    accepts: Callable[[int], bool] = lambda _: False,
    user: str = "strong",
) -> dict[str, Any]:
    """A user who wants the same text each time, and accepts some rounds unread."""
    rows = [
        MatrixRow(1, "email", "weak", user, t, f"{t}", policy, answer, edited, 0.0, COSTS["word"](answer, edited), 0.0)
        for t in range(1, ROUNDS + 1)
        for policy, answer in ANSWERS.items()
        for edited in [answer if accepts(t) else WANTED]
    ]
    settings = {"tasks": ["email"], "train_users": ["weak"], "test_users": [user], "seeds": [1]}
    sizes = {"train": 64, "validation": 16, "online": ROUNDS}
    write_run(folder / "run", rows, EXPERIMENT | settings | {"methods": ["sft", "dpo"], "sizes": sizes})
    monkeypatch.setattr(selectors, "ORDERS", {SERVED: 30})
    monkeypatch.setattr("redraft.lab.report.selectors.ORDERS", {SERVED: 30})
    monkeypatch.setattr(
        sys, "argv", ["redraft", "bench", "selectors", str(folder / "run"), "--out", str(folder / "out"), "--json"]
    )
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    return json.loads((folder / "out" / "summary.json").read_text())


def test_the_leader_pays_for_its_drawing_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With N edits known dpo, dearer by all of the price, has 1 / 3 (1 + 2N), and base, by half, 1 / 3 (1 + N)."""
    found = run(tmp_path, monkeypatch)["by_rounds"][str(SERVED)]
    known = range(selectors.EDITS, selectors.EDITS + SERVED)
    drawing = sum(0.5 / (3 * (1 + 2 * n)) + 0.25 / (3 * (1 + n)) for n in known) / SERVED
    assert found[selectors.BEST]["mean_cost"] == 0.5
    assert found["leader"]["mean_cost"] == pytest.approx(0.5 + drawing, abs=0.003)
    assert found["uniform"]["mean_cost"] == pytest.approx(0.75, abs=0.02)
    assert found["late"]["mean_cost"] > found["leader, no first log"]["mean_cost"] > found["leader"]["mean_cost"]
    for rule in found.values():
        assert rule["more"]["mean"] == pytest.approx(rule["mean_cost"] - 0.5)
        assert rule["max_subopt"] == pytest.approx(rule["mean_cost"] - 0.5)


def test_a_lazy_user_halves_every_cost_and_misleads_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(tmp_path, monkeypatch, lambda t: t % 2 == 0)["by_rounds"][str(SERVED)]
    assert found["leader"]["mean_cost"] < found["late"]["mean_cost"]
    assert found["leader"]["mean_cost"] == pytest.approx(found[selectors.BEST]["mean_cost"], abs=0.01)


def test_rows_and_tables_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = run(tmp_path, monkeypatch)
    with (tmp_path / "out" / "paid.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["rule"] for row in rows} == {selectors.BEST, *selectors.RULES}
    assert made["default"] == made["by_rounds"][str(SERVED)]["leader"]
    text = (tmp_path / "out" / "selectors.md").read_text()
    assert "| leader | 0.50" in text
    assert "orders of each: 30" in text


def test_users_who_change_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rounds after the held-out ones, and no others, are served: here nothing is edited in them."""
    found = run(tmp_path, monkeypatch, lambda t: t > selectors.EDITS, "strong+drift=30")["by_rounds"][str(SERVED)]
    assert {rule["mean_cost"] for rule in found.values()} == {0.0}


def test_without_rows_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    settings = {"tasks": ["email"], "train_users": ["weak"], "seeds": [1], "methods": ["sft"]}
    write_run(tmp_path / "run", [], EXPERIMENT | settings)
    monkeypatch.setattr(sys, "argv", ["redraft", "bench", "selectors", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "no complete cell has base" in capsys.readouterr().err
