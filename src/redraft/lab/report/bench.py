"""An experiment's report: page, tables, figures and summary, from the rows in its folder alone.

A run that is not finished is reported as far as it is complete. A reading of another run (``ablation``, ``cost``) takes
that run's rows and says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import ValidationError

from redraft.errors import DataError, ModelError
from redraft.lab.bench.experiment import CANDIDATE, Description
from redraft.lab.bench.folder import RunFolder
from redraft.lab.bench.gains import choices, doubts, learners, promises
from redraft.lab.bench.matrix import MatrixRow
from redraft.lab.bench.semantic import compare_costs, encoder_folder, reprice, semantic_rows
from redraft.lab.bench.summary import Summary, ablate, as_json, by_setting, replays, summarise
from redraft.lab.bench.tables import LATE, UNIFORM, Cell, Plan, planned_rows, read_plan
from redraft.lab.report.bench_sections import (
    ablation_sections,
    benchmark_sections,
    choices_section,
    cost_model_section,
    cost_sections,
    example_sections,
    real_section,
)
from redraft.lab.report.grid import signed
from redraft.lab.report.page import Page, opening, write_page
from redraft.lab.report.sections import Section
from redraft.policies.base import BASE

__all__ = ["Source", "read_source", "write_bench_report"]

Reported = tuple[Summary, list[Section]]


@dataclass(frozen=True)
class Source:
    """A run's folder as read. ``rows`` are those of the plan in its order; ``notes`` say which were left out."""

    folder: Path
    experiment: Description
    plan: Plan
    rows: Sequence[MatrixRow]
    candidates: Sequence[MatrixRow]
    notes: list[str]


def write_bench_report(folder: Path) -> Summary:
    """Write ``report.html``, ``tables.md``, ``summary.json`` and ``figures/*.svg`` into a run's folder.

    Returns what ``summary.json`` and the page hold. Raises ``DataError`` when the folder holds no experiment, a row
    cannot be used, or nothing can be written.
    """
    experiment = _described(folder, "give the folder of a run")
    source = read_source(folder if experiment.kind == "benchmark" else _rows_from(folder, experiment.rows_from))
    summary, cells = summarise(source.experiment, source.plan, source.rows, RunFolder(source.folder).training())
    summary = replace(
        summary,
        kind=experiment.kind,
        name=experiment.name,
        notes=source.notes,
        made=_made(experiment, source, folder),
    )
    if experiment.kind == "benchmark":
        summary, sections = _benchmark(summary, source, cells)
    elif experiment.kind == "ablation":
        summary = replace(summary, replays=ablate(by_setting(cells, source.plan), experiment))
        sections = ablation_sections(summary.replays or {}, with_alphas=True)
    else:
        summary, sections = _costs(summary, source, experiment, folder)
    _write(folder, summary, sections)
    return summary


def _benchmark(summary: Summary, source: Source, cells: Sequence[Cell]) -> Reported:
    run, arms = RunFolder(source.folder), source.experiment.arms
    summary = replace(summary, replays=replays(by_setting(cells, source.plan)))
    sections = benchmark_sections(summary)
    test_user = summary.test_user or source.plan.test_users[0]
    rows = [row for row in (*source.rows, *source.candidates) if row.test_user == test_user]
    found = choices(arms, rows)
    if models := run.cost_models():
        promised = promises(run.predictions(), rows)
        summary = replace(summary, cost_models=models, promises=promised, choices=found)
        summary = replace(summary, learners=learners(arms, rows), doubts=doubts(arms, rows))
        sections.append(cost_model_section(summary))
    elif found:
        summary = replace(summary, choices=found)
        sections.append(choices_section(summary))
    sections += example_sections(summary, cells, source.rows)
    if real := {file.stem: _object(file, "remove it") for file in sorted((source.folder / "real").glob("*.json"))}:
        summary = replace(summary, real=real)
        sections.append(real_section(real))
    return summary, sections


def _costs(summary: Summary, source: Source, experiment: Description, folder: Path) -> Reported:
    priced: dict[str, Sequence[MatrixRow]] = {}
    left_out: list[str] = []
    scratch = RunFolder(folder).make_work()
    for cost in experiment.costs:
        try:
            priced[cost] = _priced(cost, source.rows, experiment.encoder, scratch)
        except ModelError as error:
            left_out.append(f"{cost} is left out: {error}.")
    costs = compare_costs(priced, source.plan)
    return replace(summary, notes=[*summary.notes, *left_out], costs=costs), cost_sections(costs)


def _priced(cost: str, rows: Sequence[MatrixRow], encoder: str | None, scratch: Path) -> list[MatrixRow]:
    return semantic_rows(rows, encoder_folder(encoder, scratch)) if cost == "semantic" else reprice(rows, cost)


def read_source(folder: Path) -> Source:
    """Read a run's folder; raises ``DataError`` as ``write_bench_report`` does."""
    experiment = _described(folder, "run that experiment first")
    everything = RunFolder(folder).rows()
    found = [row for row in everything if CANDIDATE not in row.policy]
    candidates = [row for row in everything if CANDIDATE in row.policy]
    plan = read_plan(experiment, found)
    rows = planned_rows(found, plan)
    left = len(found) - len(rows)
    said = f"{left} rows are left out: another row stands for the same answer, or the experiment no longer names them."
    return Source(folder, experiment, plan, rows, candidates, [said] if left else [])


