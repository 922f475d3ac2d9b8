"""What choosing one policy by held-out edits is worth, and whether edits tell which of two policies is better.

*Choosing* sees ``EDITS`` edits of the base model's drafts, as any first log has, and serves one policy over the rounds
that remain. Which rounds are held out is drawn: random orders and all their rotations, so that every round is held out
equally often; only for users who change with t they are the first ones. LateEnsemble starts afresh in the remaining
rounds. *Telling* compares two policies by edits of their drafts or the base model's, in each form of
``redraft.edit_cost``, beside the difference that their own rounds show.

A price Δ(answer, edited) is the cost of making one policy's answer into what the user made of another's in that round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING

from redraft.costs import Cost
from redraft.edit_cost import Difference, Priced, against, anchoring_bias
from redraft.lab.bench.failures import chosen_runs
from redraft.lab.bench.folder import TrainedRun
from redraft.lab.bench.matrix import MatrixRow, grouped
from redraft.lab.bench.subopt import max_subopt
from redraft.lab.bench.tables import LATE, Cell, Plan, Spread
from redraft.lab.theory.simulate import simulate_late
from redraft.policies.base import BASE
from redraft.stats import Interval, compare, mean_of_means

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Orders = NDArray[np.int64]

__all__ = ["BAR", "BEST", "CHANGED", "EDITS", "EDIT_COST", "Choosing", "Rule", "Told", "choosing", "priced", "tell"]

EDITS = 16
SHUFFLES = 4  # random orders a cell; 60 rounds have 240 with their rotations
BAR = 1.08
"""What choosing by held-out edit cost may pay, as a share of the best policy in hindsight."""
EDIT_COST, CHANGED, BEST = "held-out edit cost", "held-out edit cost, changed drafts only", "best in hindsight"
METRICS = {"likelihood": "nll", "preference loss": "preference_loss"}
"""Rules that take the trained policy of least loss on held-out texts, by that loss's name; base has none."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule pays a round: in each setting, and over tasks with its interval; ``above`` is that − ``BAR`` × best.

    ``max_subopt`` is ``None`` for the best in hindsight, which is no method, and where no seed has all settings.
    """

    by_setting: Mapping[str, float]
    mean: Interval
    above: Interval
    max_subopt: Spread | None


@dataclass(frozen=True, slots=True)
class Choosing:
    """Rules under one test user, and in how many orders of the rounds of each cell."""

    orders: int
    rules: Mapping[str, Rule]


@dataclass(frozen=True, slots=True)
class Told:
    """``one`` − ``other`` in their own rounds (``online``), and what edits say of it.

    ``one_sided`` rests on edits of ``other``'s drafts alone and ``bounded`` widens it by the anchoring bias between
    ``other`` and base; ``symmetric`` rests on edits of each in every second round, as logs have them, and ``direct`` on
    those of base: all on as many edits. ``None`` where base is one of the two.
    """

    setting: str
    one: str
    other: str
    online: Interval
    one_sided: Difference
    bounded: Difference | None
    symmetric: Difference
    direct: Difference | None


@dataclass(frozen=True)
class _Served(Cell):
    """What arms and rules pay in each round; LateEnsemble is one of them and not replayed."""

    @cached_property
    def columns(self) -> dict[str, list[float]]:
        return {name: list(column) for name, column in self.costs.items()}


def priced(rows: Iterable[MatrixRow], cost: Cost, authors: Sequence[str]) -> list[Priced]:
    """Each edit of these authors' drafts with the price of every policy's answer in that round."""
    found: list[Priced] = []
    for (seed, _, _, t), some in grouped(rows, lambda row: (row.seed, row.setting, row.test_user, row.t)).items():
        for draft in (row for row in some if row.policy in authors):
            prices = {row.policy: cost(row.response, draft.edited) for row in some}
            found.append(Priced(f"{seed}/{t}/{draft.policy}", draft.policy, draft.cost, prices))
    return found


def choosing(
    cells: Sequence[Cell], plan: Plan, rows: Sequence[MatrixRow], cost: Cost, training: Sequence[TrainedRun]
) -> Choosing | None:
    """What each rule pays on the cells of one test user; ``None`` without base or with too few rounds to serve."""
    cells = [cell for cell in cells if BASE in cell.costs and len(cell.contexts) > EDITS]
    if not cells:
        return None
    losses = {(run.seed, f"{run.task} {run.train_user}", run.arm or run.method): run for run in chosen_runs(training)}
    by_cell = grouped(rows, lambda row: (row.seed, row.setting, row.test_user))
    served: list[_Served] = []
    for cell in cells:
        edits = priced(by_cell[cell.seed, cell.setting, cell.test_user], cost, [BASE])
        runs = {arm: run for arm in cell.costs if (run := losses.get((cell.seed, cell.setting, arm)))}
        served.append(_serve(cell, edits, runs))
    names = [name for name in served[0].costs if all(name in cell.costs for cell in served)]
    competing = [_only(cell, [name for name in names if name != BEST]) for cell in served]
    subopts = max_subopt(competing, plan.settings)
    rules = {name: _rule(name, served, subopts.get(name)) for name in names}
    return Choosing(len(_orders(cells[0])), rules)


def tell(rows: Sequence[MatrixRow], cost: Cost, pairs: Sequence[tuple[str, str]]) -> list[Told]:
    """What edits say of each pair in each setting of one test user, beside the online difference."""
    found: list[Told] = []
    for setting, some in grouped(rows, lambda row: row.setting).items():
        real = {name: {(r.seed, r.t): r.cost for r in own} for name, own in grouped(some, lambda r: r.policy).items()}
        edits = grouped(priced(some, cost, list(real)), lambda edit: edit.author)
        for one, other in pairs:
            if keys := sorted(real.get(one, {}).keys() & real.get(other, {}).keys()):
                online = compare([real[one][key] for key in keys], [real[other][key] for key in keys]).difference
                found.append(_told(setting, one, other, online, edits))
    return found


def _told(setting: str, one: str, other: str, online: Interval, edits: Mapping[str, Sequence[Priced]]) -> Told:
    mine, theirs, base = edits[one], edits[other], edits.get(BASE, ())
    third = base and BASE not in (one, other)
    bias = anchoring_bias([*base, *theirs]) if third else None
    return Told(
        setting,
        one,
        other,
        online,
        one_sided=against(one, other, theirs),
        bounded=against(one, other, theirs, bias) if bias else None,
        symmetric=against(one, other, [*mine[::2], *theirs[1::2]]),
        direct=against(one, other, base) if third else None,
    )


def _serve(cell: Cell, edits: Sequence[Priced], runs: Mapping[str, TrainedRun]) -> _Served:
    """What each arm and rule pays in each round that it serves, in the mean over orders."""
    import numpy as np

    arms, costs = list(cell.costs), np.array(list(cell.costs.values()))
    prices = np.array([[edit.prices[arm] for edit in edits] for arm in arms])
    orders = _orders(cell)
    held, rest = orders[:, :EDITS], orders[:, EDITS:]
    changed = np.array([edit.cost > 0 for edit in edits])
    everyone = np.arange(len(orders))
    picks = {
        EDIT_COST: prices[:, held].mean(axis=2).argmin(axis=0),
        CHANGED: (prices * changed)[:, held].sum(axis=2).argmin(axis=0),
        **{rule: np.full_like(everyone, arms.index(arm)) for rule, arm in _by_loss(arms, runs).items()},
        BEST: costs[:, rest].mean(axis=2).argmin(axis=0),
        **{arm: np.full_like(everyone, place) for place, arm in enumerate(arms)},
    }
    paid = {name: costs[pick[:, None], rest] for name, pick in picks.items()}
    paid[LATE] = simulate_late(costs[:, rest.T]).paid.T
    return _Served(cell.seed, cell.setting, cell.test_user, cell.contexts, _by_round(paid, rest))


def _orders(cell: Cell) -> Orders:
    """Orders of a cell's rounds [orders × rounds]; those of users who change with t are as they were served."""
    import numpy as np

    rounds = np.arange(len(cell.contexts))
    if "+drift" in cell.test_user or "+fatigue" in cell.test_user:
        return rounds[None]
    rng = np.random.default_rng(cell.seed)
    shuffled = [rng.permutation(rounds) for _ in range(SHUFFLES)]
    return np.array([np.roll(order, by) for order in shuffled for by in rounds])


