from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from redraft.errors import ConfigError
from redraft.lab.theory.bounds import fit_rate
from redraft.lab.theory.lab import EXPERIMENTS, Sizes, experiment_rows
from redraft.lab.theory.regret import CLOSE, PAPER

SMALL = Sizes(cells=4, seeds=6, instances=50, runs=20, horizon=1000)
TINY = Sizes(cells=2, seeds=2, instances=5, runs=3, horizon=100)


@cache
def rows(name: str, sizes: Sizes = SMALL) -> tuple[Mapping[str, Any], ...]:
    return tuple(experiment_rows(name, 1, sizes))


@pytest.mark.parametrize("page", ["theory.md", "users.md"])
def test_pages_escape_the_asterisk_of_pi_star(page: str) -> None:
    """Markdown would take two of them for emphasis, and print neither."""
    text = (Path(__file__).parents[3] / "docs" / page).read_text("utf-8")
    assert "π" in text
    assert not re.findall(r"[πC]\*", re.sub(r"`[^`\n]*`", "", text))


def test_an_unknown_experiment() -> None:
    with pytest.raises(ConfigError, match="'phases' does not exist: use one of contraction"):
        experiment_rows("phases", 1, SMALL)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_same_seed_gives_the_same_rows(name: str) -> None:
    first, again, other = (list(experiment_rows(name, seed, TINY)) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_rows_are_flat_and_finite(name: str) -> None:
    for row in rows(name):
        assert isinstance(row["show"], str)
        assert all(isinstance(value, (str, int, float, type(None))) for value in row.values())
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))


def test_claims_hold_and_fail_when_broken() -> None:
    claims = [row for row in rows("contraction") if row["show"] == "claim"]
    assert len({row["claim"] for row in claims}) == 8
    for row in claims:
        assert row["worst"] < 1e-8
        assert row["broken"] > 0.01


def of(name: str, sizes: Sizes = SMALL, **wanted: Any) -> list[Mapping[str, Any]]:
    return [row for row in rows(name, sizes) if all(row.get(key) == value for key, value in wanted.items())]


def curve(learner: str, sizes: Sizes) -> tuple[list[int], list[float]]:
    own = [row for row in of("rates", sizes, show="n", learner=learner) if row["n"]]
    return [row["n"] for row in own], [row["subopt"] for row in own]


RATES = Sizes(seeds=50)  # 100 instances, so that a slope is not one log's luck


@pytest.mark.parametrize("learner", ["dpo", "dpo, log-linear", "rl", "rl, κ = 0"])
def test_realisable_learners_near_the_optimum_at_rate_one(learner: str) -> None:
    n, subopt = curve(learner, RATES)
    assert fit_rate(n, subopt).slope <= -0.45
    assert -1.25 < fit_rate(n[-4:], subopt[-4:]).slope < -0.8


@pytest.mark.parametrize("learner", ["sft", "early"])
def test_biased_learners_settle_at_their_limit(learner: str) -> None:
    (limit,) = of("rates", RATES, show="n", learner=learner, n=None)
    (last,) = of("rates", RATES, show="n", learner=learner, n=102_400)
    assert last["subopt"] == pytest.approx(limit["subopt"], rel=0.02)
    assert last["distance"] == pytest.approx(limit["distance"], rel=0.02)
    assert limit["subopt"] > 0.05


def test_sft_settles_at_one_minus_gamma_of_the_distance() -> None:
    (base,) = of("rates", RATES, show="n", learner="base")
    (sft,) = of("rates", RATES, show="n", learner="sft", n=None)
    assert sft["distance"] == pytest.approx(0.5 * base["distance"])
    for row in of("rates", RATES, show="gamma", learner="sft"):
        assert row["distance"] == pytest.approx((1 - row["gamma"]) * base["distance"])


def test_tau_equal_to_beta_is_worse_than_no_training() -> None:
    (base,) = of("rates", RATES, show="n", learner="base")
    (biased,) = of("rates", RATES, show="n", learner="dpo, τ = β", n=None)
    assert biased["subopt"] > base["subopt"]
    assert curve("dpo, τ = β", RATES)[1][-1] > base["subopt"]


def test_errors_grow_with_what_the_theorems_name() -> None:
    dpo = of("rates", RATES, show="gamma", learner="dpo")
    assert 0.7 < fit_rate([row["c_pref"] for row in dpo], [row["subopt"] for row in dpo]).slope < 1.7
    rl = of("rates", RATES, show="dimension", learner="rl, κ = 0")
    assert [row["d"] for row in rl] == [1, 2, 4, 8, 16, 32, 48]
    assert 0.8 < fit_rate([row["d"] for row in rl], [row["subopt"] for row in rl]).slope < 2


