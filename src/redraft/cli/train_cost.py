"""``redraft train cost``: what an edit of a response would cost, predicted and bounded."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from redraft.cli.output import AsJson, emit, note
from redraft.cli.session import LogUrl, bars, open_log, require_task, table
from redraft.errors import DataError

__all__ = ["train_cost"]


def train_cost(
    task: Annotated[str, typer.Argument(help="The task whose edits to learn from.")],
    *,
    holdout: Annotated[float, typer.Option(help="Share of the contexts held out to measure the model on.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Decides which contexts are held out.")] = 0,
    max_prompt: Annotated[
        int, typer.Option(min=2, help="Longest context in tokens; longer ones lose the middle.")
    ] = 512,
    max_response: Annotated[int, typer.Option(min=2, help="Longest response in tokens.")] = 512,
    limit: Annotated[int | None, typer.Option(min=2, help="Use at most so many edits, the first of the log.")] = None,
    model: Annotated[str | None, typer.Option(help="Base model, instead of model.name in the settings.")] = None,
    policies: Annotated[
        Path | None, typer.Option(help="Folder of policies, instead of policies.root in the settings.")
    ] = None,
    log: LogUrl = None,
    as_json: AsJson = False,
) -> None:
    """Learn what a response will cost its editor (eq. 5), with a bound from above."""
    from redraft.config import load_settings
    from redraft.policies.store import PolicyStore

    settings = load_settings()
    store = PolicyStore(policies or settings.policies.root)
    with open_log(log) as edit_log:
        require_task(edit_log, task)
        cost = edit_log.cost_of(task)
        interactions = list(islice(edit_log.interactions(task, edited_only=True), limit))
    if not interactions:
        raise DataError(f"task {task!r} has no edits yet: log or import some")
    folder = store.path(store.next(task, "cost"))
    from redraft.lm.load import load_base
    from redraft.train.cost_run import Features, learn_cost, write_cost

    base = load_base(model or settings.model.name, settings.cache)
    with bars() as progress:
        done = 0

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            progress("reading", done, 2 * len(interactions))

        features = Features(base, settings.cache, max_prompt, max_response, advance)
        run = learn_cost(interactions, features, cost, holdout=holdout, seed=seed)
    manifest = write_cost(folder, run, features, cost)
    found = run.heldout
    rows = {
        "on": [f"{found.n} held-out responses", *run.by_user],
        **{name: [_number(getattr(q, key)) for q in (found, *run.by_user.values())] for name, key in _SHOWN.items()},
    }
    note(f"a response costs {found.mean_cost:.3f} ± {found.deviation:.3f}; the model stands in {folder}")
    emit({"task": task, "folder": str(folder), **manifest}, as_json, table(rows))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


_SHOWN = {"R²": "r2", "rank correlation": "rank_correlation", "within the bound": "coverage", "mean bonus": "bonus"}
