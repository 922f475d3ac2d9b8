"""Predicted against real differences, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from redraft.lab.bench.matrix import MatrixRow
from redraft.lab.bench.promises import GAMED, KEPT, OPEN, promises

N = 12


def rows(policy: str, costs: list[float]) -> list[MatrixRow]:
    return [
        MatrixRow(1, "office", "strong", "strong", t, f"c{t}", policy, "y", "z", cost, cost, 0.0)
        for t, cost in enumerate(costs, 1)
    ]


def told(arm: str, policy: str, mean: float, bonus: float = 0.1, pessimism: float = 1.0) -> list[dict[str, Any]]:
    one = {"seed": 1, "task": "office", "train_user": "strong", "arm": arm, "policy": policy}
    return [one | {"t": t, "mean": mean, "bonus": bonus, "pessimism": pessimism} for t in range(1, N + 1)]


@pytest.mark.parametrize(
    ("predicted", "real", "verdict"),
    [
        (0.4, [0.5] * N, KEPT),  # both fall
        (0.4, [1.1] * N, GAMED),  # the price falls, the cost rises
        (0.4, [1.0] * N, GAMED),
        (0.4, [0.0, 1.9] * (N // 2), OPEN),  # lower in the mean, not for sure
        (0.9, [1.1] * N, OPEN),  # nothing was promised
    ],
)
def test_a_promise_is_kept_gamed_or_open(predicted: float, real: list[float], verdict: str) -> None:
    (found,) = promises(
        [*told("rl", "rl", predicted), *told("rl", "base", 0.9)], rows("rl", real) + rows("base", [1.0] * N)
    )
    assert found["verdict"] == verdict
    assert (found["arm"], found["against"], found["n"]) == ("rl", "base", N)
    assert found["predicted"]["mean"] == pytest.approx(predicted - 0.9)
    assert found["real"]["mean"] == pytest.approx(sum(real) / N - 1)


def test_the_bonus_counts_as_the_arm_was_trained() -> None:
    told_by = [*told("rl", "rl", 0.4, bonus=0.2, pessimism=2.0), *told("rl", "base", 0.4, bonus=0.0, pessimism=2.0)]
    (found,) = promises(told_by, rows("rl", [0.7, 0.9] * (N // 2)) + rows("base", [1.0] * N))
    assert found["predicted"]["mean"] == pytest.approx(0.4)
    assert found["covered"] == 0.5  # f̄ = 0.8


def test_an_arm_without_all_its_rows_has_no_line() -> None:
    told_by = [*told("rl", "rl", 0.4), *told("rl", "base", 0.9)]
    assert promises(told_by, rows("rl", [1.0] * N)) == []
    assert promises(told_by[:N], rows("rl", [1.0] * N) + rows("base", [1.0] * N)) == []
