"""How events enter the log: idempotent where they repeat, refused where they contradict what is there.

Everything here happens inside a transaction that the caller holds; ``settle`` ends it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from operator import itemgetter
from types import MappingProxyType
from typing import Any, NoReturn

from sqlalchemy import Connection, RowMapping, bindparam, insert, select, update

from redraft.costs import Cost
from redraft.errors import ConflictError, DataError, NotFoundError, RedraftError
from redraft.log import queries
from redraft.log.canonical import MAX_REVISION, Named, canonical, check_name, renamed
from redraft.log.mapping import (
    Rows,
    completion_from,
    cost_today,
    decision_from,
    difference,
    edit_from,
    edit_rows,
    interaction_rows,
)
from redraft.log.prepared import Prepared
from redraft.log.schema import RESPONSE, completions, decisions, edits, texts
from redraft.log.statistics import Changes, first_edit, settle
from redraft.pricing import Batch, Prices
from redraft.types import Completion, Count, Decision, Edit, Interaction

__all__ = ["Added", "Refused", "Writer", "batches", "raising"]

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

_UNPRICED: Prices = MappingProxyType({})
BATCH_ROWS = 2000
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


def batches(
    interactions: Iterable[Interaction], max_text_chars: int, refused: Refused, *, checked: bool = False
) -> Iterator[Batch]:
    """Cut a stream into batches, bounded in rows and in characters so that long texts do not fill the memory.

    Rows that could not be stored faithfully go to ``refused``; ``checked`` ones are canonical already.
    """
    rows: Batch = []
    size = 0
    for index, interaction in enumerate(interactions):
        try:
            rows.append((index, interaction if checked else canonical(interaction, max_text_chars)))
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
        completion, edit = given.completion, given.edit
        row = self.locked(completion.id)
        if row is None:
            self._insert_fresh([(given, self._rows(given))])
            return True
        if edit is not None and edit.user_id is not None and edit.user_id == completion.user_id:
            completion = replace(completion, user_id=row[completions.c.user_id])  # tables name the editor alone
        self._require_same_completion(row, completion)
        if given.decision is not None:
            self._require_same_decision(given.decision)
        return edit is not None and self._add_someones(row, edit)

    def revise(self, edit: Edit) -> bool:
        """Add an edit of a logged completion and return whether it was new; raises ``NotFoundError`` without one."""
        row = self.locked(edit.completion_id)
        if row is None:
            raise NotFoundError(f"completion {edit.completion_id!r} is not in the log: record it before its edits")
        return self._add_someones(self.settled(row), edit)

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

    def _named(self, batch: Batch, refused: Refused) -> tuple[Batch, set[str]]:
        """Rename rows whose id is another task's to ``TASK:ID``, and rows that an older version named to that name.

        So several files may count from 1. A file that comes again finds its rows under the same names: which of all
        names the log knows, is returned too.
        """
        owners = self._owners([name for _, row in batch for name in _names(row)])
        logged = set(owners)
        waiting = [
            (index, row, next((n for n in _names(row) if n in owners), row.completion.id)) for index, row in batch
        ]
        found: Batch = []
        while waiting:
            collided: list[tuple[int, Interaction, str]] = []
            for index, row, name in waiting:
                if owners.setdefault(name, row.completion.task) != row.completion.task:
                    collided.append((index, row, f"{row.completion.task}:{name}"))
                    continue
                try:
                    check_name("id", name)
                    found.append((index, row if name == row.completion.id else renamed(row, name)))
                except RedraftError as error:
                    refused(index, error)
            waiting = collided
            more = self._owners([name for _, _, name in waiting])
            owners = more | owners
            logged |= more.keys()
        return sorted(found, key=itemgetter(0)), logged

    def add_named(self, batch: Batch, refused: Refused, prices: Prices) -> Added:
        """Add what an import brings, under names that no other task has."""
        named, logged = self._named(batch, refused)
        return self._add_all(named, refused, logged, prices=prices)

    def add_batch(self, batch: Batch, refused: Refused, begun: Collection[int] = ()) -> Added:
        """Add many interactions; ``begun`` are the places of those whose response is not known yet."""
        return self._add_all(batch, refused, set(self._owners([row.completion.id for _, row in batch])), begun)

    def _add_all(
        self, batch: Batch, refused: Refused, seen: set[str], begun: Collection[int] = (), prices: Prices = _UNPRICED
    ) -> Added:
        """Add what was not ``seen`` by one statement per table, the others one by one; ``prices`` as far as known."""
        fresh: list[tuple[Interaction, Rows]] = []
        repeated: Batch = []
        for index, interaction in batch:
            if interaction.completion.id in seen:
                repeated.append((index, interaction))
                continue
            try:
                rows = self._rows(interaction, prices.get(index))
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

    def _owners(self, ids: list[str]) -> dict[str, str]:
        """Those of these ids that the log knows, with the tasks of their completions."""
        if not ids:
            return {}
        size = 1 << (len(ids) - 1).bit_length()  # a few statements for all sizes; the rest asks for the last id again
        asked = {f"id_{place}": ids[min(place, len(ids) - 1)] for place in range(size)}
        rows: Iterable[Any] = _known_of(size).select(self._connection, asked)
        return dict(rows)

    def _rows(self, interaction: Interaction, price: tuple[float, int] | None = None) -> Rows:
        return interaction_rows(interaction, self._cost_of(interaction.completion.task), price)

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
        return self._add_unless(self._event(edit), row, edit)

    def _event(self, edit: Edit) -> RowMapping | None:
        """What the log has under the revision of an edit."""
        place = {"completion_id": edit.completion_id, "revision": edit.revision}
        return self._connection.execute(queries.REVISION, place).mappings().first()

    def _add_unless(self, before: RowMapping | None, row: RowMapping, edit: Edit) -> bool:
        response = row[texts.c.content]
        if before is None:
            if response is None:
                raise NotFoundError(
                    f"completion {edit.completion_id!r}: its text was erased or is not finished, an edit has no cost"
                )
            rows = edit_rows(edit, response, self._cost_of(row[completions.c.task]))
            self._learn(row, edit.revision, rows[edits.name][0]["cost"])
            self._insert([rows])
            return True
        # None stands for an erased text: nothing is left that a repeat could contradict.
        if _text(before, response) not in (None, response if edit.edited is None else edit.edited):
            raise _conflict(edit)
        return False

    def _add_someones(self, row: RowMapping, edit: Edit) -> bool:
        """Add an edit whose revision counts its person's edits alone; returns and raises as ``revise``.

        Where another person's edit has that revision, it becomes the next one. The latest has to hold: where both have
        a time and it is the earlier one, what holds is said once more after it.
        """
        before, response = self._event(edit), row[texts.c.content]
        said = response if edit.edited is None else edit.edited
        someone = None if before is None else before[edits.c.user_id]
        again = before is not None and someone == edit.user_id and _text(before, response) == said
        if edit.user_id is None or again or (before is not None and someone is None):
            return self._add_unless(before, row, edit)
        known = self._connection.execute(queries.EVENTS, {"completion_id": edit.completion_id}).mappings().all()
        own = {_text(event, response): event for event in known if event[edits.c.user_id] == edit.user_id}
        if before is None:
            later = own.get(said)
            return (later is None or later[edits.c.revision] < edit.revision) and self._add_unless(None, row, edit)
        if {event[edits.c.user_id] for event in known} <= {edit.user_id, None}:
            return self._add_unless(before, row, edit)
        if not own.keys().isdisjoint({None, said}):
            return False
        if edit.revision < len(own):
            raise _conflict(edit)
        last = known[-1]
        if (next_one := last[edits.c.revision] + 1) >= MAX_REVISION:
            raise DataError(f"completion {edit.completion_id!r}: revision {MAX_REVISION} is the last that there can be")
        self.add_edit(row, replace(edit, revision=next_one))
        holding = edit_from(last, last[queries.edited_text.c.content])
        moments = edit.created_at, last[edits.c.created_at]
        if holding and all(moments) and moments[0] < moments[1] and _text(last, response) is not None:
            self.add_edit(row, replace(holding, revision=next_one + 1))
        return True

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


def _names(row: Interaction) -> tuple[str, ...]:
    return (row.before, row.completion.id) if isinstance(row, Named) else (row.completion.id,)


def _text(event: RowMapping, response: str | None) -> str | None:
    """What a person made of the response; ``None`` where it was erased."""
    return response if event[edits.c.accepted] else event[queries.edited_text.c.content]


def _conflict(edit: Edit) -> ConflictError:
    return ConflictError(
        f"completion {edit.completion_id!r}: revision {edit.revision} is known with another text: "
        "send a changed text as a higher revision"
    )


@cache
def _known_of(size: int) -> Prepared:
    ids = [bindparam(f"id_{place}") for place in range(size)]
    return Prepared(select(completions.c.id, completions.c.task).where(completions.c.id.in_(ids)))
