"""What cost models promised, beside what users then did: whether a predicted saving came true (eq. 6).

A policy that was trained on predictions, or chosen by them, may find what the model prices wrongly instead of what
costs little. Its promise is the fall of f̄ from the policy it began as to its own answers, on contexts that neither
saw; whether the real cost falls too is for the rows to say. Intervals are paired bootstraps over (seed, context).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from statistics import fmean
from typing import Any

from redraft.lab.bench.gains import Key, real_costs
from redraft.lab.bench.matrix import MatrixRow
from redraft.stats import compare

__all__ = ["GAMED", "KEPT", "OPEN", "promises"]

KEPT, GAMED, OPEN = "kept", "gamed", "open"
"""The real cost falls for sure; a sure fall was predicted and the real mean did not fall; neither."""


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


def _by_arm(predictions: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, dict[Key, float]]]:
    """f̄ by setting and arm, then by policy, then by (seed, t)."""
    found: dict[tuple[str, str], dict[str, dict[Key, float]]] = {}
    for row in predictions:
        key = (f"{row['task']} {row['train_user']}", row["arm"])
        policies = found.setdefault(key, {})
        policies.setdefault(row["policy"], {})[row["seed"], row["t"]] = row["mean"] + row["pessimism"] * row["bonus"]
    return found
