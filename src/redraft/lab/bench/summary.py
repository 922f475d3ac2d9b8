"""What a benchmark's page shows, made from rows: the content of ``summary.json``.

``settings`` and ``max_subopt`` are those of the first test user, ``tables`` has them for every test user. Whatever is
not complete is left out of the numbers and named in ``missing``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from redraft.lab.bench import failures, regret
from redraft.lab.bench.experiment import Description
from redraft.lab.bench.folder import CostModelRow, TrainedRun
from redraft.lab.bench.gains import Choice, Doubt, Learner, Promise
from redraft.lab.bench.matrix import MatrixRow, grouped
from redraft.lab.bench.regret import AlphaCurve, Horizon, Regret, Subset
from redraft.lab.bench.semantic import Repriced
from redraft.lab.bench.subopt import LateAgainstMedian, Subopt, subopt
from redraft.lab.bench.tables import (
    SHARE_OF_BASE,
    TARGET,
    UNIFORM,
    Cell,
    Paired,
    Plan,
    comparisons,
    complete_cells,
    intervals,
    kendall,
    mean_costs,
    rivals,
    winner,
)
from redraft.lab.paper import PaperTable, paper_table

__all__ = [
    "BesidePaper",
    "Check",
    "Checked",
    "Complete",
    "Curve",
    "Orders",
    "Replay",
    "SettingSummary",
    "Summary",
    "Table",
    "ablate",
    "as_json",
    "by_setting",
    "replays",
    "summarise",
]

Rows = Sequence[MatrixRow]


@dataclass(frozen=True, slots=True)
class SettingSummary:
    """One setting: by policy, mean cost over seeds with its spread and interval, and who costs less than whom."""

    seeds: list[int]
    rounds: int
    mean_cost: Mapping[str, float]
    std: Mapping[str, float | None]
    interval: Mapping[str, tuple[float, float]]
    by_seed: Mapping[str, Mapping[int, float]]
    winner: str
    comparisons: list[Paired]


@dataclass(frozen=True, slots=True)
class Checked:
    """A claim in one setting: ``holds`` by the point estimate, ``sure`` by the whole interval."""

    setting: str
    a: str
    b: str
    difference: float
    low: float
    high: float
    below: float
    holds: bool
    sure: bool


@dataclass(frozen=True, slots=True)
class Check:
    """A claim in every setting."""

    claim: str
    rows: list[Checked]


@dataclass(frozen=True, slots=True)
class Orders:
    """The methods of one setting from least to most cost, here and in the paper."""

    winner: str
    paper_winner: str
    order: list[str]
    paper_order: list[str]
    kendall: float | None
    paper_cost: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class BesidePaper:
    """The paper's table of the same test user, and how far the orders agree in each setting."""

    name: str
    settings: Mapping[str, Orders]
    max_subopt: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Table:
    """What there is of one test user."""

    settings: Mapping[str, SettingSummary]
    max_subopt: Mapping[str, Subopt]
    checks: list[Check]
    late_against_median: LateAgainstMedian | None = None
    paper: BesidePaper | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """Held-out log-probabilities of one run, as ``failures.curve`` has them."""

    seed: int
    points: list[dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What LateEnsemble does in one setting: its regret, and by α, by subset of arms and by T."""

    regret: Regret | None = None
    alpha: AlphaCurve
    subsets: list[Subset]
    horizon: Horizon


@dataclass(frozen=True, slots=True)
class Complete:
    """How many cells are complete, of how many."""

    cells: int
    planned: int


@dataclass(frozen=True)
class Summary:
    """All that a page shows; what a kind of experiment has not is ``None``."""

    name: str
    complete: Complete
    missing: list[str]
    notes: list[str]
    test_user: str | None
    settings: Mapping[str, SettingSummary]
    max_subopt: Mapping[str, Subopt]
    tables: Mapping[str, Table]
    answers: Mapping[str, Mapping[str, failures.Faults]]
    collapse: list[failures.Collapse]
    training: Mapping[str, Mapping[str, list[Curve]]]
    replays: Mapping[str, Replay] | None = None
    cost_models: list[CostModelRow] | None = None
    promises: list[Promise] | None = None
    choices: list[Choice] | None = None
    learners: list[Learner] | None = None
    doubts: list[Doubt] | None = None
    real: Mapping[str, Mapping[str, Any]] | None = None
    costs: Mapping[str, Mapping[str, Repriced]] | None = None
    kind: str = ""
    made: Mapping[str, str] = field(default_factory=dict[str, str])


def as_json(value: object) -> Any:
    """A summary as plain data. A field whose default is ``None`` is left out where it is ``None``.

    >>> as_json(Checked("email weak", "late", "uniform", -0.1, -0.2, 0.0, 0.9, holds=True, sure=True))["sure"]
    True
    """
    if is_dataclass(value):
        found = [(one, getattr(value, one.name)) for one in fields(value)]
        return {one.name: as_json(part) for one, part in found if part is not None or one.default is not None}
    if isinstance(value, Mapping):
        return {str(key): as_json(part) for key, part in value.items()}
    return [as_json(part) for part in value] if isinstance(value, (list, tuple)) else value


def summarise(
    experiment: Description, plan: Plan, rows: Rows, training: Sequence[TrainedRun]
) -> tuple[Summary, list[Cell]]:
    """The summary of a benchmark's planned rows, and the complete cells of its first test user that has any."""
    cells, missing = complete_cells(rows, plan)
    pairs, by_user = rivals(experiment.arms), grouped(cells, lambda cell: cell.test_user)
    tables = {user: _table(user, found, plan, pairs) for user, found in by_user.items()}
    first = next(iter(tables), None)
    shown = by_user[first] if first else []
    planned = len(plan.seeds) * len(plan.tasks) * len(plan.train_users) * len(plan.test_users)
    chosen = failures.chosen_runs(training)
    summary = Summary(
        name=experiment.name,
        complete=Complete(len(cells), planned),
        missing=missing,
        notes=[],
        test_user=first,
        settings=tables[first].settings if first else {},
        max_subopt=tables[first].max_subopt if first else {},
        tables=tables,
        answers=_answers(rows, shown),
        collapse=[failures.collapse(run) for run in chosen],
        training=_training(chosen),
    )
    return summary, shown


def by_setting(cells: Sequence[Cell], plan: Plan) -> dict[str, list[Cell]]:
    """Cells of one test user by setting, in the plan's order."""
    found = grouped(cells, lambda cell: cell.setting)
    return {name: found[name] for name in plan.settings if name in found}


def replays(cells: Mapping[str, Sequence[Cell]]) -> dict[str, Replay]:
    """By setting, what LateEnsemble does: its regret, and the ablation under the defaults of ``regret.py``."""
    return {name: _replay(found, Description(), regret.regret_curves(found)) for name, found in cells.items()}


def ablate(cells: Mapping[str, Sequence[Cell]], ablation: Description) -> dict[str, Replay]:
    """By setting, what an ablation file asks for: its values of α, its subsets of arms, its values of T."""
    return {name: _replay(found, ablation) for name, found in cells.items()}


def _replay(cells: Sequence[Cell], ablation: Description, served: Regret | None = None) -> Replay:
    return Replay(
        regret=served,
        alpha=regret.alpha_curve(cells, ablation.alphas or regret.default_alphas(cells)),
        subsets=regret.subsets(cells, ablation.subsets),
        horizon=regret.horizon(cells, ablation.rounds or regret.ROUNDS),
    )


def _table(test_user: str, cells: Sequence[Cell], plan: Plan, pairs: Sequence[tuple[str, str]]) -> Table:
    settings = {name: _setting(found, pairs) for name, found in by_setting(cells, plan).items()}
    max_subopt, against_median = subopt(cells, plan.settings)
    paper = paper_table(test_user, plan.train_users)
    beside = None if paper is None else _beside(settings, paper)
    return Table(settings, max_subopt, _checks(settings), against_median, beside)


def _setting(cells: Sequence[Cell], pairs: Sequence[tuple[str, str]]) -> SettingSummary:
    spreads = mean_costs(cells)
    means = {name: spread.mean for name, spread in spreads.items()}
    return SettingSummary(
        seeds=[cell.seed for cell in cells],
        rounds=len(cells[0].contexts),
        mean_cost=means,
        std={name: spread.std for name, spread in spreads.items()},
        interval=intervals(cells),
        by_seed={name: dict(spread.by_seed) for name, spread in spreads.items()},
        winner=winner(means),
        comparisons=comparisons(cells, pairs),
    )


def _checks(settings: Mapping[str, SettingSummary]) -> list[Check]:
    """Two claims in every setting: whether the point estimate holds, and whether the whole interval does."""
    claims = {
        f"the best single trained policy costs at most {TARGET} of the base model": SHARE_OF_BASE,
        "LateEnsemble costs less than the uniform choice": UNIFORM,
    }
    return [Check(claim, _checked(settings, against)) for claim, against in claims.items()]


def _checked(settings: Mapping[str, SettingSummary], against: str) -> list[Checked]:
    return [
        Checked(name, **asdict(row), holds=row.difference <= 0, sure=row.high <= 0)
        for name, setting in settings.items()
        for row in setting.comparisons
        if row.b == against
    ]


def _beside(settings: Mapping[str, SettingSummary], paper: PaperTable) -> BesidePaper:
    """Who wins where, here and in the paper, and how far the orders of the methods agree."""
    compared: dict[str, Orders] = {}
    for name, setting in settings.items():
        task, _, user = name.partition(" ")
        theirs = paper.mean_cost.get(f"{task} {user.rpartition(':')[2]}")
        if theirs is None:
            continue
        ours = {method: cost for method, cost in setting.mean_cost.items() if method in theirs}
        compared[name] = Orders(
            winner(ours), winner(theirs), _order(ours), _order(theirs), kendall(ours, theirs), theirs
        )
    return BesidePaper(paper.name, compared, paper.max_subopt)


def _order(costs: Mapping[str, float]) -> list[str]:
    return sorted(costs, key=costs.__getitem__)


def _answers(rows: Rows, cells: Sequence[Cell]) -> dict[str, dict[str, failures.Faults]]:
    counted = {(cell.seed, cell.setting, cell.test_user) for cell in cells}
    found = grouped((row for row in rows if (row.seed, row.setting, row.test_user) in counted), lambda row: row.setting)
    return {setting: failures.answer_faults(some) for setting, some in found.items()}


def _training(chosen: Sequence[TrainedRun]) -> dict[str, dict[str, list[Curve]]]:
    found: dict[str, dict[str, list[Curve]]] = {}
    for run in chosen:
        points = failures.curve(run.history)
        if len(points) > 1:
            setting = found.setdefault(f"{run.task} {run.train_user}", {})
            setting.setdefault(run.method, []).append(Curve(run.seed, points))
    return found
