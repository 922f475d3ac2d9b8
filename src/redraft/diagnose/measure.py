"""The numbers of a log, in one pass that keeps no text. None is ever NaN: what cannot be known is ``None``."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from redraft.costs import COSTS, Cost
from redraft.data import context_key
from redraft.transport import differences
from redraft.types import Completion, Interaction

__all__ = ["NEAR_DUPLICATE", "POOLED", "UNRECORDED", "Group", "Histogram", "Measures", "Summary", "measure"]

NEAR_DUPLICATE = 0.9
"""Word similarity, 1 − distance / longer length, from which y and y' share so much that DPO's gradients on the two
cancel, except for what lowers the likelihood of both."""
MIN_USER_EDITS = 5
"""Users with fewer edits are pooled: their own mean and spread would say nothing."""
POOLED, UNRECORDED = "(users with few edits)", "(not recorded)"
BINS = 30


@dataclass(frozen=True, slots=True)
class Summary:
    """A distribution of costs."""

    n: int
    mean: float
    std: float
    q1: float
    median: float
    q3: float
    max: float
    share_0: float
    share_above_1: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of the costs of changed texts: ``counts[i]`` between ``edges[i]`` and ``edges[i + 1]``, rest beyond."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    beyond: int


@dataclass(frozen=True, slots=True)
class Group:
    """The edits of one user or policy. ``variation`` is standard deviation / mean, ``None`` where the mean is 0."""

    name: str
    edits: int
    mean: float
    variation: float | None


@dataclass(frozen=True, slots=True)
class Measures:
    """All that was counted.

    ``accepted`` were explicitly left as they are; ``unchanged`` are these and the edits equal to the response but for
    what software did on the way, which ``hidden`` counts by kind; ``told`` are changed edits of such kinds only.
    ``changed`` is the rest of ``edits``, of which ``near_duplicates`` are nearly equal word by word. ``awaiting``
    have no edit yet and ``censored`` none after the horizon: silence is not approval. ``within_users`` is the share
    of the variance of costs that lies within users, 1 where users do not differ. ``models`` counts completions by
    base model; ``policies`` has the decisions whose edit has come, by chosen policy.
    """

    cost: str
    completions: int
    edits: int
    accepted: int
    unchanged: int
    changed: int
    near_duplicates: int
    awaiting: int
    censored: int
    divided: Summary | None
    raw: Summary | None
    whitespace_distance: Summary | None
    divided_histogram: Histogram | None
    raw_histogram: Histogram | None
    users: tuple[Group, ...]
    within_users: float | None
    contexts: int
    repeated_contexts: int
    largest_context: int
    models: dict[str, int]
    hidden: dict[str, int]
    told: dict[str, int]
    policies: tuple[Group, ...]


@dataclass(slots=True)
class _Seen:
    """What the pass has met so far."""

    numbers: Counter[str] = field(default_factory=Counter[str])
    edits: list[tuple[float, float, float, bool]] = field(default_factory=list[tuple[float, float, float, bool]])
    users: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    policies: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    contexts: Counter[int] = field(default_factory=Counter[int])
    models: Counter[str] = field(default_factory=Counter[str])
    hidden: Counter[str] = field(default_factory=Counter[str])
    told: Counter[str] = field(default_factory=Counter[str])


def measure(interactions: Iterable[Interaction], cost: Cost, *, before: datetime | None = None) -> Measures:
    """Count; completions made ``before`` that moment and still without an edit are censored."""
    seen = _Seen()
    for interaction in interactions:
        completion = interaction.completion
        seen.numbers["completions"] += 1
        seen.models[completion.model or UNRECORDED] += 1
        seen.contexts[hash(context_key(completion.messages))] += 1
        if interaction.edited is None:
            seen.numbers["censored" if _made_before(completion, before) else "awaiting"] += 1
        else:
            _add_edit(seen, interaction, interaction.edited, cost)
    divided, raw, whitespace, changed = np.array(seen.edits, dtype=float).reshape(-1, 4).T.copy()
    moved = changed.astype(bool)
    return Measures(
        cost=cost.name,
        **{name: seen.numbers[name] for name in ("completions", "accepted", "near_duplicates", "awaiting", "censored")},
        edits=len(moved),
        unchanged=int((~moved).sum()),
        changed=int(moved.sum()),
        divided=_summary(divided),
        raw=_summary(raw),
        whitespace_distance=_summary(whitespace),
        divided_histogram=_histogram(divided[moved]),
        raw_histogram=_histogram(raw[moved]),
        users=_groups(_pooled(seen.users)),
        within_users=_within(
            [costs for user, costs in seen.users.items() if user != UNRECORDED and len(costs) >= MIN_USER_EDITS]
        ),
        contexts=len(seen.contexts),
        repeated_contexts=sum(count > 1 for count in seen.contexts.values()),
        largest_context=max(seen.contexts.values(), default=0),
        models=dict(seen.models.most_common()),
        hidden=dict(seen.hidden.most_common()),
        told=dict(seen.told.most_common()),
        policies=_groups(seen.policies),
    )


def _made_before(completion: Completion, moment: datetime | None) -> bool:
    """Whether it is older than that; a completion of unknown date always is, as in the log's own counts."""
    made = completion.created_at
    if made is None or moment is None:
        return moment is not None
    return (made if made.tzinfo else made.replace(tzinfo=UTC)) < moment


