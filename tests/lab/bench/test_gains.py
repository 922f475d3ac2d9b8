"""What best-of-N, training on samples and pessimism gained, and predicted against real differences: by hand."""

from __future__ import annotations

import pytest

from redraft.lab.bench.experiment import Arm
from redraft.lab.bench.folder import Prediction
from redraft.lab.bench.gains import GAMED, KEPT, OPEN, choices, doubts, learners, promises
from redraft.lab.bench.matrix import MatrixRow

N = 12
RL = Arm(method="rl", options={"beta": 0.02})


def rows(policy: str, costs: list[float]) -> list[MatrixRow]:
    return [
        MatrixRow(1, "office", "strong", "strong", t, f"c{t}", policy, "y", "z", cost, cost, 0.0)
        for t, cost in enumerate(costs, 1)
    ]


def told(arm: str, policy: str, mean: float, bonus: float = 0.1, pessimism: float = 1.0) -> list[Prediction]:
    return [Prediction(1, "office", "strong", arm, policy, t, mean, bonus, pessimism) for t in range(1, N + 1)]


def test_choices_by_hand() -> None:
    arms = {"best": Arm(best_of=2, of="sft"), "rl": RL}
    found = choices(arms, rows("best#0", [1.0, 0.4]) + rows("best#1", [0.6, 0.8]) + rows("best", [0.6, 0.8]))
    (one,) = found
    assert (one.mean, one.own, one.least) == pytest.approx((0.7, 0.7, 0.5))
    assert one.share_of_oracle == pytest.approx(0.0)
    assert one.against_policy.mean == pytest.approx(0.0)
    (one,) = choices(arms, rows("best#0", [1.0, 0.4]) + rows("best#1", [0.6, 0.8]) + rows("best", [0.6, 0.4]))
    assert one.share_of_oracle == pytest.approx(1.0)
    assert choices(arms, rows("best#0", [1.0, 0.4]) + rows("best", [0.6, 0.8])) == []


def test_training_on_samples_is_measured_by_the_oracle_of_its_start() -> None:
    arms = {
        "rl": RL,
        "rl-sampled": Arm(of="rl", temperature=1),
        "rl-cool": Arm(of="rl", temperature=0.5),  # nothing was drawn from its start at 0.5
        "best": Arm(best_of=2, temperature=1),
        "sft-best": Arm(of="sft", best_of=2, temperature=1),
    }
    drawn = rows("best#0", [1.0, 0.4]) + rows("best#1", [0.6, 0.8]) + rows("best", [0.6, 0.4])
    others = rows("sft-best#0", [0.1, 0.1]) + rows("sft-best#1", [0.1, 0.1])
    found = learners(arms, drawn + others + rows("rl-sampled", [0.5, 0.7]) + rows("rl-cool", [0.1, 0.1]))
    (one,) = found
    assert (one.arm, one.against, one.samples, one.n) == ("rl-sampled", "base", 2, 2)
    assert (one.mean, one.own, one.least) == pytest.approx((0.7, 0.6, 0.5))
    assert one.share_of_oracle == pytest.approx(0.5)
    assert one.against_mean.mean == pytest.approx(-0.1)
    assert learners(arms, rows("rl-sampled", [0.5, 0.7])) == []  # its start has drawn nothing


@pytest.mark.parametrize("served", [False, True])
def test_pessimism_is_compared_with_the_same_arm_without(served: bool) -> None:
    arms = {
        "rl": RL,
        "bold": Arm(method="rl", options={"pessimism": 0, "beta": 0.02}),
        "other": Arm(method="rl", options={"pessimism": 0, "beta": 0.3}),
        "late": Arm(method="rl", start="sft", options={"pessimism": 0, "beta": 0.02}),
        "rl-sampled": Arm(of="rl", temperature=1),
        "bold-sampled": Arm(of="bold", temperature=1),
        "best": Arm(of="bold", best_of=2, temperature=1),
    }
    names = ("rl-sampled", "bold-sampled") if served else ("rl", "bold")
    made: list[MatrixRow] = rows(names[0], [0.5, 0.5]) + rows(names[1], [0.5, 0.7])
    (one,) = doubts(arms, [*made, *rows("other", [9.0, 9.0]), *rows("late", [9.0, 9.0]), *rows("best", [9.0, 9.0])])
    assert (one.arm, one.without, one.n) == (*names, 2)
    assert (one.mean, one.mean_without) == pytest.approx((0.5, 0.6))
    assert one.difference.mean == pytest.approx(-0.1)


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
    assert found.verdict == verdict
    assert (found.arm, found.against, found.n) == ("rl", "base", N)
    assert found.predicted.mean == pytest.approx(predicted - 0.9)
    assert found.real.mean == pytest.approx(sum(real) / N - 1)


def test_the_bonus_counts_as_the_arm_was_trained() -> None:
    told_by = [*told("rl", "rl", 0.4, bonus=0.2, pessimism=2.0), *told("rl", "base", 0.4, bonus=0.0, pessimism=2.0)]
    (found,) = promises(told_by, rows("rl", [0.7, 0.9] * (N // 2)) + rows("base", [1.0] * N))
    assert found.predicted.mean == pytest.approx(0.4)
    assert found.covered == 0.5  # f̄ = 0.8


def test_an_arm_without_all_its_rows_has_no_line() -> None:
    told_by = [*told("rl", "rl", 0.4), *told("rl", "base", 0.9)]
    assert promises(told_by, rows("rl", [1.0] * N)) == []
    assert promises(told_by[:N], rows("rl", [1.0] * N) + rows("base", [1.0] * N)) == []
