"""Rows to numbers: the paper's tables, with how sure we are of them.

A *cell* is one seed of one *setting* (task and training user) under one test user, with every policy's cost in every
round. Three kinds of columns stand in it: the arms; ``late``, LateEnsemble replayed over all of them in the order of
t; and ``uniform``, the exact expectation of a uniform choice, which is the arms' mean in each round. Only complete
cells count; what is missing is said. Pure: nothing is read, written or drawn here.

Intervals are bootstrapped over (seed, context), means and standard deviations are over seeds. Late's interval is of the
costs it paid: that another order would have made it choose otherwise is shown by ``regret.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from statistics import fmean, stdev
from typing import Any

from redraft.lab.bench.experiment import Arm, Description
from redraft.lab.bench.matrix import MatrixRow
from redraft.policies.base import BASE
from redraft.select import LateEnsemble, Round, replay
from redraft.stats import compare, mean_interval

__all__ = [
    "LATE",
    "SHARE_OF_BASE",
    "TARGET",
    "UNIFORM",
    "Cell",
    "Paired",
    "Plan",
    "Spread",
    "comparisons",
    "complete_cells",
    "intervals",
    "kendall",
    "mean_costs",
    "planned_rows",
    "read_plan",
    "rivals",
    "spread",
    "winner",
]

LATE, UNIFORM = "late", "uniform"
TARGET = 0.6
"""What the best single policy is to cost at most, as a share of the base model's cost."""
SHARE_OF_BASE = f"{TARGET} × {BASE}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a finished run has: ``rounds`` by task. Settings stand in the order of the experiment."""

    seeds: tuple[int, ...]
    tasks: tuple[str, ...]
    train_users: tuple[str, ...]
    test_users: tuple[str, ...]
    arms: tuple[str, ...]
    rounds: Mapping[str, int]

    @property
    def settings(self) -> list[str]:
        """Names of the settings, tasks first as in the paper's columns."""
        return [f"{task} {user}" for task in self.tasks for user in self.train_users]


@dataclass(frozen=True)
class Cell:
    """One seed of one setting under one test user: ``costs`` by arm, in the order of rounds."""

    seed: int
    setting: str
    test_user: str
    contexts: tuple[str, ...]
    costs: Mapping[str, Sequence[float]]

    @cached_property
    def late(self) -> list[Round]:
        """LateEnsemble with its default α on this cell."""
        return replay(LateEnsemble(tuple(self.costs)), self.costs)

    @cached_property
    def columns(self) -> dict[str, list[float]]:
        """What each arm, ``late`` and ``uniform`` pay in each round."""
        arms = {arm: list(column) for arm, column in self.costs.items()}
        chance = [fmean(row) for row in zip(*arms.values(), strict=True)]
        return {**arms, LATE: [row.cost for row in self.late], UNIFORM: chance}


@dataclass(frozen=True, slots=True)
class Spread:
    """A number per seed, and their mean and sample standard deviation (``None`` for a single seed)."""

    mean: float
    std: float | None
    by_seed: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Paired:
    """The mean of A − B on the same (seed, context), its 95 % interval, and the share of draws in which A is lower."""

    a: str
    b: str
    difference: float
    low: float
    high: float
    below: float


def read_plan(experiment: Description, rows: Sequence[MatrixRow]) -> Plan:
    """What the experiment promises; what it does not say is taken from the rows."""
    tasks = experiment.tasks or tuple(dict.fromkeys(row.task for row in rows))
    named = (*experiment.methods, *experiment.arms)
    online = experiment.sizes.get("online", {})
    promised = online if isinstance(online, Mapping) else dict.fromkeys(tasks, online)
    found = {task: max((row.t for row in rows if row.task == task), default=0) for task in tasks}
    return Plan(
        seeds=experiment.seeds or tuple(dict.fromkeys(row.seed for row in rows)),
        tasks=tasks,
        train_users=experiment.train_users or tuple(dict.fromkeys(row.train_user for row in rows)),
        test_users=experiment.test_users or tuple(dict.fromkeys(row.test_user for row in rows)),
        arms=(BASE, *named) if named else tuple(dict.fromkeys(row.policy for row in rows)),
        rounds={task: promised.get(task) or found[task] for task in tasks},
    )


def planned_rows(rows: Iterable[MatrixRow], plan: Plan) -> list[MatrixRow]:
    """The rows of the plan in its order, whatever the order they were made in; of two for one cell the later one."""
    places = [{name: place for place, name in enumerate(names)} for names in _names(plan)]
    found = {row.cell: row for row in rows if all(n in p for n, p in zip(_named(row), places, strict=True))}
    keyed = ((*(p[n] for n, p in zip(_named(row), places, strict=True)), row.t, row) for row in found.values())
    return [key[-1] for key in sorted(keyed, key=lambda key: key[:-1])]