def _add_edit(seen: _Seen, interaction: Interaction, edited: str, cost: Cost) -> None:
    completion, edit = interaction.completion, interaction.edit
    assert edit is not None  # or there would be no edited text
    response = completion.response
    changed = not cost.same(response, edited)
    raw = cost.typed(response, edited) if changed else 0.0
    divided = cost.of_raw(raw, response)
    seen.edits.append((divided, raw, COSTS["whitespace"].raw(response, edited) if changed else 0.0, changed))
    if kinds := " and ".join(differences(response, edited)):
        (seen.told if changed else seen.hidden)[kinds] += 1
    seen.numbers["accepted"] += edit.edited is None
    seen.numbers["near_duplicates"] += changed and _similarity(response, edited) >= NEAR_DUPLICATE
    seen.users[edit.user_id or completion.user_id or UNRECORDED].append(divided)
    if interaction.decision is not None:
        seen.policies[interaction.decision.chosen].append(divided)


def _similarity(response: str, edited: str) -> float:
    words = COSTS["word"]
    assert words.length is not None
    return 1 - words.raw(response, edited) / max(1, words.length(response), words.length(edited))


def _summary(values: np.ndarray) -> Summary | None:
    if not len(values):
        return None
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    shares = float((values == 0).mean()), float((values > 1).mean())
    std = float(values.std()) if np.ptp(values) else 0.0  # of equal values, rounding makes it 1e-16
    return Summary(len(values), float(values.mean()), std, q1, median, q3, float(values.max()), *shares)


def _histogram(values: np.ndarray) -> Histogram | None:
    """About ``BINS`` bins of a round width up to the 99th percentile; whole numbers stand in the middle of theirs."""
    if not len(values):
        return None
    whole, top = bool((values == values.round()).all()), float(np.quantile(values, 0.99, method="lower"))
    step = _round_width(top / BINS) if top else 1.0
    step, start = (max(1.0, step), -0.5) if whole else (step, 0.0)
    edges = np.round(start + step * np.arange(int(top / step) + 2), 12)  # 0.15, not 0.15000000000000002
    counts = np.histogram(values, edges)[0]
    return Histogram(tuple(edges.tolist()), tuple(counts.tolist()), int(len(values) - counts.sum()))


def _round_width(least: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= least)


def _pooled(users: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    known = {user: costs for user, costs in users.items() if len(costs) >= MIN_USER_EDITS}
    few = [cost for user, costs in users.items() if user not in known for cost in costs]
    return {**known, POOLED: few} if few else known


def _groups(costs: Mapping[str, Sequence[float]]) -> tuple[Group, ...]:
    """Groups by falling number of edits."""
    found: list[Group] = []
    for name, values in costs.items():
        mean = float(np.mean(values))
        found.append(Group(name, len(values), mean, float(np.std(values)) / mean if mean else None))
    return tuple(sorted(found, key=lambda group: (-group.edits, group.name)))


def _within(users: Sequence[Sequence[float]]) -> float | None:
    """Return the sum of squares within users / the whole, the complement of the correlation ratio η²."""
    if len(users) < 2:
        return None
    total = float(np.var(np.concatenate(users)) * sum(map(len, users)))
    return sum(float(np.var(costs)) * len(costs) for costs in users) / total if total else None
