"""What another way of choosing would have cost, from logged decisions alone: off-policy estimates.

A decision logs the probability p(a) with which each policy could have been chosen, and its edit what the chosen one
cost. Seen through w = π(a) / p(a), these costs are those of a target that chooses a with probability π(a), wherever
p > 0 if π > 0. With ĉ(a), a prediction made without the decision's own edit,

    IPS     mean w c                            unbiased; its variance grows with the weights
    SNIPS   Σ w c / Σ w                         nearly unbiased, steadier
    direct  mean Σ_a π(a) ĉ(a)                  as good as ĉ, whatever was logged
    DR      direct + mean w (c − ĉ(a))          unbiased whatever ĉ is, and steadier the better it is

(Dudík, Langford & Li 2011). Only decisions count in which every policy that the target plays could have been chosen;
what could be is not asked after the cost, so this selects nothing. Assumed: whether an edit comes does not depend on
the policy or the cost, and what policies cost does not drift. No text, log or model here.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from redraft.errors import DataError
from redraft.stats import Interval, mean_interval, ratio_interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["THIN", "Estimate", "Lead", "Logged", "Target", "estimate", "lead", "unsupported"]

THIN = 30
"""An effective sample below it says nothing sure: a percentile interval of so few is too narrow."""

_RATES = tuple(0.5**power for power in range(1, 11))

Target = Mapping[str, float]
"""Policy → the probability with which it is to be chosen; together 1."""


@dataclass(frozen=True, slots=True)
class Logged:
    """A decision whose edit has come: the policy chosen, what its answer cost, and the propensity of each candidate.

    ``predicted`` has what policies would have cost there, where anything says so but this edit.
    """

    chosen: str
    cost: float
    propensities: Mapping[str, float]
    predicted: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Estimate:
    """A target's mean cost, told in four ways, three of them with a 95 % percentile interval.

    ``direct`` has none: it errs as its predictions do, and these rows cannot tell how much that is.
    ``effective`` is the size (Σ w)² / Σ w² of a sample of the target's own that would tell as much. ``bernstein`` is an
    interval of IPS that holds for few decisions, too, if they are independent; it needs to know what an edit costs at
    most. ``left_out`` decisions could not have chosen all that the target plays.
    """

    edits: int
    left_out: int
    effective: float
    ips: Interval
    snips: Interval
    direct: float
    dr: Interval
    bernstein: Interval | None


@dataclass(frozen=True, slots=True)
class Lead:
    """Whether one target is cheaper than another, looked at after every edit with 5 % of error in all.

    ``at_most`` bounds the mean of ``one`` − ``other`` from above; below 0 it is cheaper, and ``since`` is the number of
    decisions that allow both, after which that was first sure.
    """

    at_most: float
    since: int | None


def unsupported(log: Sequence[Logged], target: Target) -> str | None:
    """Why a log cannot tell what a target costs; ``None`` where it can."""
    wanted = _wanted(target)
    if not log:
        return "no decision has an edit yet"
    rows = _usable(log, target)
    if not rows:
        return f"{' and '.join(wanted)} could not be chosen in any of {len(log):,} decisions"
    if not any(row.chosen in wanted for row in rows):
        return f"{' or '.join(wanted)} was never chosen where it could be"
    return None


def estimate(
    log: Sequence[Logged], target: Target, *, most: float | None = None, seed: int = 0, draws: int = 10_000
) -> Estimate:
    """Estimate the mean cost of a target, in units of the log's costs.

    The decisions stand in the order of their edits. Raises ``DataError`` where the log does not support the target, or
    an edit costs more than ``most``.
    """
    _require(log, target)
    rows = _usable(log, target)
    weights, costs, direct, residuals = _terms(rows, target)
    _require_most(costs, most)
    weighed, corrected = weights * costs, direct + weights * residuals
    return Estimate(
        edits=len(rows),
        left_out=len(log) - len(rows),
        effective=float(weights.sum() ** 2 / (weights**2).sum()),
        ips=mean_interval(weighed.tolist(), seed=seed, draws=draws),
        snips=ratio_interval(weighed.tolist(), weights.tolist(), seed=seed, draws=draws),
        direct=float(direct.mean()),
        dr=mean_interval(corrected.tolist(), seed=seed, draws=draws),
        bernstein=None if most is None else _bernstein(weighed, most * _greatest(rows, target)),
    )


def lead(log: Sequence[Logged], one: Target, other: Target, *, most: float, level: float = 0.95) -> Lead:
    """Whether ``one`` costs less than ``other``, however often that is asked while edits come in.

    Bounds the mean of ``other`` from below and that of ``one``, by what it saves against ``most``, likewise: weights
    may be as large as they like, since only a sum of terms ≥ 0 is bounded from below (Waudby-Smith et al. 2022,
    "Anytime-valid off-policy inference for contextual bandits", with no regression). ``most`` is what no edit can cost
    more than, known beforehand: the dearest edit seen would not do. Raises ``DataError`` as ``estimate`` does.
    """
    import numpy as np

    for target in (one, other):
        _require(log, target)
    rows = _usable(log, one, other)
    if not rows:
        raise DataError(f"{', '.join(_wanted(one))} and {', '.join(_wanted(other))} could never be chosen together")
    mine, costs, *_ = _terms(rows, one)
    theirs, *_ = _terms(rows, other)
    _require_most(costs, most)
    shares, error = costs / most, (1 - level) / 2
    bounds = most * (1 - lower_bounds(mine * (1 - shares), error) - lower_bounds(theirs * shares, error))
    sure = np.flatnonzero(bounds < 0)
    return Lead(float(bounds[-1]), int(sure[0]) + 1 if len(sure) else None)


def lower_bounds(terms: Array, error: float) -> Array:
    """Bounds from below on the mean μ of terms ≥ 0, one after each term, all of them true at once.

    Wrong in a share ``error`` of runs at most. With m the mean so far, cut at 1, and any λ in (0, 1),
    exp(Σ λ (x − μ) − Σ (x − m)² (−log(1 − λ) − λ)) is a supermartingale, since x − m ≥ −1 (Fan, Grama & Liu 2015; an
    empirical Bernstein bound, Howard et al. 2021). Each of ``_RATES`` has its share of the error and the best counts:
    one rate, chosen on the way, gives bounds a fifth further from the mean.
    """
    import numpy as np

    rates = np.array(_RATES)[:, None]
    count = np.arange(1, len(terms) + 1)
    before = np.concatenate([[0.5], (0.5 + np.cumsum(terms)) / (count + 1)])[:-1].clip(max=1.0)
    spent = math.log(len(rates) / error) + np.cumsum((terms - before) ** 2) * (-np.log1p(-rates) - rates)
    bounds = (np.cumsum(terms) - spent / rates) / count
    return np.maximum.accumulate(bounds.max(axis=0)).clip(min=0.0)


def _wanted(target: Target) -> list[str]:
    return [policy for policy, share in target.items() if share > 0]


def _usable(log: Sequence[Logged], *targets: Target) -> list[Logged]:
    """The decisions in which everything that the targets play could have been chosen, as what was chosen could."""
    wanted = [policy for target in targets for policy in _wanted(target)]
    return [row for row in log if all(row.propensities.get(policy, 0) > 0 for policy in (*wanted, row.chosen))]


def _require(log: Sequence[Logged], target: Target) -> None:
    if why := unsupported(log, target):
        raise DataError(f"{', '.join(_wanted(target))}: cannot be told: {why}")


def _require_most(costs: Array, most: float | None) -> None:
    if most is not None and (most <= 0 or costs.max() > most):
        raise DataError(f"most = {most:g}: an edit of the log costs {costs.max():g}, give what none can exceed")


def _terms(log: Sequence[Logged], target: Target) -> tuple[Array, Array, Array, Array]:
    """Weights, costs, Σ_a π(a) ĉ(a) and c − ĉ of the chosen, each [n]; ĉ is what earlier edits say, or was told."""
    import numpy as np

    count, total = defaultdict[str, int](int), defaultdict[str, float](float)
    rows: list[tuple[float, float, float, float]] = []
    for row in log:
        every = sum(total.values()) / max(1, sum(count.values()))

        def predicted(policy: str, row: Logged = row, every: float = every) -> float:
            known = total[policy] / count[policy] if count[policy] else every
            return row.predicted.get(policy, known)

        direct = sum(share * predicted(policy) for policy, share in target.items())
        weight = target.get(row.chosen, 0.0) / row.propensities[row.chosen]
        rows.append((weight, row.cost, direct, row.cost - predicted(row.chosen)))
        count[row.chosen] += 1
        total[row.chosen] += row.cost
    weights, costs, direct, residuals = np.array(rows).T
    return weights, costs, direct, residuals


def _greatest(log: Sequence[Logged], target: Target) -> float:
    """The greatest weight that a decision could have had."""
    return max(share / row.propensities[policy] for row in log for policy, share in target.items() if share > 0)


def _bernstein(terms: Array, most: float) -> Interval:
    """Maurer & Pontil 2009, theorem 4, on both sides, for independent terms [n] in [0, ``most``]."""
    import numpy as np

    n, mean = len(terms), float(terms.mean())
    if n < 2:
        return Interval(mean, 0.0, most)
    log = math.log(4 / 0.05)
    width = math.sqrt(2 * float(np.var(terms, ddof=1)) * log / n) + 7 * most * log / (3 * (n - 1))
    return Interval(mean, max(0.0, mean - width), min(most, mean + width))
