"""Tables of what cost models are worth: how well they price, what they promised, and what arms gained by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from redraft.lab.report.grid import Entry, Grid, Line, number, signed

__all__ = ["choices_grid", "cost_models_grid", "doubts_grid", "learners_grid", "promises_grid"]


def cost_models_grid(models: Sequence[Mapping[str, Any]]) -> Grid:
    """A line a cost model: how it does on held-out contexts of the log that it was learnt from."""
    keys = ("n", "r2", "rank_correlation", "coverage", "bonus", "deviation", "mean_cost")
    lines = [
        Line(
            f"{model['task']} {model['train_user']}, seed {model['seed']}: {model['writer']}",
            tuple(Entry(_told(model["heldout"].get(key))) for key in keys),
        )
        for model in models
    ]
    head = ("log of", "held out", "R²", "rank correlation", "within the bound", "mean bonus", "costs' std", "mean cost")
    return Grid("Cost models on held-out responses of the log's own policy.", head, tuple(lines))


def promises_grid(promises: Sequence[Mapping[str, Any]]) -> Grid:
    """A line an arm: predicted and real difference to what it began as."""
    lines = [
        Line(
            f"{found['setting']}: {found['arm']} − {found['against']}",
            (
                _between(found["predicted"]),
                _between(found["real"]),
                Entry(f"{found['covered']:.0%}"),
                Entry(found["verdict"]),
            ),
        )
        for found in promises
    ]
    caption = "Bold: below 0 in the whole 95 % interval (paired bootstrap over seed and context)."
    return Grid(caption, ("arm", "predicted (f̄)", "real", "within f̄", "promise"), tuple(lines))


def choices_grid(found: Sequence[Mapping[str, Any]]) -> Grid:
    """A line a best-of-N arm: candidates in the mean, the chosen, the least, and the share of the possible gain."""
    lines = [
        Line(
            f"{row['setting']}: {row['arm']}",
            (
                *(Entry(number(row[key])) for key in ("mean", "own", "least")),
                _share(row["share_of_oracle"]),
                _between(row["against_mean"]),
                _between(row["against_policy"]),
            ),
        )
        for row in found
    ]
    head = ("arm", "candidates' mean", "chosen", "least", "share of the gain", "chosen − mean", "chosen − first")
    return Grid(
        "Best of N: the first candidate is the policy's own answer, which at a temperature is a sample.",
        head,
        tuple(lines),
    )


def learners_grid(found: Sequence[Mapping[str, Any]]) -> Grid:
    """A line an RL policy served by samples: beside the samples of what it began as."""
    lines = [
        Line(
            f"{row['setting']}: {row['arm']}",
            (
                *(Entry(number(row[key])) for key in ("mean", "own", "least")),
                _share(row["share_of_oracle"]),
                _between(row["against_mean"]),
            ),
        )
        for row in found
    ]
    head = ("arm", "samples of its start", "its own", "best of them", "share of the gain", "own − start")
    return Grid(
        "Policies trained by RL, answering by samples, beside the samples of what they began as.", head, tuple(lines)
    )


def doubts_grid(found: Sequence[Mapping[str, Any]]) -> Grid:
    """A line an RL arm and the same without pessimism."""
    lines = [
        Line(
            f"{row['setting']}: {row['arm']}",
            (Entry(number(row["mean"])), Entry(number(row["mean_without"])), _between(row["difference"])),
        )
        for row in found
    ]
    return Grid(
        "Pessimism: the bound minimised, or the mean alone (κ = 0).",
        ("arm", "bound", "mean", "bound − mean"),
        tuple(lines),
    )


def _between(found: Mapping[str, float]) -> Entry:
    text = f"{signed(found['mean'])} [{signed(found['low'])}, {signed(found['high'])}]"
    return Entry(text, found["high"] < 0)


def _share(of_oracle: float | None) -> Entry:
    return Entry("–" if of_oracle is None else f"{of_oracle:.0%}")


def _told(value: float | None) -> str:
    return "–" if value is None else str(value) if isinstance(value, int) else number(value)
