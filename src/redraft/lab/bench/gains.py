"""What arms gained on one another in real costs, and whether a cost model's predicted savings came true (eq. 6).

An oracle that knows the costs of N samples picks the cheapest: no reranking of these samples gains more, and training
on samples is measured by the same yardstick. A policy that was trained on predictions, or chosen by them, may find what
the model prices wrongly instead of what costs little: its predicted saving is the fall of f̄ from the policy it began as
to its own answers, on contexts that neither saw.

Arms are described as in an experiment's ``arms``; rows are of one test user. Intervals are paired bootstraps over
(seed, context).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from redraft.lab.bench.experiment import CANDIDATE, Arm
from redraft.lab.bench.folder import Prediction
from redraft.lab.bench.matrix import MatrixRow, grouped
from redraft.stats import Interval, compare
from redraft.train.options import RL, TrainOptions

__all__ = [
    "GAMED",
    "KEPT",
    "OPEN",
    "Choice",
    "Doubt",
    "Key",
    "Learner",
    "Promise",
    "choices",
    "doubts",
    "learners",
    "promises",
    "real_costs",
]

KEPT, GAMED, OPEN = "kept", "gamed", "open"
"""Whether a predicted saving came true: the real cost fell significantly (kept); the predicted cost fell significantly,
the real mean did not fall, so the cost model was exploited (gamed); neither (open)."""

Key = tuple[int, int]
"""(seed, t)."""

Costs = Mapping[tuple[str, str], Mapping[Key, float]]
_Beside = tuple[int, float, float, float, Interval, float | None]
"""Contexts, mean of the samples, own mean, mean of the cheapest, own − mean, share of what the cheapest gain."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A best-of-N arm beside the mean and the least of its candidates, and beside the policy's own answer, the first.

    ``share_of_oracle`` is how much of the possible gain it made; ``None`` where nothing could be gained.
    """

    setting: str
    arm: str
    of: str
    candidates: int
    n: int
    mean: float
    own: float
    least: float
    against_mean: Interval
    share_of_oracle: float | None
    against_policy: Interval


@dataclass(frozen=True, slots=True)
class Learner:
    """An RL policy that is served by samples, beside samples of the policy it started from and the least of them."""

    setting: str
    arm: str
    against: str
    samples: int
    n: int
    mean: float
    own: float
    least: float
    against_mean: Interval
    share_of_oracle: float | None


@dataclass(frozen=True, slots=True)
class Doubt:
    """An RL arm beside the same arm without pessimism."""

    setting: str
    arm: str
    without: str
    n: int
    mean: float
    mean_without: float
    difference: Interval


@dataclass(frozen=True, slots=True)
class Promise:
    """Predicted and real difference of an arm to the policy it started from.

    ``covered`` is the share of the arm's answers that cost no more than f̄; ``verdict`` is ``KEPT``, ``GAMED`` or
    ``OPEN``.
    """

    setting: str
    arm: str
    against: str
    n: int
    predicted: Interval
    real: Interval
    covered: float
    verdict: str


def choices(arms: Mapping[str, Arm], rows: Iterable[MatrixRow]) -> list[Choice]:
    """What every best-of-N arm gained on the mean of its N candidates and on the first of them."""
    real = real_costs(rows)
    found: list[Choice] = []
    for setting, name in real:
        arm = arms.get(name)
        if arm is None or arm.best_of is None:
            continue
        own, drawn = real[setting, name], _drawn(real, setting, name, arm)
        if keys := _shared(own, *drawn):
            beside, first = _beside_oracle(own, drawn, keys), _difference(own, drawn[0], keys)
            found.append(Choice(setting, name, arm.of, len(drawn), *beside, first))
    return found


def learners(arms: Mapping[str, Arm], rows: Iterable[MatrixRow]) -> list[Learner]:
    """What every RL policy that is served by samples gained on samples of the policy it started from.

    These samples are the candidates of a best-of-N arm that serves its start at the same temperature; both means and
    the least are of the same contexts.
    """
    real = real_costs(rows)
    found: list[Learner] = []
    for setting, name in real:
        arm = arms.get(name)
        trained = arms.get(arm.of) if arm else None
        if not arm or not trained or trained.method != RL or arm.best_of is not None or not arm.temperature:
            continue
        for best, other in arms.items():
            same = (other.of, other.temperature) == (trained.start, arm.temperature)
            own, drawn = real[setting, name], _drawn(real, setting, best, other)
            if same and drawn and (keys := _shared(own, *drawn)):
                found.append(Learner(setting, name, trained.start, len(drawn), *_beside_oracle(own, drawn, keys)))
                break  # others draw the same samples
    return found


def doubts(arms: Mapping[str, Arm], rows: Iterable[MatrixRow]) -> list[Doubt]:
    """What pessimism changed, for every two RL arms that differ in nothing else and the second of which has none."""
    real = real_costs(rows)
    found: list[Doubt] = []
    for setting, name in real:
        for other in arms:
            key, without = _training(arms, name), _training(arms, other)
            if key is None or without is None or key[0] != without[0] or not key[1] > without[1] == 0:
                continue
            own, bold = real[setting, name], real.get((setting, other), {})
            if keys := _shared(own, bold):
                mean, mean_without = fmean(own[k] for k in keys), fmean(bold[k] for k in keys)
                difference = _difference(own, bold, keys)
                found.append(Doubt(setting, name, other, len(keys), mean, mean_without, difference))
    return found


def promises(predictions: Iterable[Prediction], rows: Iterable[MatrixRow]) -> list[Promise]:
    """Whether the predicted saving of each trained arm came true."""
    real = real_costs(rows)
    found: list[Promise] = []
    for (setting, arm), told in _by_arm(predictions).items():
        start = next((policy for policy in told if policy != arm), None)
        own, before = real.get((setting, arm), {}), real.get((setting, start or ""), {})
        if arm not in told or start is None or not own.keys() <= told[arm].keys() & before.keys() or not own:
            continue
        keys = sorted(own)
        predicted, difference = _difference(told[arm], told[start], keys), _difference(own, before, keys)
        verdict = KEPT if difference.high < 0 else GAMED if predicted.high < 0 <= difference.mean else OPEN
        covered = fmean(own[k] <= told[arm][k] for k in keys)
        found.append(Promise(setting, arm, start, len(keys), predicted, difference, covered, verdict))
    return found


def real_costs(rows: Iterable[MatrixRow]) -> dict[tuple[str, str], dict[Key, float]]:
    """Real costs by (setting, policy), then by (seed, t)."""
    by_policy = grouped(rows, lambda row: (row.setting, row.policy))
    return {key: {(row.seed, row.t): row.cost for row in some} for key, some in by_policy.items()}


def _shared(*costs: Mapping[Key, float]) -> list[Key]:
    """The (seed, t) that all of them have."""
    first, *others = costs
    return sorted(set(first).intersection(*others))


def _difference(a: Mapping[Key, float], b: Mapping[Key, float], keys: Sequence[Key]) -> Interval:
    return compare([a[k] for k in keys], [b[k] for k in keys]).difference


def _beside_oracle(own: Mapping[Key, float], drawn: Sequence[Mapping[Key, float]], keys: Sequence[Key]) -> _Beside:
    means = [fmean(one[k] for one in drawn) for k in keys]
    least = fmean(min(one[k] for one in drawn) for k in keys)
    gain = compare([own[k] for k in keys], means).difference
    oracle = fmean(means) - least
    share = -gain.mean / oracle if oracle else None
    return len(keys), fmean(means), fmean(own[k] for k in keys), least, gain, share


def _by_arm(predictions: Iterable[Prediction]) -> dict[tuple[str, str], dict[str, dict[Key, float]]]:
    """f̄ by setting and arm, then by policy, then by (seed, t)."""
    found: dict[tuple[str, str], dict[str, dict[Key, float]]] = {}
    for row in predictions:
        policies = found.setdefault((f"{row.task} {row.train_user}", row.arm), {})
        policies.setdefault(row.policy, {})[row.seed, row.t] = row.mean + row.pessimism * row.bonus
    return found


def _drawn(real: Costs, setting: str, name: str, arm: Arm) -> list[Mapping[Key, float]]:
    """What each candidate of a best-of-N arm cost."""
    return [real.get((setting, f"{name}{CANDIDATE}{k}"), {}) for k in range(arm.best_of or 0)]


def _training(arms: Mapping[str, Arm], name: str) -> tuple[object, float] | None:
    """How an RL arm was trained and is served, apart from its pessimism, and that; ``None`` for other arms."""
    arm = arms.get(name)
    trained = arm if arm is None or arm.method else arms.get(arm.of)
    if arm is None or trained is None or trained.method != RL:
        return None
    options = dict(trained.options)
    pessimism = float(options.pop("pessimism", TrainOptions().pessimism))
    served = (arm.temperature, arm.best_of, arm.by)
    return (trained.start, sorted(options.items()), served), pessimism
