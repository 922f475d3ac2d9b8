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
from dataclasses import asdict
from statistics import fmean
from typing import Any

from redraft.lab.bench.experiment import CANDIDATE
from redraft.lab.bench.matrix import MatrixRow
from redraft.stats import compare
from redraft.train.options import RL, TrainOptions

__all__ = ["GAMED", "KEPT", "OPEN", "Key", "choices", "doubts", "learners", "promises", "real_costs"]

KEPT, GAMED, OPEN = "kept", "gamed", "open"
"""The real cost falls for sure; a sure fall was predicted and the real mean did not fall; neither."""

Key = tuple[int, int]
"""(seed, t)."""

Described = Mapping[str, Mapping[str, Any]]
Costs = Mapping[tuple[str, str], Mapping[Key, float]]


def choices(arms: Described, rows: Iterable[MatrixRow]) -> list[dict[str, Any]]:
    """Of every best-of-N arm: what it gained on the mean of its N candidates, beside who knows their costs (oracle).

    ``against_policy`` compares it with the policy itself, whose answer is the first candidate.
    """
    real = real_costs(rows)
    found: list[dict[str, Any]] = []
    for setting, arm in list(real):
        described = arms.get(arm) or {}
        if described.get("best_of") is None:
            continue
        of, own = described.get("of"), real[setting, arm]
        drawn = _drawn(real, setting, arm, described)
        keys = sorted(set(own).intersection(*drawn))
        if not keys:
            continue
        found.append(
            {
                "setting": setting,
                "arm": arm,
                "of": of,
                "candidates": len(drawn),
                **_beside_oracle(own, drawn, keys),
                "against_policy": asdict(compare([own[k] for k in keys], [drawn[0][k] for k in keys]).difference),
            }
        )
    return found


def learners(arms: Described, rows: Iterable[MatrixRow]) -> list[dict[str, Any]]:
    """Of every RL policy that is served by samples: its gain on samples of what it began as, beside the oracle's.

    These samples are the candidates of a best-of-N arm that serves its start at the same temperature; both means and
    the least are of the same contexts.
    """
    real = real_costs(rows)
    found: list[dict[str, Any]] = []
    for setting, name in list(real):
        arm = arms.get(name) or {}
        trained = arms.get(arm.get("of") or "") or {}
        if trained.get("method") != RL or arm.get("best_of") is not None or not arm.get("temperature"):
            continue
        for best, other in arms.items():
            same = (other.get("of"), other.get("temperature")) == (trained["start"], arm["temperature"])
            own, drawn = real[setting, name], _drawn(real, setting, best, other)
            keys = sorted(set(own).intersection(*drawn)) if same and drawn else []
            if not keys:
                continue
            found.append(
                {
                    "setting": setting,
                    "arm": name,
                    "against": trained["start"],
                    "samples": len(drawn),
                    **_beside_oracle(own, drawn, keys),
                }
            )
            break  # others draw the same samples
    return found


def doubts(arms: Described, rows: Iterable[MatrixRow]) -> list[dict[str, Any]]:
    """Of every two RL arms that are alike but for pessimism, the second of which has none: what doubting changed."""
    real = real_costs(rows)
    found: list[dict[str, Any]] = []
    for setting, name in list(real):
        for other in arms:
            key, without = _training(arms, name), _training(arms, other)
            if key is None or without is None or key[0] != without[0] or not key[1] > without[1] == 0:
                continue
            own, bold = real[setting, name], real.get((setting, other), {})
            if keys := sorted(own.keys() & bold.keys()):
                found.append(
                    {
                        "setting": setting,
                        "arm": name,
                        "without": other,
                        "n": len(keys),
                        "mean": fmean(own[k] for k in keys),
                        "mean_without": fmean(bold[k] for k in keys),
                        "difference": asdict(compare([own[k] for k in keys], [bold[k] for k in keys]).difference),
                    }
                )
    return found


