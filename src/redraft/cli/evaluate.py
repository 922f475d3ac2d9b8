"""``redraft evaluate``: policies against held-out human edits."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.log import Format, columns_of
from redraft.cli.output import AsJson, emit, note
from redraft.errors import ConfigError, DataError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redraft.log.formats import Options
    from redraft.policies.evaluate import Evaluation
    from redraft.stats import Interval
    from redraft.types import Interaction

__all__ = ["evaluate"]


def evaluate(
    task: Annotated[str, typer.Argument(help="The task whose policies to evaluate.")],
    *,
    holdout: Annotated[Path, typer.Option(help="File of interactions that no policy was trained on.")],
    form: Annotated[Format, typer.Option("--format", help="What the file is, as for import.")] = Format.NATIVE,
    columns: Annotated[str, typer.Option(help="CSV columns by field, as for import.")] = "",
    policy: Annotated[
        list[str] | None, typer.Option(help="A policy, repeatable; the latest of every name when not given.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use at most so many edits, the first of the file.")] = None,
    max_prompt: Annotated[int, typer.Option(min=2, help="Prompt tokens kept; a longer prompt loses its middle.")] = 512,
    max_response: Annotated[int, typer.Option(min=2, help="Tokens of a logged text that are scored.")] = 512,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 64,
    cost: Annotated[str | None, typer.Option(help="Name of the cost Δ; the task's one when not given.")] = None,
    policies: Annotated[Path | None, typer.Option(help="Folder of policies, instead of policies.root.")] = None,
    model: Annotated[str | None, typer.Option(help="Base model, instead of model.name in the settings.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the result to this JSON file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare policies on held-out edits: likelihood, preference, and the distance of their own answers."""
    from redraft.cli.session import bars, table
    from redraft.config import load_settings
    from redraft.costs import get_cost
    from redraft.lm.load import load_base
    from redraft.log.formats import Options
    from redraft.policies.evaluate import evaluate as evaluate_policies
    from redraft.policies.store import PolicyStore
    from redraft.train.packing import Limits

    settings = load_settings()
    store = PolicyStore(policies or settings.policies.root)
    references = [store.resolve(name) for name in policy or sorted({f"{r.task}/{r.name}" for r in store.list(task)})]
    if not references:
        raise NotFoundError(f"task {task!r} has no policies in {store.root}: train some, or name one with --policy")
    heldout = list(
        islice(_edited(holdout, form, Options(task, settings.log.max_text_chars, columns_of(columns))), limit)
    )
    if not heldout:
        raise DataError(f"--holdout {holdout}: no edits in it")
    delta = get_cost(cost or settings.task(task).cost)
    base = load_base(model or settings.model.name, settings.cache)
    with bars() as progress:
        found = evaluate_policies(
            base,
            {str(reference): store.path(reference) for reference in references},
            heldout,
            delta,
            limits=Limits(max_prompt, max_response),
            cache=settings.cache,
            max_new_tokens=max_new_tokens,
            progress=progress,
        )
    data = {
        "task": task,
        "holdout": holdout.name,
        "edits": len(heldout),
        "changed": sum(not row.unchanged for row in heldout),
        "cost": delta.name,
        "model": base.identity,
        "policies": [asdict(row) for row in found],
    }
    if out is not None:
        _write(out, data)
    emit(data, as_json, table(_columns(found)))


def _edited(file: Path, form: Format, options: Options) -> Iterator[Interaction]:
    """Read the interactions of a file that have an edit; a bad row is told and left out."""
    from redraft.log.formats import READERS, BadRow

    for row in READERS[form](file, options):
        if isinstance(row, BadRow):
            note(str(row))
        elif row.interaction.edited is not None:
            yield row.interaction


def _columns(found: list[Evaluation]) -> dict[str, list[str]]:
    names = ("log_likelihood", "prefers_edit", "prefers_edit_over_reference", "distance")
    return {"policy": [row.policy for row in found]} | {
        name.replace("_", " "): [_shown(getattr(row, name)) for row in found] for name in names
    }


def _shown(value: Interval | None) -> str:
    return "–" if value is None else f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"


def _write(out: Path, data: dict[str, Any]) -> None:
    scratch = out.with_name(f".{out.name}.new")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", "utf-8")
        scratch.replace(out)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror}): choose another place") from error
    note(f"result: {out}")
