"""An experiment's report: page, tables, figures and summary, from the rows in its folder alone.

A run that goes on is reported as far as it is complete. A reading of another run (``ablation``, ``cost``) takes that
run's rows and says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from redraft.errors import DataError, ModelError
from redraft.lab.bench.experiment import CANDIDATE
from redraft.lab.bench.folder import RunFolder
from redraft.lab.bench.gains import choices, doubts, learners
from redraft.lab.bench.matrix import MatrixRow
from redraft.lab.bench.promises import promises
from redraft.lab.bench.recost import compare_costs, reprice
from redraft.lab.bench.semantic import encoder_folder, semantic_rows
from redraft.lab.bench.summary import ablate, by_setting, replays, summarise
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

__all__ = ["write_bench_report"]


@dataclass(frozen=True)
class _Run:
    """What a folder holds. ``notes`` say which of its rows are not among ``rows``, the planned ones in their order."""

    experiment: Mapping[str, Any]
    plan: Plan
    rows: Sequence[MatrixRow]
    training: Sequence[Mapping[str, Any]]
    notes: list[str]
    candidates: Sequence[MatrixRow] = ()
    cost_models: Sequence[Mapping[str, Any]] = ()
    predictions: Sequence[Mapping[str, Any]] = ()


def write_bench_report(folder: Path) -> dict[str, Any]:
    """Write ``report.html``, ``tables.md``, ``summary.json`` and ``figures/*.svg`` into a run's folder.

    Returns
    -------
    dict
        The summary: ``settings[name].mean_cost[policy]``, ``max_subopt[policy]`` and all else that the page shows.

    Raises
    ------
    DataError
        When the folder holds no experiment, a row cannot be used, or nothing can be written.
    """
    experiment = _object(folder / "experiment.json", "give the folder of a run")
    kind = experiment.get("kind", "benchmark")
    source = folder if kind == "benchmark" else _source(folder, Path(experiment["rows_from"]))
    run = _read(source)
    summary, cells = summarise(run.experiment, run.plan, run.rows, run.training)
    summary["notes"] += run.notes
    sections = _KINDS[kind](folder, experiment, run, summary, cells)
    about = {
        "kind": kind,
        "name": experiment.get("name", ""),
        "made": _made(experiment, run.experiment, source, folder),
    }
    summary = {**summary, **about}
    _write(folder, summary, sections)
    return summary


def _benchmark(
    folder: Path, _experiment: Mapping[str, Any], run: _Run, summary: dict[str, Any], cells: Sequence[Cell]
) -> list[Section]:
    summary["replays"] = replays(by_setting(cells, run.plan))
    sections = benchmark_sections(summary)
    arms, test_user = run.experiment.get("arms") or {}, summary["test_user"] or run.plan.test_users[0]
    rows = [row for row in (*run.rows, *run.candidates) if row.test_user == test_user]
    if run.cost_models:
        summary["cost_models"] = list(run.cost_models)
        summary["promises"] = promises(run.predictions, rows)
        summary |= {"choices": choices(arms, rows), "learners": learners(arms, rows), "doubts": doubts(arms, rows)}
        sections.append(cost_model_section(summary))
    elif found := choices(arms, rows):
        summary["choices"] = found
        sections.append(choices_section(summary))
    sections += example_sections(summary, cells, run.rows)
    real = {file.stem: _object(file, "remove it") for file in sorted((folder / "real").glob("*.json"))}
    if real:
        summary["real"] = real
        sections.append(real_section(real))
    return sections


def _ablation(
    _folder: Path, experiment: Mapping[str, Any], run: _Run, summary: dict[str, Any], cells: Sequence[Cell]
) -> list[Section]:
    summary["replays"] = ablate(by_setting(cells, run.plan), experiment)
    return ablation_sections(summary["replays"], with_alphas=True)


def _costs(
    folder: Path, experiment: Mapping[str, Any], run: _Run, summary: dict[str, Any], _cells: Sequence[Cell]
) -> list[Section]:
    priced: dict[str, Sequence[MatrixRow]] = {}
    scratch = RunFolder(folder).make_work()
    for cost in experiment["costs"]:
        try:
            priced[cost] = _priced(cost, run.rows, experiment.get("encoder"), scratch)
        except ModelError as error:
            summary["notes"].append(f"{cost} is left out: {error}.")
    summary["costs"] = compare_costs(priced, run.plan)
    return cost_sections(summary["costs"])


_KINDS = {"benchmark": _benchmark, "ablation": _ablation, "cost": _costs}


def _priced(cost: str, rows: Sequence[MatrixRow], encoder: str | None, scratch: Path) -> list[MatrixRow]:
    return semantic_rows(rows, encoder_folder(encoder, scratch)) if cost == "semantic" else reprice(rows, cost)


def _read(folder: Path) -> _Run:
    experiment = _object(folder / "experiment.json", "run that experiment first")
    run = RunFolder(folder)
    everything = run.rows()
    found = [row for row in everything if CANDIDATE not in row.policy]
    plan = read_plan(experiment, found)
    rows = planned_rows(found, plan)
    left = len(found) - len(rows)
    said = f"{left} rows are left out: another row stands for the same answer, or the experiment no longer names them."
    return _Run(
        experiment,
        plan,
        rows,
        run.training(),
        [said] if left else [],
        [row for row in everything if CANDIDATE in row.policy],
        run.cost_models(),
        run.predictions(),
    )


def _source(folder: Path, rows_from: Path) -> Path:
    """The run that is read: as the file says, or else beside this folder, where the two were moved together."""
    return rows_from if (rows_from / "experiment.json").exists() else folder.parent / rows_from.name


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


def _write(folder: Path, summary: Mapping[str, Any], sections: Sequence[Section]) -> None:
    best, message = _message(summary)
    lead = " ".join(part for part in (_lead(summary), _agreement(summary.get("costs", {}))) if part)
    page = Page(
        title=" ".join(dict.fromkeys((summary["kind"], summary["name"]))),
        message=message,
        lead=lead,
        opening=opening(sections, (BASE, best)),
        missing=summary["missing"],
        notes=summary["notes"],
        sections=sections,
        made=summary["made"],
    )
    write_page(folder, page, summary)


def _message(summary: Mapping[str, Any]) -> tuple[str, str]:
    """The policy that is best over all settings, and what the page says first: its cost beside the base model's."""
    means = [setting["mean_cost"] for setting in summary["settings"].values()]
    if not means:
        return BASE, f"None of {summary['complete']['planned']} cells is complete yet: there is nothing to report."
    mean = {name: fmean(m[name] for m in means) for name in means[0] if all(name in m for m in means)}
    trained = [name for name in mean if name not in (LATE, UNIFORM, BASE)]
    best = min(trained, key=mean.__getitem__, default=BASE)
    said = f"Answers by {best}, the best trained policy, cost {mean[best]:.2f} to edit"
    return best, f"{said}; the base model's cost {mean[BASE]:.2f}." if BASE in mean else f"{said}."


def _lead(summary: Mapping[str, Any]) -> str:
    settings: Mapping[str, Any] = summary["settings"]
    done, planned = summary["complete"]["cells"], summary["complete"]["planned"]
    if not settings:
        return ""
    means = [setting["mean_cost"] for setting in settings.values()]
    over = f"{len(settings)} setting{'s' * (len(settings) > 1)}"
    late = fmean(m[LATE] for m in means)
    text = f"{done} of {planned} cells are complete. Over {over}, LateEnsemble paid {late:.3f} a round while it found "
    text += f"out which policy to use; a uniform choice pays {fmean(m[UNIFORM] for m in means):.3f}."
    singles = [{name: cost for name, cost in m.items() if name not in (LATE, UNIFORM, BASE)} for m in means]
    if all(singles) and all(m.get(BASE) for m in means):
        shares = [min(single.values()) / m[BASE] for single, m in zip(singles, means, strict=True)]
        spread = " to ".join(dict.fromkeys(f"{share:.2f}" for share in (min(shares), max(shares))))
        text += f" The best single trained policy costs {spread} of the base model."
    if summary["max_subopt"]:
        subopt = {name: found["mean"] for name, found in summary["max_subopt"].items()}
        least = min(subopt, key=subopt.__getitem__)
        text += f" Max SubOpt: LateEnsemble {subopt[LATE]:.3f}, "
        text += "the least of all." if least == LATE else f"{least} {subopt[least]:.3f}, the least of all."
    return text


def _agreement(costs: Mapping[str, Mapping[str, Any]]) -> str:
    """How far the orders under other costs agree, in one sentence; nothing where no two costs were compared."""
    taus = [tau for settings in costs.values() for s in settings.values() for tau in s["kendall"].values()]
    known = [tau for tau in taus if tau is not None]
    if not known:
        return ""
    return (
        f"Under two costs the policies' orders agree with Kendall's τ from {signed(min(known))} to "
        f"{signed(max(known))}, exactly in {sum(tau == 1 for tau in known)} of {len(known)} comparisons."
    )


def _made(experiment: Mapping[str, Any], source: Mapping[str, Any], rows_from: Path, folder: Path) -> dict[str, str]:
    versions = {**source.get("versions", {}), **experiment.get("versions", {})}
    said = {
        "command": experiment.get("command", ""),
        "rows": f"those of {rows_from.name}" if rows_from != folder else "matrix.jsonl.gz",
        "model": source.get("identity") or source.get("model", ""),
        "cost": source.get("cost", ""),
        "seeds": ", ".join(map(str, source.get("seeds", ()))),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return {name: str(value) for name, value in said.items() if value}
