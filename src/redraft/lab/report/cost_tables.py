"""Tables of what cost models are worth: how well they price, what they promised, and what arms gained by them."""

from __future__ import annotations

from collections.abc import Sequence

from redraft.lab.bench.folder import CostModelRow
from redraft.lab.bench.gains import Choice, Doubt, Learner, Promise
from redraft.lab.report.grid import Entry, Grid, between, entries, grid, number, numbers
from redraft.stats import Interval

__all__ = ["choices_grid", "cost_models_grid", "doubts_grid", "learners_grid", "promises_grid"]

VERDICTS = {"gamed": "exploited"}
"""How a page says what ``summary.json`` stores, where the two differ."""


def cost_models_grid(models: Sequence[CostModelRow]) -> Grid:
    """A line a cost model: how it does on held-out contexts of the log that it was learnt from."""
    columns = {
        "held out": "n",
        "R²": "r2",
        "rank correlation": "rank_correlation",
        "within the bound": "coverage",
        "mean bonus": "bonus",
        "costs' std": "deviation",
        "mean cost": "mean_cost",
    }
    lines = (
        (
            f"{model.task} {model.train_user}, seed {model.seed}: {model.writer}",
            entries(*(_told(model.heldout.get(key)) for key in columns.values())),
        )
        for model in models
    )
    return grid("Cost models on held-out responses of the log's own policy.", ("log of", *columns), lines)


def promises_grid(promises: Sequence[Promise]) -> Grid:
    """A line an arm: predicted and real difference to the policy it started from."""
    lines = (
        (
            f"{found.setting}: {found.arm} − {found.against}",
            [
                _between(found.predicted),
                _between(found.real),
                *entries(f"{found.covered:.0%}", VERDICTS.get(found.verdict, found.verdict)),
            ],
        )
        for found in promises
    )
    caption = "Bold: the whole 95 % interval is below 0 (paired bootstrap over seed and context)."
    return grid(caption, ("arm", "predicted (f̄)", "real", "within f̄", "promise"), lines)


def choices_grid(found: Sequence[Choice]) -> Grid:
    """A line a best-of-N arm: mean of the candidates, the chosen, the least, and the share of the possible gain."""
    lines = (
        (f"{row.setting}: {row.arm}", [*_beside_oracle(row), _between(row.against_mean), _between(row.against_policy)])
        for row in found
    )
    head = ("arm", "candidates' mean", "chosen", "least", "share of the gain", "chosen − mean", "chosen − first")
    caption = "Best of N: the first candidate is the policy's own answer, which at a temperature is a sample."
    return grid(caption, head, lines)


def learners_grid(found: Sequence[Learner]) -> Grid:
    """A line an RL policy served by samples: beside samples of the policy it started from."""
    lines = ((f"{row.setting}: {row.arm}", [*_beside_oracle(row), _between(row.against_mean)]) for row in found)
    head = ("arm", "samples of its start", "its own", "best of them", "share of the gain", "own − start")
    caption = "Policies trained by RL, answering by samples, beside samples of the policies they started from."
    return grid(caption, head, lines)


def doubts_grid(found: Sequence[Doubt]) -> Grid:
    """A line an RL arm and the same without pessimism."""
    lines = (
        (f"{row.setting}: {row.arm}", [*numbers(row.mean, row.mean_without), _between(row.difference)]) for row in found
    )
    caption = "Pessimism: the bound minimised, or the mean alone (κ = 0)."
    return grid(caption, ("arm", "bound", "mean", "bound − mean"), lines)


def _beside_oracle(row: Choice | Learner) -> list[Entry]:
    share = "–" if row.share_of_oracle is None else f"{row.share_of_oracle:.0%}"
    return [*numbers(row.mean, row.own, row.least), Entry(share)]


def _between(found: Interval) -> Entry:
    return between(found.mean, found.low, found.high)


def _told(value: float | None) -> str:
    return "–" if value is None else str(value) if isinstance(value, int) else number(value)
