"""``redraft evaluate``: policies against held-out human edits."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.ground import LongestAnswer, Model, Policies, Temperature, concluded, decided
from redraft.cli.log import Columns, Format, Mapped, columns_of, rows_of
from redraft.cli.output import AsJson, emit, note
from redraft.cli.session import bars
from redraft.errors import DataError, NotFoundError
from redraft.files import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.console import Console

    from redraft.log.formats import BadRow, Row
    from redraft.policies.evaluate import Evaluation
    from redraft.types import Interaction

__all__ = ["evaluate"]


def evaluate(
    task: Annotated[str, typer.Argument(help="The task whose policies to evaluate.")],
    *,
    holdout: Annotated[Path, typer.Option(help="File of interactions that no policy was trained on.")],
    form: Annotated[Format, typer.Option("--format", help="What the file is, as for import.")] = "auto",
    mapped: Mapped = None,
    columns: Columns = "",
    policy: Annotated[
        list[str] | None,
        typer.Option(help="A policy such as sft or sft@3; repeatable. Default: the latest of every name."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use at most this many edits, from the start.")] = None,
    max_prompt: Annotated[int, typer.Option(min=2, help="Prompt tokens kept; a longer prompt loses its middle.")] = 512,
    max_response: Annotated[int, typer.Option(min=2, help="Tokens of a logged text that are scored.")] = 512,
    max_new_tokens: LongestAnswer = None,
    temperature: Temperature = None,
    cost: Annotated[str | None, typer.Option(help="Name of the cost Δ. Default: the task's.")] = None,
    policies: Policies = None,
    model: Model = None,
    out: Annotated[Path | None, typer.Option(help="Also write the result to this JSON file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare policies on held-out edits: likelihood, preference, and the distance of their own answers."""
    from redraft.config import load_settings
    from redraft.costs import get_cost
    from redraft.lm.load import load_base
    from redraft.log.formats import Options
    from redraft.policies.evaluate import evaluate as evaluate_policies
    from redraft.policies.store import PolicyStore
    from redraft.train.packing import Limits

    settings = load_settings()
    store = PolicyStore(policies or settings.policies.root)
    if not (names := policy or sorted({ref.name for ref in store.list(task)})):
        raise NotFoundError(f"task {task!r} has no policies in {store.root}: train some, or name one with --policy")
    adapters = {str(ref): store.path(ref) for ref in (store.resolve(name, task) for name in names)}
    rows = rows_of(holdout, form, Options(task, settings.log.max_text_chars, columns_of(mapped, columns)))
    heldout = _heldout(rows, holdout, limit)
    delta = get_cost(cost or settings.task(task).cost)
    decoding = decided(settings.decoding(task), max_new_tokens, temperature)
    base, limits = load_base(model or settings.model.name, settings.cache), Limits(max_prompt, max_response)
    with bars() as progress:
        evaluated = evaluate_policies(
            base, adapters, heldout, delta, limits=limits, cache=settings.cache, decoding=decoding, progress=progress
        )
    data = {
        "task": task,
        "holdout": holdout.name,
        "edits": len(heldout),
        "changed": sum(not row.unchanged for row in heldout),
        "cost": delta.name,
        "decoding": asdict(decoding),
        "model": base.identity,
        "policies": [asdict(row) for row in evaluated],
    }
    if out is not None:
        write_json(out, data, "choose another place with --out")
        note(f"result: {out}")
    emit(data, as_json, _drawn(evaluated, task))


def _heldout(rows: Iterable[Row | BadRow], holdout: Path, limit: int | None) -> list[Interaction]:
    """The edits to evaluate on, as those to train on; raises ``DataError`` when there is none."""
    from redraft.data import LeftOut

    left = LeftOut()
    heldout = list(islice(left.of(_edited(rows)), limit))
    if said := str(left):
        note(said)
    if not heldout:
        raise DataError(f"--holdout {holdout}: no edits in it")
    return heldout


def _edited(rows: Iterable[Row | BadRow]) -> Iterator[Interaction]:
    """Pick the interactions that have an edit; bad rows are reported and left out."""
    from redraft.log.formats import BadRow

    for row in rows:
        if isinstance(row, BadRow):
            note(str(row))
        elif row.interaction.edited is not None:
            yield row.interaction


def _drawn(evaluated: Sequence[Evaluation], task: str) -> Callable[[Console], None]:
    """Draw one row for each number of each policy: side by side, intervals do not fit a terminal."""
    named = {row.policy.removeprefix(f"{task}/"): row for row in evaluated}
    measures = ("distance", "against_base", "log_likelihood", "prefers_edit", "prefers_edit_over_reference")
    rows = [(m, name, found) for m in measures for name, row in named.items() if (found := getattr(row, m))]
    columns = {
        "measure": [measure.replace("_", " ") for measure, *_ in rows],
        "policy": [name for _, name, _ in rows],
        "mean": [f"{found.mean:.3f}" for *_, found in rows],
        "95 % interval": [f"{found.low:.3f} to {found.high:.3f}" for *_, found in rows],
    }
    verdicts = {name: row.verdict for name, row in named.items() if row.verdict}
    then = f"redraft diagnose {task}, to see what this log can teach"
    if any(said.startswith("better") for said in verdicts.values()):
        then = "redraft serve, to let the policies answer; only edits of their own answers tell what they cost"
    return concluded(columns, verdicts, then)
