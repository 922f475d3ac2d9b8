"""The log checked against itself: every reference leads somewhere, and every stored number follows from the texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from sqlalchemy import Connection, RowMapping, and_, select

from redraft.costs import Cost, at_first
from redraft.errors import RedraftError
from redraft.log import queries
from redraft.log.canonical import decision_problems
from redraft.log.mapping import decision_from
from redraft.log.schema import RESPONSE, completions, decisions, edits, texts
from redraft.log.statistics import differences

__all__ = ["Remark", "problems"]


class Remark(str):
    """What somebody should know, though nothing is wrong with the log."""

    __slots__ = ()


def problems(connection: Connection, cost_of: Callable[[str], Cost], known: Mapping[str, Cost]) -> Iterator[str]:
    """One line for each inconsistency; costs under a Δ that the task no longer uses are recomputed with that Δ.

    ``known`` are other Δs by name. A name in the log is compared with theirs and never looked up: it may be anyone's.
    """
    yield from _dangling(connection)
    for row in connection.execute(select(decisions), execution_options={"yield_per": 200}).mappings():
        decision = decision_from(row)
        for problem in decision_problems(decision) if decision else ():
            yield f"decision of {row[decisions.c.completion_id]!r}: {problem}"
    yield from differences(connection, cost_of)
    foreign, earlier = Counter[str](), 0
    for row in connection.execute(queries.edits_of(), execution_options={"yield_per": 200}).mappings():
        name, current = row[edits.c.cost_name], cost_of(row[completions.c.task])
        cost = current if current.name == name else known.get(name)
        foreign[name] += cost is None
        problem = _edit_problem(row, cost)
        if problem and cost is not None and _edit_problem(row, at_first(cost)) is None:
            earlier += 1
        elif problem:
            yield f"completion {row[edits.c.completion_id]!r}, revision {row[edits.c.revision]}: {problem}"
    if earlier:
        yield Remark(
            f"{earlier:,} edits have the costs of an earlier version, which took sentences without blanks for one word "
            "and transport for editing: to price them anew, export the log (native) and import it into a new one"
        )
    for name, count in foreign.items():
        if count:
            priced_under = f"{count:,} edits were priced under {name[:60]!r}"
            yield f"{priced_under}, which no task in the settings names: not recomputed"


def _dangling(connection: Connection) -> Iterator[str]:
    for table in (decisions, edits, texts):
        lost = (
            select(table.c.completion_id)
            .outerjoin(completions, completions.c.id == table.c.completion_id)
            .where(completions.c.id.is_(None))
        )
        for completion_id in connection.scalars(lost):
            yield f"completion {completion_id!r}: is missing, but {table.name} name it"
    text_of = and_(texts.c.completion_id == completions.c.id, texts.c.revision == RESPONSE)
    bare = select(completions.c.id).outerjoin(texts, text_of).where(texts.c.completion_id.is_(None))
    for completion_id in connection.scalars(bare):
        yield f"completion {completion_id!r}: has no row for its texts, not even an erased one"
    edit_of = and_(edits.c.completion_id == texts.c.completion_id, edits.c.revision == texts.c.revision)
    stray = select(texts).outerjoin(edits, edit_of).where(texts.c.revision != RESPONSE, edits.c.position.is_(None))
    for row in connection.execute(stray).mappings():
        yield f"completion {row[texts.c.completion_id]!r}: a text of revision {row[texts.c.revision]} has no edit"


def _edit_problem(row: RowMapping, cost: Cost | None) -> str | None:
    response, edited, accepted = row[texts.c.content], row[queries.edited_text.c.content], row[edits.c.accepted]
    if accepted:
        fine = (
            (row[edits.c.raw], row[edits.c.cost]) == (0, 0)
            and row[edits.c.unchanged]
            and row[queries.edited_text.c.completion_id] is None
        )
        return None if fine else "accepted unchanged, but with a cost or a text"
    if row[queries.edited_text.c.completion_id] is None:
        return "its text is missing, not even erased"
    if response is None or edited is None:
        return None
    if row[edits.c.unchanged] != (edited == response if cost is None else cost.same(response, edited)):
        return f"unchanged is {row[edits.c.unchanged]}, which its texts contradict"
    return None if cost is None else _cost_problem(row, cost, response, edited)


def _cost_problem(row: RowMapping, cost: Cost, response: str, edited: str) -> str | None:
    kept = (row[edits.c.raw], row[edits.c.cost])
    try:
        found = cost.priced(response, edited)
    except RedraftError as error:
        return f"its cost cannot be recomputed: {error}"
    return None if found == kept else f"raw distance and cost are {kept}, recomputed {found}"
