"""What selectors have learnt, kept beside the events: four integers for each policy of a task.

They change in the transaction of the event they come from, so neither is ever without the other, and under a lock on
their row, so that several processes add up. Whatever the selector, it learns from these alone. They are derived:
``recount`` gives them from the events, under the Δ that the task has now, and ``verify`` compares.

A decision counts for the policy that was chosen if that one answered. Where another had to step in, an edit says
nothing about the choice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, astuple, dataclass

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from redraft.costs import Cost
from redraft.log import queries
from redraft.log.mapping import cost_today
from redraft.log.schema import completions, decisions, statistics

__all__ = ["Changes", "Tally", "differences", "other_costs", "rebuild", "recount", "tallies"]


@dataclass(frozen=True, slots=True)
class Tally:
    """N(π) and C(π) of Algorithm 1, ``resolved`` and ``total``, and two more; costs in 10⁻⁹ units."""

    decisions: int = 0
    resolved: int = 0
    total: int = 0
    squares: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


class Changes:
    """What the events of one transaction change, added up until it ends."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Tally] = defaultdict(Tally)

    def decided(self, task: str, policy: str) -> None:
        """A decision was made and the chosen policy answered."""
        self._found[task, policy] += Tally(decisions=1)

    def resolved(self, task: str, policy: str, units: int) -> None:
        """The first edit came."""
        self._found[task, policy] += Tally(0, 1, units, units**2)

    def corrected(self, task: str, policy: str, old: int, new: int) -> None:
        """A higher revision took the place of what held: the sums change, N does not."""
        self._found[task, policy] += Tally(0, 0, new - old, new**2 - old**2)

    def settle(self, connection: Connection, cost_of: Callable[[str], Cost]) -> set[str]:
        """Write them, and return the tasks they are of. Every row is locked, in one order in all processes."""
        tasks = {task for task, _ in self._found}
        for task in sorted(tasks):
            name = cost_of(task).name
            changed = {policy: tally for (of, policy), tally in sorted(self._found.items()) if of == task}
            before = {policy: _locked(connection, task, policy, name) for policy in changed}
            if other_costs(connection, task, name):
                rebuild(connection, task, cost_of)
            else:
                for policy, tally in changed.items():
                    _set(connection, task, policy, before[policy] + tally)
        self._found.clear()
        return tasks


def tallies(connection: Connection, task: str) -> dict[str, Tally]:
    """What is known of each policy of a task."""
    rows = connection.execute(select(statistics).where(statistics.c.task == task)).mappings()
    return {row["policy"]: Tally(*(row[name] for name in Tally.__slots__)) for row in rows}


def recount(connection: Connection, task: str | None, cost_of: Callable[[str], Cost]) -> Mapping[str, dict[str, Tally]]:
    """Task → policy → what its events say, from nothing but them."""
    found: dict[str, dict[str, Tally]] = defaultdict(lambda: defaultdict(Tally))
    for row in connection.execution_options(yield_per=1000).execute(queries.learnt_of(task)).mappings():
        of = found[row[completions.c.task]]
        units = cost_today(connection, row, cost_of)
        resolved = Tally() if units is None else Tally(0, 1, units, units**2)
        of[row[decisions.c.chosen]] += Tally(decisions=1) + resolved
    return found


def differences(connection: Connection, cost_of: Callable[[str], Cost]) -> Iterator[str]:
    """One line for each policy whose kept numbers are not those of its events."""
    kept = {
        (row["task"], row["policy"]): Tally(*(row[name] for name in Tally.__slots__))
        for row in connection.execute(select(statistics)).mappings()
        if row["cost_name"] == cost_of(row["task"]).name
    }
    stale = {task for (task,) in connection.execute(select(statistics.c.task).distinct())} - {task for task, _ in kept}
    for task, policies in recount(connection, None, cost_of).items():
        for policy, tally in policies.items():
            found = kept.pop((task, policy), Tally())
            if task not in stale and found != tally:
                yield f"statistics of {task}, {policy}: {asdict(found)} are kept, the events give {asdict(tally)}"
    for (task, policy), found in kept.items():
        if found != Tally():
            yield f"statistics of {task}, {policy}: {asdict(found)} are kept, there is no such decision"


def _locked(connection: Connection, task: str, policy: str, cost_name: str) -> Tally:
    """The row of a policy, made if need be and locked until the transaction ends (SQLite locks all there is)."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    fresh = {"task": task, "policy": policy, "cost_name": cost_name, **asdict(Tally())}
    connection.execute(dialect.insert(statistics).values(fresh).on_conflict_do_nothing())
    where = (statistics.c.task == task) & (statistics.c.policy == policy)
    row = connection.execute(select(statistics).where(where).with_for_update()).mappings().one()
    return Tally(*(row[name] for name in Tally.__slots__))


def other_costs(connection: Connection, task: str, cost_name: str) -> bool:
    """Whether any of a task's statistics are sums of another Δ."""
    other = select(statistics.c.policy).where(statistics.c.task == task, statistics.c.cost_name != cost_name).limit(1)
    return connection.execute(other).first() is not None


def _set(connection: Connection, task: str, policy: str, tally: Tally) -> None:
    where = (statistics.c.task == task) & (statistics.c.policy == policy)
    connection.execute(update(statistics).where(where).values(asdict(tally)))


def rebuild(connection: Connection, task: str, cost_of: Callable[[str], Cost]) -> Mapping[str, Tally]:
    """Count a task's events anew, under the Δ it has now, and keep and return that."""
    found, name = recount(connection, task, cost_of).get(task, {}), cost_of(task).name
    connection.execute(delete(statistics).where(statistics.c.task == task))
    rows = [{"task": task, "policy": policy, "cost_name": name, **asdict(tally)} for policy, tally in found.items()]
    if rows:
        connection.execute(insert(statistics), rows)
    return found
