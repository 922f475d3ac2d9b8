"""What a log of edits can teach, and with which method: numbers (``measure``), what follows (``advice``), a figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from redraft.costs import Cost
from redraft.diagnose.advice import Advice, Trained, advise, cautions, prefer
from redraft.diagnose.figure import plot
from redraft.diagnose.measure import Measures, measure
from redraft.types import Interaction

__all__ = ["Advice", "Diagnosis", "Measures", "Trained", "diagnose", "plot"]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was measured, which methods it supports, what to prefer and what to mind.

    ``prefer`` is a method to train, a policy (``email/sft@1``) to serve, or ``base``: nothing to train now. ``sure``:
    such logs were measured and did not go both ways, or this log's own edits say so.
    """

    measures: Measures
    advice: tuple[Advice, ...]
    prefer: str
    because: str
    sure: bool
    cautions: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything on one level, fit for JSON: no NaN, ``None`` for what cannot be known."""
        rest = asdict(self)
        return {**rest.pop("measures"), **rest}


def diagnose(
    interactions: Iterable[Interaction],
    cost: Cost,
    *,
    now: datetime | None = None,
    horizon: timedelta = timedelta(days=14),
    trained: Sequence[Trained] = (),
    model: str = "",
) -> Diagnosis:
    """Read a log once and say what it can teach.

    Parameters
    ----------
    interactions
        Of one task; texts are not kept.
    cost
        Δ(y, y'), the task's.
    now, horizon
        A completion without edit that is older than ``horizon`` at ``now``, or of unknown age, counts as censored;
        without ``now`` all are still awaited.
    trained
        The task's policies whose answers were measured on held-out edits.
    model
        The model to train; without it, any that the log names is taken for it.
    """
    measures = measure(interactions, cost, before=None if now is None else now - horizon)
    advice = advise(measures)
    method, because, sure = prefer(measures, trained, model)
    return Diagnosis(measures, advice, method, because, sure, cautions(measures))