def _by_loss(arms: Sequence[str], runs: Mapping[str, TrainedRun]) -> dict[str, str]:
    """The arm that each of ``METRICS`` chooses; a rule that not every trained policy has a loss for is left out."""
    trained = [arm for arm in arms if arm in runs]
    known = {rule: name for rule, name in METRICS.items() if trained and all(name in runs[a].metrics for a in trained)}
    return {rule: min(trained, key=lambda arm: runs[arm].metrics[name]) for rule, name in known.items()}


def _by_round(paid: Mapping[str, Array], rest: Orders) -> dict[str, list[float]]:
    """Means over orders by round, of the rounds that any order serves; ``paid`` and ``rest`` are [orders × served]."""
    import numpy as np

    count = np.bincount(rest.ravel())
    kept = count > 0
    return {name: (np.bincount(rest.ravel(), each.ravel())[kept] / count[kept]).tolist() for name, each in paid.items()}


def _only(cell: _Served, names: Sequence[str]) -> _Served:
    costs = {name: cell.costs[name] for name in names}
    return _Served(cell.seed, cell.setting, cell.test_user, cell.contexts, costs)


def _rule(name: str, cells: Sequence[_Served], subopt: Spread | None) -> Rule:
    means = {
        setting: fmean(cost for cell in some for cost in cell.costs[name])
        for setting, some in grouped(cells, lambda cell: cell.setting).items()
    }
    return Rule(
        means, mean_of_means(_sets(cells, {name: 1})), mean_of_means(_sets(cells, {name: 1, BEST: -BAR})), subopt
    )


def _sets(cells: Sequence[_Served], weights: Mapping[str, float]) -> list[list[float]]:
    """A weighted sum of columns, a set for each task: settings of a task share contexts, so their mean is one value."""
    sets: dict[str, dict[tuple[int, int], list[float]]] = {}
    for cell in cells:
        by_round = sets.setdefault(cell.setting.partition(" ")[0], {})
        columns = [[weight * cost for cost in cell.costs[name]] for name, weight in weights.items()]
        for t, values in enumerate(zip(*columns, strict=True)):
            by_round.setdefault((cell.seed, t), []).append(sum(values))
    return [[fmean(values) for values in by_round.values()] for by_round in sets.values()]