def promises(predictions: Iterable[Mapping[str, Any]], rows: Iterable[MatrixRow]) -> list[dict[str, Any]]:
    """Of every trained arm with predictions: predicted and real difference to what it began as, and the verdict.

    ``covered`` is the share of the arm's answers that cost no more than f̄. ``rows`` are of one test user.
    """
    real = real_costs(rows)
    found: list[dict[str, Any]] = []
    for (setting, arm), told in _by_arm(predictions).items():
        start = next((policy for policy in told if policy != arm), None)
        own, before = real.get((setting, arm), {}), real.get((setting, start or ""), {})
        if arm not in told or start is None or not own.keys() <= told[arm].keys() & before.keys() or not own:
            continue
        keys = sorted(own)
        predicted = compare([told[arm][k] for k in keys], [told[start][k] for k in keys]).difference
        difference = compare([own[k] for k in keys], [before[k] for k in keys]).difference
        verdict = KEPT if difference.high < 0 else GAMED if predicted.high < 0 <= difference.mean else OPEN
        found.append(
            {
                "setting": setting,
                "arm": arm,
                "against": start,
                "n": len(keys),
                "predicted": asdict(predicted),
                "real": asdict(difference),
                "covered": fmean(own[k] <= told[arm][k] for k in keys),
                "verdict": verdict,
            }
        )
    return found


def real_costs(rows: Iterable[MatrixRow]) -> dict[tuple[str, str], dict[Key, float]]:
    """Real costs by (setting, policy), then by (seed, t)."""
    found: dict[tuple[str, str], dict[Key, float]] = {}
    for row in rows:
        found.setdefault((f"{row.task} {row.train_user}", row.policy), {})[row.seed, row.t] = row.cost
    return found


def _beside_oracle(
    own: Mapping[Key, float], drawn: Sequence[Mapping[Key, float]], keys: Sequence[Key]
) -> dict[str, Any]:
    """What was gained on the mean of some samples, and how much of what taking their cheapest gains."""
    means = [fmean(one[k] for one in drawn) for k in keys]
    least = fmean(min(one[k] for one in drawn) for k in keys)
    gain = compare([own[k] for k in keys], means).difference
    oracle = fmean(means) - least
    return {
        "n": len(keys),
        "mean": fmean(means),
        "own": fmean(own[k] for k in keys),
        "least": least,
        "against_mean": asdict(gain),
        "share_of_oracle": -gain.mean / oracle if oracle else None,
    }


def _by_arm(predictions: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, dict[Key, float]]]:
    """f̄ by setting and arm, then by policy, then by (seed, t)."""
    found: dict[tuple[str, str], dict[str, dict[Key, float]]] = {}
    for row in predictions:
        key = (f"{row['task']} {row['train_user']}", row["arm"])
        policies = found.setdefault(key, {})
        policies.setdefault(row["policy"], {})[row["seed"], row["t"]] = row["mean"] + row["pessimism"] * row["bonus"]
    return found


def _drawn(real: Costs, setting: str, arm: str, described: Mapping[str, Any]) -> list[Mapping[Key, float]]:
    """What each candidate of a best-of-N arm cost."""
    return [real.get((setting, f"{arm}{CANDIDATE}{k}"), {}) for k in range(described.get("best_of") or 0)]


def _training(arms: Described, name: str) -> tuple[Any, float] | None:
    """How an RL arm was trained and is served, but for its pessimism; and that. None of other arms."""
    arm = arms.get(name) or {}
    trained = arm if arm.get("method") else arms.get(arm.get("of") or "") or {}
    if trained.get("method") != RL:
        return None
    options = dict(trained["options"])
    pessimism = float(options.pop("pessimism", TrainOptions().pessimism))
    served = (arm.get("temperature"), arm.get("best_of"), arm.get("by"))
    return (trained["start"], sorted(options.items()), served), pessimism
