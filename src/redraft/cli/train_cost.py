"""``redraft train cost``: what an edit of a response would cost, predicted and bounded."""

from __future__ import annotations

from typing import Annotated

import typer

from redraft.cli.ground import Source, learn_cost_model, read_edits
from redraft.cli.options import options_from
from redraft.cli.output import AsJson, emit, note
from redraft.cli.session import bars, table

__all__ = ["number", "train_cost"]


@options_from(Source, "source")
def train_cost(
    task: Annotated[str, typer.Argument(help="The task whose edits to learn from.")],
    *,
    source: Source,
    holdout: Annotated[float, typer.Option(help="Share of the contexts held out to measure the model on.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Decides which contexts are held out.")] = 0,
    max_prompt: Annotated[int, typer.Option(min=2, help="Prompt tokens kept; a longer prompt loses its middle.")] = 512,
    max_response: Annotated[int, typer.Option(min=2, help="Response tokens kept.")] = 512,
    as_json: AsJson = False,
) -> None:
    """Learn what a response will cost its editor (eq. 5), with an upper bound."""
    edits = read_edits(task, source)
    from redraft.lm.load import load_base

    base = load_base(edits.model, edits.cache)
    with bars() as progress:
        folder, learnt, manifest = learn_cost_model(
            edits, base, progress, max_prompt=max_prompt, max_response=max_response, holdout=holdout, seed=seed
        )  # fmt: skip
    found = learnt.heldout
    rows = {"on": [f"{found.n} held-out responses", *learnt.by_user]}
    rows |= {
        name: [number(getattr(quality, key)) for quality in (found, *learnt.by_user.values())]
        for name, key in _SHOWN.items()
    }
    note(f"a response costs {found.mean_cost:.3f} ± {found.deviation:.3f}; the model is in {folder}")
    emit({"task": task, "folder": str(folder), **manifest}, as_json, table(rows))


def number(value: float | None) -> str:
    """Three decimals, or a dash where there is no number."""
    return "–" if value is None else f"{value:.3f}"


_SHOWN = {"R²": "r2", "rank correlation": "rank_correlation", "within the bound": "coverage", "mean bonus": "bonus"}
