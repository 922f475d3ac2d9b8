"""What best-of-N, training on samples and pessimism gained, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from redraft.lab.bench.gains import choices, doubts, learners
from redraft.lab.bench.matrix import MatrixRow

from .test_promises import rows

RL: dict[str, Any] = {"method": "rl", "start": "base", "options": {"beta": 0.02}, "best_of": None, "temperature": None}
SERVED: dict[str, Any] = {"method": None, "best_of": None, "temperature": 1.0}


def test_choices_by_hand() -> None:
    arms = {"best": {"best_of": 2, "of": "sft"}, "rl": {"method": "rl", "best_of": None}}
    found = choices(arms, rows("best#0", [1.0, 0.4]) + rows("best#1", [0.6, 0.8]) + rows("best", [0.6, 0.8]))
    (one,) = found
    assert (one["mean"], one["own"], one["least"]) == pytest.approx((0.7, 0.7, 0.5))
    assert one["share_of_oracle"] == pytest.approx(0.0)
    assert one["against_policy"]["mean"] == pytest.approx(0.0)
    (one,) = choices(arms, rows("best#0", [1.0, 0.4]) + rows("best#1", [0.6, 0.8]) + rows("best", [0.6, 0.4]))
    assert one["share_of_oracle"] == pytest.approx(1.0)
    assert choices(arms, rows("best#0", [1.0, 0.4]) + rows("best", [0.6, 0.8])) == []


def test_training_on_samples_is_measured_by_the_oracle_of_its_start() -> None:
    arms = {
        "rl": RL,
        "rl-sampled": SERVED | {"of": "rl"},
        "rl-cool": SERVED | {"of": "rl", "temperature": 0.5},  # nothing was drawn from its start at 0.5
        "best": SERVED | {"of": "base", "best_of": 2},
        "sft-best": SERVED | {"of": "sft", "best_of": 2},
    }
    drawn = rows("best#0", [1.0, 0.4]) + rows("best#1", [0.6, 0.8]) + rows("best", [0.6, 0.4])
    others = rows("sft-best#0", [0.1, 0.1]) + rows("sft-best#1", [0.1, 0.1])
    found = learners(arms, drawn + others + rows("rl-sampled", [0.5, 0.7]) + rows("rl-cool", [0.1, 0.1]))
    (one,) = found
    assert (one["arm"], one["against"], one["samples"], one["n"]) == ("rl-sampled", "base", 2, 2)
    assert (one["mean"], one["own"], one["least"]) == pytest.approx((0.7, 0.6, 0.5))
    assert one["share_of_oracle"] == pytest.approx(0.5)
    assert one["against_mean"]["mean"] == pytest.approx(-0.1)
    assert learners(arms, rows("rl-sampled", [0.5, 0.7])) == []  # its start has drawn nothing


@pytest.mark.parametrize("served", [False, True])
def test_pessimism_is_compared_with_the_same_arm_without(served: bool) -> None:
    arms = {
        "rl": RL,
        "bold": RL | {"options": {"pessimism": 0, "beta": 0.02}},
        "other": RL | {"options": {"pessimism": 0, "beta": 0.3}},
        "late": RL | {"options": {"pessimism": 0, "beta": 0.02}, "start": "sft"},
        "rl-sampled": SERVED | {"of": "rl"},
        "bold-sampled": SERVED | {"of": "bold"},
        "best": SERVED | {"of": "bold", "best_of": 2},
    }
    names = ("rl-sampled", "bold-sampled") if served else ("rl", "bold")
    made: list[MatrixRow] = rows(names[0], [0.5, 0.5]) + rows(names[1], [0.5, 0.7])
    (one,) = doubts(arms, [*made, *rows("other", [9.0, 9.0]), *rows("late", [9.0, 9.0]), *rows("best", [9.0, 9.0])])
    assert (one["arm"], one["without"], one["n"]) == (*names, 2)
    assert (one["mean"], one["mean_without"]) == pytest.approx((0.5, 0.6))
    assert one["difference"]["mean"] == pytest.approx(-0.1)
