"""What cost models promised, beside what users then did: whether a predicted saving came true (eq. 6).

A policy that was trained on predictions, or chosen by them, may find what the model prices wrongly instead of what
costs little. Its promise is the fall of f̄ from the policy it began as to its own answers, on contexts that neither
saw; whether the real cost falls too is for the rows to say. Intervals are paired bootstraps over (seed, context).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from redraft.bench.experiment import CANDIDATE
from redraft.bench.matrix import MatrixRow
from redraft.bench.stats import compare

__all__ = ["GAMED", "KEPT", "OPEN", "choices", "promises"]

KEPT, GAMED, OPEN = "kept", "gamed", "open"
"""The real cost falls for sure; a sure fall was predicted and the real mean did not fall; neither."""

Key = tuple[int, int]


def promises(predictions: Iterable[Mapping[str, Any]], rows: Iterable[MatrixRow]) -> list[dict[str, Any]]:
    """Of every trained arm with predictions: predicted and real difference to what it began as, and the verdict.

    ``covered`` is the share of the arm's answers that cost no more than f̄. ``rows`` are of one test user.
    """
    real = _real(rows)
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


def choices(arms: Mapping[str, Mapping[str, Any]], rows: Sequence[MatrixRow]) -> list[dict[str, Any]]:
    """Of every best-of-N arm: what it gained on the mean of its N candidates, beside who knows their costs (oracle).

    ``against_policy`` compares it with the policy itself, whose answer is the first candidate.
    """
    real = _real(rows)
    found: list[dict[str, Any]] = []
    for setting, arm in list(real):
        described = arms.get(arm) or {}
        if described.get("best_of") is None:
            continue
        of, own = described.get("of"), real[setting, arm]
        drawn = [real.get((setting, f"{arm}{CANDIDATE}{k}"), {}) for k in range(described["best_of"])]
        keys = sorted(set(own).intersection(*drawn))
        if not keys:
            continue
        means = [fmean(one[k] for one in drawn) for k in keys]
        least = [min(one[k] for one in drawn) for k in keys]
        gain = compare([own[k] for k in keys], means).difference
        oracle = fmean(means) - fmean(least)
        found.append(
            {
                "setting": setting,
                "arm": arm,
                "of": of,
                "candidates": len(drawn),
                "n": len(keys),
                "mean": fmean(means),
                "chosen": fmean(own[k] for k in keys),
                "least": fmean(least),
                "against_mean": asdict(gain),
                "against_policy": asdict(compare([own[k] for k in keys], [drawn[0][k] for k in keys]).difference),
                "share_of_oracle": -gain.mean / oracle if oracle else None,
            }
        )
    return found


def _by_arm(predictions: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, dict[Key, float]]]:
    """f̄ by setting and arm, then by policy, then by (seed, t)."""
    found: dict[tuple[str, str], dict[str, dict[Key, float]]] = {}
    for row in predictions:
        key = (f"{row['task']} {row['train_user']}", row["arm"])
        policies = found.setdefault(key, {})
        policies.setdefault(row["policy"], {})[row["seed"], row["t"]] = row["mean"] + row["pessimism"] * row["bonus"]
    return found


def _real(rows: Iterable[MatrixRow]) -> dict[tuple[str, str], dict[Key, float]]:
    found: dict[tuple[str, str], dict[Key, float]] = {}
    for row in rows:
        found.setdefault((f"{row.task} {row.train_user}", row.policy), {})[row.seed, row.t] = row.cost
    return found
