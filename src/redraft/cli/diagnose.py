"""``redraft diagnose``: what a log can teach, for a person, as JSON or as a figure."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.output import AsJson, emit, note
from redraft.cli.session import LogUrl, open_log, require_task, table
from redraft.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console

    from redraft.diagnose import Diagnosis, Trained
    from redraft.diagnose.measure import Group, Summary
    from redraft.policies.store import PolicyStore

__all__ = ["diagnose"]

MOST = 10
"""Users and policies shown to a person; ``--json`` has them all."""
NUMBERS = ("mean", "std", "q1", "median", "q3", "max")


def diagnose(
    task: Annotated[str, typer.Argument(help="Task whose edits to read.")],
    log: LogUrl = None,
    cost: Annotated[str | None, typer.Option(help="Name of the cost Δ. Default: the task's.")] = None,
    as_json: AsJson = False,
    figure: Annotated[Path | None, typer.Option(help="Also draw the costs: a .png, .svg or .pdf file.")] = None,
) -> None:
    """Show what the edits of a task can teach, and what to train or serve next."""
    from datetime import UTC, datetime

    from redraft import diagnose as library
    from redraft.config import load_settings
    from redraft.costs import normalised
    from redraft.data import LeftOut
    from redraft.policies.store import PolicyStore

    settings = load_settings()
    delta = settings.cost_of(task, cost)
    left = LeftOut(lambda _: normalised(delta, ()))  # what software did is counted, too
    with open_log(log) as edits:
        require_task(edits, task)
        given = left.of(edits.interactions(task))
        store = PolicyStore(settings.policies.root)
        trained = _trained(task, store)
        found = library.diagnose(
            given,
            delta,
            now=datetime.now(UTC),
            horizon=edits.horizon,
            trained=trained,
            model=settings.model.name,
        )
        several, differing = edits.shared(task)
    if several:
        note(f"{several:,} completions have edits of several people, {differing:,} differ: the latest one counts")
    if left.counts:
        note(str(left))
    if figure is not None:
        library.plot(found.measures, figure)
        note(f"figure: {figure}")
    temperature = settings.task(task).decoding.temperature
    served = {str(standing.ref) for standing in store.standing(task, temperature) if standing.served}
    people = {"edited_by_several": several, "differing": differing}
    emit(
        {"task": task, **people, **found.as_dict()},
        as_json,
        lambda console: _render(console, task, found, log, served),
    )


def _render(console: Console, task: str, found: Diagnosis, log: str | None, served: Collection[str]) -> None:
    from rich.markup import escape

    measures = found.measures
    what = "completion" if measures.completions == 1 else "completions"
    console.print(
        f"[bold]{escape(task)}[/]: {measures.completions:,} {what}, {measures.edits:,} with an edit "
        f"({measures.changed:,} changed, {measures.unchanged:,} unchanged), "
        f"{measures.awaiting:,} awaited, {measures.censored:,} censored"
    )
    for kinds, count in measures.hidden.items():
        console.print(f"{count:,} edits differ from the response only in {kinds}: unchanged")
    for kinds, count in measures.told.items():
        console.print(
            f"{count:,} changed edits differ only in {kinds}, which tasks.{task}.normalise can hide", markup=False
        )
    if measures.divided and measures.raw and measures.whitespace_distance:
        rows = {f"cost ({measures.cost})": measures.divided, "raw distance": measures.raw}
        table(_costs({**rows, "white-space words": measures.whitespace_distance}))(console)
    for title, groups in (("user", measures.users), ("policy chosen", measures.policies)):
        if groups:
            table(_groups(title, groups[:MOST]))(console)
        if len(groups) > MOST:
            console.print(f"and {len(groups) - MOST} more")
    table(
        {
            "method": [advice.method for advice in found.advice],
            "supported": ["yes" if advice.supported else "no" for advice in found.advice],
            "why": [advice.reason for advice in found.advice],
        }
    )(console)
    console.print(f"Prefer [bold]{found.prefer}[/]. {found.because}")
    for caution in found.cautions:
        console.print(f"[yellow]Caution:[/] {caution}")
    console.print(f"Next: redraft {_next(found, task, log, served)}", markup=False, soft_wrap=True)


def _next(found: Diagnosis, task: str, log: str | None, served: Collection[str]) -> str:
    """The command that comes next: where nothing is sure, the one that finds out more."""
    if found.prefer in served:
        return "serve"
    policy = "/" in found.prefer
    if policy and found.sure:
        return f"policies promote {found.prefer}"
    more = (
        "import FILE --task" if policy or found.prefer == "base" else f"train {found.prefer if found.sure else 'all'}"
    )
    return f"{more} {task}" + (f" --log {log}" if log else "")


def _trained(task: str, store: PolicyStore) -> list[Trained]:
    """The task's policies whose answers were measured on held-out edits."""
    from redraft.diagnose import Trained
    from redraft.train.runs import read_manifest

    found = list[Trained]()
    for ref in store.list(task):
        with suppress(DataError):  # ``redraft policies`` says what is wrong with it
            manifest = read_manifest(store.path(ref))
            if manifest.distances is not None:
                held, edits = manifest.told_by, manifest.data["train"] + manifest.data["heldout"]
                _, high = manifest.evaluation.get("against_base", (None, None))
                found.append(Trained(str(ref), manifest.options["method"], *manifest.distances, held, edits, high))
    return found


def _costs(summaries: dict[str, Summary]) -> dict[str, list[str]]:
    return {
        "": list(summaries),
        **{name: [_number(getattr(s, name)) for s in summaries.values()] for name in NUMBERS},
        "0": [f"{s.share_0:.0%}" for s in summaries.values()],
        "> 1": [f"{s.share_above_1:.0%}" for s in summaries.values()],
    }


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _groups(title: str, groups: tuple[Group, ...]) -> dict[str, list[str]]:
    return {
        title: [group.name for group in groups],
        "edits": [f"{group.edits:,}" for group in groups],
        "mean cost": [_number(group.mean) for group in groups],
        "std/mean": ["" if group.variation is None else f"{group.variation:.2f}" for group in groups],
    }