def best(row: Mapping[str, Any]) -> str:
    return min(("sft", "dpo", "rl"), key=lambda learner: row[learner])


def test_the_corners_of_the_phase_diagram() -> None:
    """SFT where users converge, DPO where they seldom edit and coverage is bad, RL where the cost is simple."""
    low, high = min(row["gamma"] for row in rows("phase")), 1.0
    good, bad = (pick(row["coverage"] for row in rows("phase")) for pick in (min, max))
    assert best(*of("phase", d=48, gamma=high, coverage=bad)) == "sft"
    assert best(*of("phase", d=48, gamma=low, coverage=bad)) == "dpo"
    assert best(*of("phase", d=2, gamma=high, coverage=good)) == "rl"
    (sure,) = of("phase", d=48, gamma=high, coverage=bad)
    assert sure["sft_first"] == 6
    assert len(rows("phase")) == 3 * 4 * 4
    assert all(row["sft_first"] + row["dpo_first"] + row["rl_first"] == 6 for row in rows("phase"))


def test_only_rl_stands_a_violation() -> None:
    for kind in {row["kind"] for row in rows("violation")}:
        rl = [row["subopt"] for row in of("violation", kind=kind, learner="rl")]
        assert max(rl) < 2.5 * rl[0]
        dpo = {row["epsilon"]: row["subopt"] for row in of("violation", kind=kind, learner="dpo", n=None)}
        assert dpo[0.0] < 1e-9
        assert dpo[0.5] > 0.05
        gap = {row["epsilon"]: row["gap"] for row in of("violation", kind=kind, learner="base")}
        assert gap[0.0] < 1e-12
        assert gap[1.0] == pytest.approx(2 * gap[0.5])


def test_the_informed_bound_lies_between_the_best_arm_and_ours() -> None:
    paper = of("regret", show="paper")
    assert len(paper) == 3 * len(PAPER)
    assert all(row["best"] < row["bound"] < row["ours"] < row["uniform"] for row in paper)
    assert all(row["bound"] < row["late"] for row in paper)


def test_forgetting_pays_where_tastes_change() -> None:
    last = {row["rule"]: row["regret"] for row in of("regret", show="drift", t=1000)}
    assert min(last, key=last.__getitem__) != "late"
    by_t = {row["t"]: row["regret"] for row in of("regret", show="drift", rule="window 200")}
    assert by_t[1000] - by_t[750] < 0.5 * (by_t[750] - by_t[500])  # it has found the other arm


@pytest.mark.slow
def test_the_phase_diagram_takes_less_than_two_minutes() -> None:
    started = time.process_time()
    cells = rows("phase", Sizes())
    assert time.process_time() - started < 120
    assert len(cells) == 3 * 20 * 20
    assert {best(row) for row in cells} == {"sft", "dpo", "rl"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_regret_to_a_hundred_thousand_rounds() -> None:
    started, found, seconds = time.process_time(), list[Mapping[str, Any]](), dict[str, float]()
    for row in experiment_rows("regret", 1, Sizes(runs=200, horizon=100_000)):
        found.append(row)
        seconds[str(row["show"])] = time.process_time() - started
    assert seconds["paper"] < 60  # all but the longer horizon

    def show(name: str, **wanted: Any) -> list[Mapping[str, Any]]:
        return [row for row in found if row["show"] == name and all(row[key] == wanted[key] for key in wanted)]

    for gap in (1.0, 2.0, 4.0, 8.0):
        own = show("minimax", gap=gap)
        assert own[-1]["t"] == 100_000
        assert fit_rate([row["t"] for row in own], [row["regret"] for row in own]).slope <= 0.55
        assert all(row["regret"] > row["lower"] for row in own)
    for setting in PAPER:
        ratios = [row["regret"] / math.log(row["t"]) for row in show("fixed", setting=setting)]
        (ucb,) = {row["ucb"] for row in show("fixed", setting=setting)}
        assert ratios[-1] < 1.7 * ucb
        if setting != CLOSE:
            assert ratios[-1] < 1.05 * ratios[-3]
    for row in show("long"):  # two arms 0.007 apart: the rise is the expected one, and ends
        assert row["regret"] == pytest.approx(row["level"], rel=0.02, abs=3 * row["error"])
        assert row["regret"] < row["ucb"] * math.log(row["t"])