def _rows_from(folder: Path, rows_from: Path) -> Path:
    """The run that is read: as the file says, or else beside this folder, where the two were moved together."""
    return rows_from if (rows_from / "experiment.json").exists() else folder.parent / rows_from.name


def _described(folder: Path, remedy: str) -> Description:
    file = folder / "experiment.json"
    try:
        return Description.model_validate(_object(file, remedy))
    except ValidationError as error:
        wrong = error.errors()[0]
        key = ".".join(map(str, wrong["loc"]))
        raise DataError(f"{file}: {key} = {wrong['input']!r}: {wrong['msg']}: {remedy}") from error


def _object(file: Path, remedy: str) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}): {remedy}") from error
    except ValueError as error:
        raise DataError(f"{file}: not JSON ({error}): {remedy}") from error
    if not isinstance(found, dict):
        raise DataError(f"{file}: not a JSON object: {remedy}")
    return found


def _write(folder: Path, summary: Summary, sections: Sequence[Section]) -> None:
    best, message = _message(summary)
    page = Page(
        title=" ".join(dict.fromkeys((summary.kind, summary.name))),
        message=message,
        lead=" ".join(part for part in (_lead(summary), _agreement(summary)) if part),
        opening=opening(sections, (BASE, best)),
        missing=summary.missing,
        notes=summary.notes,
        sections=sections,
        made=summary.made,
    )
    write_page(folder, page, as_json(summary))


def _message(summary: Summary) -> tuple[str, str]:
    """The best single policy, and what a page says first: its cost beside the base model's, as means over settings."""
    means = [setting.mean_cost for setting in summary.settings.values()]
    if not means:
        return BASE, f"None of {summary.complete.planned} cells is complete yet: there is nothing to report."
    mean = {name: fmean(costs[name] for costs in means) for name in means[0] if all(name in m for m in means)}
    singles = {name: cost for name, cost in mean.items() if name not in (LATE, UNIFORM)}
    best = min(singles, key=singles.__getitem__)
    if best == BASE:
        return best, f"No policy beats the base model, whose answers cost {mean[BASE]:.2f} to edit."
    said = f"Answers by {best} cost {mean[best]:.2f} to edit"
    return best, f"{said}; those of the base model cost {mean[BASE]:.2f}." if BASE in mean else f"{said}."


def _lead(summary: Summary) -> str:
    """How much is complete, what choosing by chance costs, and how far each setting and method is from its best."""
    means = [setting.mean_cost for setting in summary.settings.values()]
    if not means:
        return ""
    done, planned = summary.complete.cells, summary.complete.planned
    text = f"{done} of {planned} cells are complete, in {len(means)} setting{'s' * (len(means) > 1)}. Choosing "
    text += (
        f"a policy by chance costs {fmean(m[UNIFORM] for m in means):.3f}; LateEnsemble, which had to find the best "
    )
    text += f"one while serving, paid {fmean(m[LATE] for m in means):.3f}."
    singles = [{name: cost for name, cost in m.items() if name not in (LATE, UNIFORM, BASE)} for m in means]
    if all(singles) and all(m.get(BASE) for m in means):
        shares = [min(single.values()) / m[BASE] for single, m in zip(singles, means, strict=True)]
        spread = " to ".join(dict.fromkeys(f"{share:.2f}" for share in (min(shares), max(shares))))
        text += f" The best trained policy of a setting costs {spread} of the base model."
    if summary.max_subopt:
        subopt = {name: found.mean for name, found in summary.max_subopt.items()}
        least = min(subopt, key=subopt.__getitem__)
        text += f" Max SubOpt: LateEnsemble {subopt[LATE]:.3f}, "
        text += "the lowest of all." if least == LATE else f"{least} {subopt[least]:.3f}, the lowest of all."
    return text


def _agreement(summary: Summary) -> str:
    """How far the orders under other costs agree, in one sentence; nothing where no two costs were compared."""
    settings = [setting for found in (summary.costs or {}).values() for setting in found.values()]
    known = [tau for setting in settings for tau in setting.kendall.values() if tau is not None]
    if not known:
        return ""
    return (
        f"Under two costs the policies' orders agree with Kendall's τ from {signed(min(known))} to "
        f"{signed(max(known))}, exactly in {sum(tau == 1 for tau in known)} of {len(known)} comparisons."
    )


def _made(experiment: Description, source: Source, folder: Path) -> dict[str, str]:
    run, versions = source.experiment, source.experiment.versions | experiment.versions
    said = {
        "command": experiment.command,
        "rows": "matrix.jsonl.gz" if source.folder == folder else f"those of {source.folder.name}",
        "model": run.identity or run.model,
        "cost": run.cost,
        "seeds": ", ".join(map(str, run.seeds)),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return {name: value for name, value in said.items() if value}
