"""Everything a benchmark's page shows, as plain data made from rows: the content of ``summary.json``.

``settings`` and ``max_subopt`` are those of the first test user, ``tables`` has them for every test user. Whatever is
not complete is left out of the numbers and named in ``missing``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from redraft.lab.bench import failures, regret
from redraft.lab.bench.matrix import MatrixRow
from redraft.lab.bench.paper import PaperTable, paper_table
from redraft.lab.bench.subopt import late_against_median, max_subopt, subopt_intervals
from redraft.lab.bench.tables import (
    SHARE_OF_BASE,
    TARGET,
    UNIFORM,
    Cell,
    Plan,
    comparisons,
    complete_cells,
    intervals,
    kendall,
    mean_costs,
    rivals,
    winner,
)

__all__ = ["ablate", "by_setting", "replays", "summarise"]

Rows = Sequence[MatrixRow]


def summarise(
    experiment: Mapping[str, Any], plan: Plan, rows: Rows, training: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], list[Cell]]:
    """The summary of a benchmark's planned rows, and the complete cells of its first test user that has any."""
    cells, missing = complete_cells(rows, plan)
    pairs = rivals(experiment.get("arms") or {})
    tables = {user: _table(user, found, plan, pairs) for user, found in _grouped(cells, "test_user").items()}
    first = next(iter(tables), None)
    shown = [cell for cell in cells if cell.test_user == first]
    planned = len(plan.seeds) * len(plan.tasks) * len(plan.train_users) * len(plan.test_users)
    chosen = failures.chosen_runs(training)
    summary = {
        "name": experiment.get("name", ""),
        "complete": {"cells": len(cells), "planned": planned},
        "missing": missing,
        "notes": [],
        "test_user": first,
        "settings": tables[first]["settings"] if first else {},
        "max_subopt": tables[first]["max_subopt"] if first else {},
        "tables": tables,
        "answers": _answers(rows, shown),
        "collapse": [failures.collapse(run) for run in chosen],
        "training": _training(chosen),
    }
    return summary, shown


def by_setting(cells: Sequence[Cell], plan: Plan) -> dict[str, list[Cell]]:
    """Cells of one test user by setting, in the plan's order."""
    found = _grouped(cells, "setting")
    return {name: found[name] for name in plan.settings if name in found}


def replays(cells: Mapping[str, Sequence[Cell]]) -> dict[str, Any]:
    """By setting, what LateEnsemble does: its regret, and the ablation under the defaults of ``regret.py``."""
    return {name: {"regret": regret.regret_curves(cells[name]), **found} for name, found in ablate(cells, {}).items()}


def ablate(cells: Mapping[str, Sequence[Cell]], ablation: Mapping[str, Any]) -> dict[str, Any]:
    """By setting, what an ablation file asks for: its values of α, its subsets of arms, its values of T."""
    return {
        name: {
            "alpha": regret.alpha_curve(found, ablation.get("alphas") or regret.default_alphas(found)),
            "subsets": regret.subsets(found, ablation.get("arms") or ()),
            "horizon": regret.horizon(found, ablation.get("rounds") or regret.ROUNDS),
        }
        for name, found in cells.items()
    }


def _table(test_user: str, cells: Sequence[Cell], plan: Plan, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    grouped = by_setting(cells, plan)
    settings = {name: _setting(found, pairs) for name, found in grouped.items()}
    subopt = max_subopt(cells, plan.settings)
    drawn = subopt_intervals(cells, plan.settings)
    table: dict[str, Any] = {
        "settings": settings,
        "max_subopt": {name: asdict(spread) | {"interval": drawn["interval"][name]} for name, spread in subopt.items()},
        "checks": _checks(settings),
    }
    if subopt:
        table["late_against_median"] = late_against_median(subopt) | {"below": drawn["below"]}
    paper = paper_table(test_user, plan.train_users)
    if paper is not None:
        table["paper"] = _shape(settings, paper)
    return table


def _setting(cells: Sequence[Cell], pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    spreads = mean_costs(cells)
    means = {name: spread.mean for name, spread in spreads.items()}
    return {
        "seeds": [cell.seed for cell in cells],
        "rounds": len(cells[0].contexts),
        "mean_cost": means,
        "std": {name: spread.std for name, spread in spreads.items()},
        "interval": intervals(cells),
        "by_seed": {name: dict(spread.by_seed) for name, spread in spreads.items()},
        "winner": winner(means),
        "comparisons": comparisons(cells, pairs),
    }


def _checks(settings: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Two claims in every setting: whether the point estimate holds, and whether the whole interval does."""
    claims = {
        f"the best single trained policy costs at most {TARGET} of the base model": SHARE_OF_BASE,
        "LateEnsemble costs less than the uniform choice": UNIFORM,
    }
    return [{"claim": claim, "rows": _checked(settings, against)} for claim, against in claims.items()]


def _checked(settings: Mapping[str, Mapping[str, Any]], against: str) -> list[dict[str, Any]]:
    return [
        {"setting": name, **row, "holds": row["difference"] <= 0, "sure": row["high"] <= 0}
        for name, setting in settings.items()
        for row in setting["comparisons"]
        if row["b"] == against
    ]


def _shape(settings: Mapping[str, Mapping[str, Any]], paper: PaperTable) -> dict[str, Any]:
    """Who wins where, here and in the paper, and how far the orders of the methods agree."""
    compared: dict[str, Any] = {}
    for name, setting in settings.items():
        task, _, user = name.partition(" ")
        theirs = paper.mean_cost.get(f"{task} {user.rpartition(':')[2]}")
        if theirs is None:
            continue
        ours = {method: cost for method, cost in setting["mean_cost"].items() if method in theirs}
        compared[name] = {
            "winner": winner(ours),
            "paper_winner": winner(theirs),
            "order": sorted(ours, key=ours.__getitem__),
            "paper_order": sorted(theirs, key=theirs.__getitem__),
            "kendall": kendall(ours, theirs),
            "paper_cost": dict(theirs),
        }
    return {"name": paper.name, "settings": compared, "max_subopt": dict(paper.max_subopt)}


def _answers(rows: Rows, cells: Sequence[Cell]) -> dict[str, Any]:
    counted = {(cell.seed, cell.setting, cell.test_user) for cell in cells}
    found: dict[str, list[MatrixRow]] = {}
    for row in rows:
        setting = f"{row.task} {row.train_user}"
        if (row.seed, setting, row.test_user) in counted:
            found.setdefault(setting, []).append(row)
    return {setting: failures.answer_faults(some) for setting, some in found.items()}


def _training(chosen: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for run in chosen:
        points = failures.curve(run)
        if len(points) > 1:
            setting = found.setdefault(f"{run['task']} {run['train_user']}", {})
            setting.setdefault(run["method"], []).append({"seed": run["seed"], "points": points})
    return found


def _grouped(cells: Sequence[Cell], field: str) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(getattr(cell, field), []).append(cell)
    return found
