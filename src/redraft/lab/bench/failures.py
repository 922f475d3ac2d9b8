"""How policies fail, counted: what their answers look like, and what training did to the edited texts.

Left out: the share of answers that ran into the token limit. Rows hold texts, not token counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from redraft.lab.bench.matrix import MatrixRow
from redraft.policies.trim import trim

__all__ = ["STRETCH", "answer_faults", "chosen_runs", "collapse", "curve"]

STRETCH = 40
"""Characters: an answer in which so long a stretch stands twice repeats itself."""


def answer_faults(rows: Iterable[MatrixRow]) -> dict[str, dict[str, float]]:
    """By policy: shares of answers ``empty``, ``repeating`` and kept ``unchanged``, and their mean ``words``."""
    by_policy: dict[str, list[MatrixRow]] = {}
    for row in rows:
        by_policy.setdefault(row.policy, []).append(row)
    return {
        policy: {
            "answers": len(found),
            "empty": fmean(not row.response.strip() for row in found),
            "repeating": fmean(trim(row.response, STRETCH) != row.response for row in found),
            "unchanged": fmean(row.response == row.edited for row in found),
            "words": fmean(len(row.response.split()) for row in found),
        }
        for policy, found in by_policy.items()
    }


def chosen_runs(training: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The runs that became policies, without the other trials of their sweeps."""
    return [run for run in training if run.get("chosen")]


def collapse(run: Mapping[str, Any]) -> dict[str, Any]:
    """Held-out log-probabilities at the epoch that was kept, in nats a response above the reference.

    ``collapsed``: the edited texts have become less likely than they were before training.
    """
    metrics = run.get("metrics") or {}
    chosen = metrics.get("chosen_above_reference")
    return {
        **{key: run.get(key) for key in ("seed", "task", "train_user", "method")},
        "chosen": chosen,
        "rejected": metrics.get("rejected_above_reference"),
        "collapsed": None if chosen is None else chosen < 0,
    }


def curve(run: Mapping[str, Any]) -> list[dict[str, float]]:
    """Held-out log-probabilities after each epoch, in nats above the reference; both are 0 before the first."""
    names = {"chosen_logp": "eval_chosen_above_reference", "rejected_logp": "eval_rejected_above_reference"}
    points = [line for line in run.get("history") or () if names["chosen_logp"] in line]
    start = {"step": 0.0, "chosen_logp": 0.0, "rejected_logp": 0.0}
    return [start, *({"step": p["step"]} | {k: p[v] for k, v in names.items() if v in p} for p in points)]