def complete_cells(rows: Iterable[MatrixRow], plan: Plan) -> tuple[list[Cell], list[str]]:
    """The planned cells of which every row is there, and a line for each of the others."""
    found = {row.cell: row for row in rows}
    cells: list[Cell] = []
    missing: list[str] = []
    for test_user, seed, task, train_user in product(plan.test_users, plan.seeds, plan.tasks, plan.train_users):
        rounds, key = range(1, plan.rounds[task] + 1), (seed, task, train_user, test_user)
        columns = {arm: [row for t in rounds if (row := found.get((*key, t, arm)))] for arm in plan.arms}
        short = [f"{arm} has {len(c)} of {len(rounds)} rows" for arm, c in columns.items() if len(c) < len(rounds)]
        if short or not rounds:
            missing.append(f"{task} {train_user}, test user {test_user}, seed {seed}: {', '.join(short) or 'no rows'}")
            continue
        contexts = tuple(row.context_id for row in columns[plan.arms[0]])
        costs = {arm: [row.cost for row in column] for arm, column in columns.items()}
        cells.append(Cell(seed, f"{task} {train_user}", test_user, contexts, costs))
    return cells, missing


def mean_costs(cells: Sequence[Cell]) -> dict[str, Spread]:
    """Mean cost of every policy in one setting: per seed first, then over seeds."""
    return {name: spread({cell.seed: fmean(cell.columns[name]) for cell in cells}) for name in cells[0].columns}


def intervals(cells: Sequence[Cell]) -> dict[str, tuple[float, float]]:
    """95 % bootstrap intervals of the means in one setting, (seed, context) drawn anew."""
    found = {name: mean_interval(column) for name, column in _pooled(cells).items()}
    return {name: (interval.low, interval.high) for name, interval in found.items()}


def winner(means: Mapping[str, float]) -> str:
    """The method of least cost, ``uniform`` aside; ties go to the earlier."""
    competing = {name: mean for name, mean in means.items() if name != UNIFORM}
    return min(competing, key=competing.__getitem__)


def comparisons(cells: Sequence[Cell], rivals: Sequence[tuple[str, str]] = ()) -> list[Paired]:
    """Paired bootstraps of "A costs less than B" in one setting, on the same (seed, context).

    Late against ``uniform`` and each arm, every trained policy against the base model, ``early`` against the others,
    ``rivals`` as they are named, and the best single trained policy against ``TARGET`` of the base cost. That one is
    the best in these same rows, so its interval flatters it a little.
    """
    pooled = _pooled(cells)
    arms = [name for name in pooled if name not in (LATE, UNIFORM)]
    trained = [name for name in arms if name != BASE]
    pairs = [(LATE, UNIFORM), *((LATE, arm) for arm in arms)]
    pairs += [(arm, BASE) for arm in trained if BASE in arms]
    pairs += [("early", arm) for arm in trained if arm != "early" and "early" in trained]
    pairs += [pair for pair in rivals if pair not in pairs and set(pair) <= set(arms)]
    made = [_compared(a, b, pooled[a], pooled[b]) for a, b in pairs]
    if trained and BASE in arms:
        best = min(trained, key=lambda arm: fmean(pooled[arm]))
        made.append(_compared(best, SHARE_OF_BASE, pooled[best], [TARGET * cost for cost in pooled[BASE]]))
    return made


def rivals(arms: Mapping[str, Arm]) -> list[tuple[str, str]]:
    """Whom an experiment's arms are to be compared with: the policy they started from, served in the same way."""
    found: list[tuple[str, str]] = []
    served = {name: (arm.of, arm.temperature, arm.best_of, arm.by) for name, arm in arms.items() if not arm.method}
    for name, arm in arms.items():
        if arm.method is not None:
            found.append((name, arm.start))
            continue
        of, *how = served[name]
        before = arms[of].start if of in arms else BASE
        alike = [other for other, (policy, *same) in served.items() if policy == before != of and same == how]
        plain = [other for other, told in served.items() if told[:3] == (of, arm.temperature, None)]
        found += [(name, other) for other in (*alike, *(plain if arm.best_of else ()))]
        chosen = arm.best_of and (not arm.temperature or arm.by == "consensus")
        found += [(name, of)] if chosen else []
    return found


def kendall(a: Mapping[str, float], b: Mapping[str, float]) -> float | None:
    """Kendall's τ-a of two orders over the names they share: (agreeing − opposing pairs) / pairs, ``None`` without any.

    >>> kendall({"x": 1, "y": 2, "z": 3}, {"x": 1, "y": 3, "z": 2})
    0.3333333333333333
    """
    pairs = list(combinations([name for name in a if name in b], 2))
    signs = [_sign(a[x] - a[y]) * _sign(b[x] - b[y]) for x, y in pairs]
    return sum(signs) / len(signs) if signs else None


def _names(plan: Plan) -> tuple[tuple[Any, ...], ...]:
    return plan.test_users, plan.seeds, plan.tasks, plan.train_users, plan.arms


def _named(row: MatrixRow) -> tuple[Any, ...]:
    return row.test_user, row.seed, row.task, row.train_user, row.policy


def _compared(a: str, b: str, costs: Sequence[float], others: Sequence[float]) -> Paired:
    found = compare(costs, others)
    difference = found.difference
    return Paired(a, b, difference.mean, difference.low, difference.high, found.below)


def _pooled(cells: Sequence[Cell]) -> dict[str, list[float]]:
    return {name: [cost for cell in cells for cost in cell.columns[name]] for name in cells[0].columns}


def spread(by_seed: Mapping[int, float]) -> Spread:
    """Mean and standard deviation of a number per seed."""
    values = list(by_seed.values())
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None, dict(by_seed))


def _sign(x: float) -> int:
    return (x > 0) - (x < 0)
