"""What selectors have learnt, kept beside the events: four integers for each policy of a task.

They change in the transaction of the event they come from, so neither exists without the other, and under a lock on
their row, so that several processes add up. Whatever the selector, it learns from these alone. They are derived:
``recount`` gives them from the events, under the Δ that the task has now, and ``verify`` compares.

A decision counts for the policy that was chosen if that one answered. Where another had to step in, an edit says
nothing about the choice. Where the answer teaches nothing (``Completion.untaught``), the policy was played all the
same: the decision counts and is never resolved, else a policy that only refuses would be taken for one never tried.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from operator import itemgetter

from sqlalchemy import Connection, RowMapping, bindparam, select, update

from redraft.costs import Cost
from redraft.log import queries
from redraft.log.database import adding
from redraft.log.mapping import cost_today
from redraft.log.prepared import Prepared
from redraft.log.schema import completions, decisions, statistics
from redraft.types import Count

__all__ = ["Changes", "differences", "first_edit", "known", "rebuild", "recount", "settle"]


_OF_TASK = select(statistics).where(statistics.c.task == bindparam("of_task"))
_LOCK = Prepared(_OF_TASK.order_by(statistics.c.policy).with_for_update())
_SET = Prepared(
    update(statistics)
    .where(statistics.c.task == bindparam("of_task"), statistics.c.policy == bindparam("of_policy"))
    .values({name: bindparam(name) for name in ("cost_name", *Count.__slots__)})
)


Changes = dict[tuple[str, str], Count]
"""(Task, policy) → what the events of one transaction change, added up until it ends."""


def first_edit(units: int) -> Count:
    """What the first edit of a decision adds, given its cost."""
    return Count(0, 1, units, units**2)


def settle(connection: Connection, changes: Changes, cost_of: Callable[[str], Cost]) -> dict[str, dict[str, Count]]:
    """Write changes, and return the statistics of their tasks. Rows are locked in one order in all processes."""
    settled: dict[str, dict[str, Count]] = {}
    for task in sorted({task for task, _ in changes}):
        changed = {policy: count for (of, policy), count in changes.items() if of == task}
        name = cost_of(task).name
        rows = _locked(connection, task, changed, name)
        if any(cost_name != name for cost_name, _ in rows.values()):
            settled[task] = rebuild(connection, task, cost_of)
            continue
        settled[task] = {policy: old + changed.get(policy, Count()) for policy, (_, old) in rows.items()}
        _set(connection, task, name, {policy: settled[task][policy] for policy in changed})
    return settled


def known(connection: Connection, task: str, cost_name: str) -> dict[str, Count] | None:
    """What is known of each policy of a task; ``None`` if any of it was summed under another Δ."""
    rows = connection.execute(_OF_TASK, {"of_task": task}).mappings().all()
    return None if any(row["cost_name"] != cost_name for row in rows) else {r["policy"]: _count(r) for r in rows}


def recount(connection: Connection, task: str | None, cost_of: Callable[[str], Cost]) -> Mapping[str, dict[str, Count]]:
    """Task → policy → what its events say, from nothing but them."""
    found: dict[str, dict[str, Count]] = defaultdict(lambda: defaultdict(Count))
    for row in connection.execute(queries.learnt_of(task), execution_options={"yield_per": 1000}).mappings():
        units = cost_today(connection, row, cost_of)
        resolved = Count() if units is None else first_edit(units)
        found[row[completions.c.task]][row[decisions.c.chosen]] += Count(decisions=1) + resolved
    return found


def differences(connection: Connection, cost_of: Callable[[str], Cost]) -> Iterator[str]:
    """One line for each policy whose kept numbers are not those of its events."""
    found = recount(connection, None, cost_of)
    for task in sorted({*connection.scalars(select(statistics.c.task)), *found}):
        kept, counted = known(connection, task, cost_of(task).name), found.get(task, {})
        if kept is None:
            continue  # summed under another Δ: counted anew at the next event
        for policy in kept | counted:
            if (old := kept.get(policy, Count())) != (new := counted.get(policy, Count())):
                yield f"statistics of {task}, {policy}: {asdict(old)} are kept, the events give {asdict(new)}"


def _locked(connection: Connection, task: str, policies: Iterable[str], cost_name: str) -> dict[str, tuple[str, Count]]:
    """All rows of a task, those of ``policies`` made if need be, locked until the end (SQLite locks all there is).

    Policy → name of its Δ and its numbers.
    """
    rows = _kept(connection, task)
    fresh = [{"task": task, "policy": p, "cost_name": cost_name, **asdict(Count())} for p in policies if p not in rows]
    if not fresh:
        return rows
    connection.execute(adding(connection, statistics), sorted(fresh, key=itemgetter("policy")))
    return _kept(connection, task)


def _kept(connection: Connection, task: str) -> dict[str, tuple[str, Count]]:
    rows = _LOCK.select(connection, {"of_task": task})
    return {policy: (cost_name, Count(*numbers)) for _, policy, cost_name, *numbers in rows}


def _count(row: RowMapping) -> Count:
    return Count(*(row[name] for name in Count.__slots__))


def _set(connection: Connection, task: str, cost_name: str, counts: Mapping[str, Count]) -> None:
    place = {"of_task": task, "cost_name": cost_name}
    _SET.execute(connection, [place | {"of_policy": policy, **asdict(count)} for policy, count in counts.items()])


def rebuild(connection: Connection, task: str, cost_of: Callable[[str], Cost]) -> dict[str, Count]:
    """Count a task's events anew, under the Δ it has now, and keep and return that.

    Rows are locked before events are counted: whoever holds them has then committed, and whoever waits adds to this.
    """
    _kept(connection, task)
    found, name = recount(connection, task, cost_of).get(task, {}), cost_of(task).name
    counts = {policy: found.get(policy, Count()) for policy in _locked(connection, task, found, name)}
    _set(connection, task, name, counts)
    return counts
