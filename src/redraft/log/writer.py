"""How events enter the log: idempotent where they repeat, refused where they contradict what is there.

Everything here happens inside a transaction that the caller holds; ``settle`` ends it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import NoReturn

from sqlalchemy import Connection, RowMapping, bindparam, insert, select, update

from redraft.costs import Cost
from redraft.errors import ConflictError, NotFoundError, RedraftError
from redraft.log import queries
from redraft.log.canonical import canonical
from redraft.log.mapping import (
    Rows,
    completion_from,
    cost_today,
    decision_from,
    difference,
    edit_rows,
    interaction_rows,
)
from redraft.log.prepared import Prepared
from redraft.log.schema import RESPONSE, completions, decisions, edits, texts
from redraft.log.statistics import Changes, first_edit, settle
from redraft.types import Completion, Count, Decision, Edit, Interaction

__all__ = ["Added", "Batch", "Refused", "Writer", "batches", "raising"]

Batch = list[tuple[int, Interaction]]
"""Rows for one transaction, each with its place in the whole."""
Refused = Callable[[int, RedraftError], None]

_INSERTS = {
    table: Prepared(insert(table).inline().values({c.name: bindparam(c.name) for c in table.c if c.name != "position"}))
    for table in (completions, decisions, edits, texts)
}
_LOCKED = queries.LOGGED.with_for_update(of=completions)
_LEARNT = queries.learnt_of(None).where(completions.c.id == bindparam("completion_id"))
_SETTLE = (
    update(texts)
    .where(texts.c.completion_id == bindparam("of_completion"), texts.c.revision == RESPONSE)
    .where(texts.c.content.is_(None), texts.c.partial.is_not(None))
    .values(content=texts.c.partial, partial=None)
)

BATCH_ROWS = 1000
BATCH_CHARS = 4_000_000


@dataclass(frozen=True, slots=True)
class Added:
    """What an import brought: rows that added something, and rows that said what the log knew."""

    new: int = 0
    known: int = 0

    def __add__(self, other: Added) -> Added:
        return Added(self.new + other.new, self.known + other.known)


def raising(_index: int, error: RedraftError) -> NoReturn:
    """Refuse a row by raising its error."""
    raise error


def batches(interactions: Iterable[Interaction], max_text_chars: int, refused: Refused) -> Iterator[Batch]:
    """Cut a stream into batches, bounded in rows and in characters so that long texts do not fill the memory.

    Rows that could not be stored faithfully go to ``refused``.
    """
    rows: Batch = []
    size = 0
    for index, interaction in enumerate(interactions):
        try:
            rows.append((index, canonical(interaction, max_text_chars)))
        except RedraftError as error:
            refused(index, error)
            continue
        size += _characters(interaction)
        if len(rows) == BATCH_ROWS or size > BATCH_CHARS:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def _characters(interaction: Interaction) -> int:
    completion, edited = interaction.completion, interaction.edit and interaction.edit.edited
    more = sum(len(str(message.more)) for message in completion.messages if message.more)
    said = sum(len(message.content) for message in completion.messages) + len(completion.response) + len(edited or "")
    return said + more


class Writer:
    """Adds canonical events over one connection, pricing edits with the Δ of their task."""

    def __init__(self, connection: Connection, cost_of: Callable[[str], Cost]) -> None:
        self._connection = connection
        self._cost_of = cost_of
        self._changes: Changes = defaultdict(Count)

    def settle(self) -> dict[str, dict[str, Count]]:
        """Bring the statistics up to what was written; last of all. Returns those of the tasks where any changed."""
        return settle(self._connection, self._changes, self._cost_of)

    def add(self, given: Interaction) -> bool:
        """Add what is new in an interaction and return whether there was anything.

        Raises ``ConflictError`` when the log knows its id, or the revision of its edit, with other content.
        """
        row = self.locked(given.completion.id)
        if row is None:
            self._insert_fresh([(given, self._rows(given))])
            return True
        self._require_same_completion(row, given.completion)
        if given.decision is not None:
            self._require_same_decision(given.decision)
        return given.edit is not None and self.add_edit(row, given.edit)

    def revise(self, edit: Edit) -> bool:
        """Add an edit of a logged completion and return whether it was new; raises ``NotFoundError`` without one."""
        row = self.locked(edit.completion_id)
        if row is None:
            raise NotFoundError(f"completion {edit.completion_id!r} is not in the log: record it before its edits")
        return self.add_edit(self.settled(row), edit)

    def settled(self, row: RowMapping) -> RowMapping:
        """The completion that ``locked`` gave; of a stream that has not ended, what it said so far is the answer now.

        An edit is priced against that text, so a later end of the stream no longer changes it.
        """
        if row[texts.c.content] is not None or row[texts.c.partial] is None:
            return row
        self._connection.execute(_SETTLE, {"of_completion": row[completions.c.id]})
        found = self.locked(row[completions.c.id])  # another process may have finished it meanwhile
        assert found is not None
        return found

    def add_batch(self, batch: Batch, refused: Refused, begun: Collection[int] = ()) -> Added:
        """Add many interactions: unknown ones by one statement per table, the others one by one.

        ``begun`` are the places of those whose response is not known yet.
        """
        seen = self._known([interaction.completion.id for _, interaction in batch])
        fresh: list[tuple[Interaction, Rows]] = []
        repeated: Batch = []
        for index, interaction in batch:
            if interaction.completion.id in seen:
                repeated.append((index, interaction))
                continue
            try:
                rows = self._rows(interaction)
                if index in begun:
                    rows[texts.name][0]["content"] = None
                fresh.append((interaction, rows))
                seen.add(interaction.completion.id)
            except RedraftError as error:
                refused(index, error)
        self._insert_fresh(fresh)
        total = Added(len(fresh))
        for index, interaction in repeated:
            try:
                total += Added(1, 0) if self.add(interaction) else Added(0, 1)
            except RedraftError as error:
                refused(index, error)
        return total

    def _known(self, ids: list[str]) -> set[str]:
        """Those of these ids that the log knows."""
        if not ids:
            return set()
        size = 1 << (len(ids) - 1).bit_length()  # a few statements for all sizes; the rest asks for the last id again
        asked = {f"id_{place}": ids[min(place, len(ids) - 1)] for place in range(size)}
        return {known for (known,) in _known_of(size).select(self._connection, asked)}

    def _rows(self, interaction: Interaction) -> Rows:
        return interaction_rows(interaction, self._cost_of(interaction.completion.task))

    def _insert_fresh(self, several: list[tuple[Interaction, Rows]]) -> None:
        self._insert([rows for _, rows in several])
        for interaction, rows in several:
            completion, decision = interaction.completion, interaction.decision
            if decision is not None and completion.policy in ("", decision.chosen):
                self._changes[completion.task, decision.chosen] += Count(decisions=1)
                for row in () if completion.untaught else rows[edits.name]:
                    self._changes[completion.task, decision.chosen] += first_edit(row["cost"])

    def _insert(self, several: list[Rows]) -> None:
        for table, statement in _INSERTS.items():
            rows = [row for rows in several for row in rows.get(table.name, ())]
            if rows:
                statement.execute(self._connection, rows)

    def locked(self, completion_id: str) -> RowMapping | None:
        """The completion, locked until the transaction ends: its edits are counted one after the other."""
        return self._connection.execute(_LOCKED, {"completion_id": completion_id}).mappings().first()

    def add_edit(self, row: RowMapping, edit: Edit) -> bool:
        """Add an edit of the completion that ``locked`` gave; returns and raises as ``revise``."""
        response = row[texts.c.content]
        place = {"completion_id": edit.completion_id, "revision": edit.revision}
        before = self._connection.execute(queries.REVISION, place).mappings().first()
        if before is None:
            if response is None:
                raise NotFoundError(
                    f"completion {edit.completion_id!r}: its text was erased or is not finished, an edit has no cost"
                )
            rows = edit_rows(edit, response, self._cost_of(row[completions.c.task]))
            self._learn(row, edit.revision, rows[edits.name][0]["cost"])
            self._insert([rows])
            return True
        known = response if before[edits.c.accepted] else before[queries.edited_text.c.content]
        # None stands for an erased text: nothing is left that a repeat could contradict.
        if known not in (None, response if edit.edited is None else edit.edited):
            raise ConflictError(
                f"completion {edit.completion_id!r}: revision {edit.revision} is known with another text: "
                "send a changed text as a higher revision"
            )
        return False

    def _learn(self, row: RowMapping, revision: int, units: int) -> None:
        """Count what a new revision changes; one that comes after a higher one changes nothing."""
        decision = self._connection.execute(_LEARNT, {"completion_id": row[completions.c.id]}).mappings().first()
        if decision is None or row[texts.c.untaught]:
            return
        task, chosen, holding = row[completions.c.task], decision[decisions.c.chosen], decision[edits.c.revision]
        before = cost_today(self._connection, decision, self._cost_of)
        if before is None:
            self._changes[task, chosen] += first_edit(units)
        elif revision > holding:  # the sums change, the number of resolved decisions does not
            self._changes[task, chosen] += Count(0, 0, units - before, units**2 - before**2)

    def _require_same_completion(self, row: RowMapping, given: Completion) -> None:
        known = completion_from(row)
        if row[texts.c.content] is None:
            known = replace(known, messages=given.messages, response=given.response, answer=given.answer)
        if known != given:
            raise ConflictError(
                f"completion {given.id!r} is in the log with other content ({difference(known, given)}): "
                "give another id, or send the same content"
            )

    def _require_same_decision(self, given: Decision) -> None:
        found = select(decisions).where(decisions.c.completion_id == given.completion_id)
        row = self._connection.execute(found).mappings().first()
        known = decision_from(row) if row else None
        if known != given:
            what = "no decision" if known is None else f"another decision ({difference(known, given)})"
            raise ConflictError(f"completion {given.completion_id!r} is in the log with {what}: it cannot change later")


@cache
def _known_of(size: int) -> Prepared:
    ids = [bindparam(f"id_{place}") for place in range(size)]
    return Prepared(select(completions.c.id).where(completions.c.id.in_(ids)))
