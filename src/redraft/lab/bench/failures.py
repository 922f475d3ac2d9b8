"""How policies fail, counted: what their answers look like, and what training did to the edited texts.

Left out: the share of answers that ran into the token limit. Rows hold texts, not token counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from redraft.lab.bench.folder import TrainedRun
from redraft.lab.bench.matrix import MatrixRow, grouped
from redraft.lm.trim import trim

__all__ = ["STRETCH", "Collapse", "Faults", "answer_faults", "chosen_runs", "collapse", "curve"]

STRETCH = 40
"""Characters: an answer repeats itself when a stretch of this length occurs twice in it."""


@dataclass(frozen=True, slots=True)
class Faults:
    """How many answers a policy gave, shares of them with a fault, the share kept unchanged, and their mean length."""

    answers: int
    empty: float
    repeating: float
    unchanged: float
    words: float


@dataclass(frozen=True, slots=True)
class Collapse:
    """Held-out log-probabilities of a run at the epoch that was kept, in nats a response above the reference.

    ``collapsed``: the edited texts have become less likely than they were before training.
    """

    seed: int
    task: str
    train_user: str
    method: str
    chosen: float | None
    rejected: float | None
    collapsed: bool | None


def answer_faults(rows: Iterable[MatrixRow]) -> dict[str, Faults]:
    """Count the faults of each policy's answers."""
    return {
        policy: Faults(
            answers=len(found),
            empty=fmean(not row.response.strip() for row in found),
            repeating=fmean(trim(row.response, STRETCH) != row.response for row in found),
            unchanged=fmean(row.response == row.edited for row in found),
            words=fmean(len(row.response.split()) for row in found),
        )
        for policy, found in grouped(rows, lambda row: row.policy).items()
    }


def chosen_runs(training: Sequence[TrainedRun]) -> list[TrainedRun]:
    """The runs that became policies, without the other trials of their sweeps."""
    return [run for run in training if run.chosen]


def collapse(run: TrainedRun) -> Collapse:
    """Whether a run made the edited texts less likely."""
    chosen, rejected = (run.metrics.get(f"{text}_above_reference") for text in ("chosen", "rejected"))
    below = None if chosen is None else chosen < 0
    return Collapse(run.seed, run.task, run.train_user, run.method, chosen, rejected, below)


def curve(history: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """Held-out log-probabilities after each epoch, in nats above the reference; both are 0 before the first."""
    names = {"chosen_logp": "eval_chosen_above_reference", "rejected_logp": "eval_rejected_above_reference"}
    points = [line for line in history if names["chosen_logp"] in line]
    start = {"step": 0.0, "chosen_logp": 0.0, "rejected_logp": 0.0}
    return [start, *({"step": p["step"]} | {k: p[v] for k, v in names.items() if v in p} for p in points)]
