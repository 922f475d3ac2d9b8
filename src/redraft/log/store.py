"""The edit log: what was answered, why, and what people made of it. The log is the truth; all else is derived.

Guaranteed: what ``record`` and ``edit`` return from is durable; nothing is ever half-written; a repeated message has
no effect and a contradicting one raises ``ConflictError``; the highest revision of an edit holds, whatever the order
of arrival. Silence is never approval: without an edit a completion awaits one, and is *censored* once the horizon
has passed (at once where nobody knows when it was written, as in many imports).

Left out on purpose: deleting events. ``erase`` removes a person's texts, the events and their costs remain.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, Self

from sqlalchemy import Connection, RowMapping, insert, select

from redraft.config import Settings
from redraft.costs import COSTS, DEFAULT_COST, Cost, get_cost
from redraft.errors import ConfigError, NotFoundError
from redraft.log import queries
from redraft.log.canonical import canonical, canonical_edit
from redraft.log.database import beside, one_import, open_database, reading, settle, writing
from redraft.log.events import Event, Outcome, write
from redraft.log.keys import Key, find_key
from redraft.log.mapping import completion_from, cost_today, decision_from, edit_event, edit_from
from redraft.log.schema import completions, edits, erasures, texts
from redraft.log.statistics import known, rebuild
from redraft.log.verify import problems
from redraft.log.writer import Added, Refused, Writer, batches, raising
from redraft.pricing import Batch, Prices, priced_ahead
from redraft.types import COST_UNIT, Completion, Count, Decision, Edit, Interaction

__all__ = ["Added", "Counts", "EditLog", "Erased"]


class Erased(NamedTuple):
    """How many texts were erased, and which policies had been trained on them."""

    texts: int
    policies: list[str]


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the completions.

    ``completions`` = ``edited`` + ``unchanged`` + ``awaiting`` + ``censored``. ``unchanged`` means y' = y, of which
    ``accepted`` were said to be fine in so many words; ``revisions`` counts every edit event.
    """

    completions: int
    edited: int
    unchanged: int
    accepted: int
    awaiting: int
    censored: int
    revisions: int


class EditLog:
    """The log behind a URL, opened and brought to the newest schema.

    Parameters
    ----------
    url
        SQLAlchemy URL, e.g. ``sqlite:///redraft.db``.
    cost_of
        Task → the Δ with which its edits are priced when they arrive.
    max_text_chars
        Longer texts are refused.
    horizon_days
        After this long without feedback, a completion is censored.
    create
        Whether to create a log that does not exist; otherwise ``NotFoundError`` is raised.
    costs
        Names of further Δs with which edits may have been priced. ``verify`` looks up these and no others: a name in
        the log may come from anyone, and looking up ``module:function`` runs code.

    Raises
    ------
    ConfigError
        When the URL or the place cannot be used. Once the log is open, every method raises ``UnavailableError``
        while it cannot be reached.

    Notes
    -----
    Safe to share between threads; iterators hold a connection until they are exhausted or closed, and see the log as
    it was when they started.
    """

    def __init__(
        self,
        url: str,
        *,
        cost_of: Callable[[str], Cost] = lambda _: COSTS[DEFAULT_COST],
        max_text_chars: int = 1_000_000,
        horizon_days: float = 14.0,
        create: bool = True,
        costs: Collection[str] = (),
    ) -> None:
        self._costs = costs
        self.cost_of = cost_of
        self.max_text_chars = max_text_chars
        self.horizon = timedelta(days=horizon_days)
        self._engine = open_database(url, create=create)

    @classmethod
    def from_settings(cls, settings: Settings, *, url: str | None = None, create: bool = True) -> Self:
        """Open the log that ``redraft.toml`` names, or the one at ``url`` with its other settings."""

        @cache
        def cost_of(task: str) -> Cost:
            return settings.cost_of(task)

        return cls(
            url or settings.log.url,
            cost_of=cost_of,
            max_text_chars=settings.log.max_text_chars,
            horizon_days=settings.log.horizon_days,
            create=create,
            costs=sorted({task.cost for task in settings.tasks.values()}),
        )

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def beside(self, name: str, cache: Path) -> Path | None:
        """A folder for files that belong to this log: next to a SQLite file, else below ``cache``; none in memory."""
        return beside(self._engine.url, name, cache)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record(self, completion: Completion, decision: Decision | None = None) -> None:
        """Log a completion and what chose its policy; durable on return, and without effect when repeated.

        Raises ``ConflictError`` when the id is known with other content, ``DataError`` for what cannot be stored.
        """
        ready = canonical(Interaction(completion, None, decision), self.max_text_chars)
        with self._writing() as writer:
            writer.add(ready)

    def edit(self, edit: Edit) -> bool:
        """Log what a person made of a completion; durable on return. Returns whether the log gained an event.

        The cost is computed from the logged response. Raises ``NotFoundError`` for an unknown completion and
        ``ConflictError`` when this revision is known with another text of the same person (an edit equal to the
        response and "accepted unchanged" say the same). Another person's edit becomes the next revision.
        """
        ready = canonical_edit(edit, self.max_text_chars)
        with self._writing() as writer:
            return writer.revise(ready)

    def add_many(
        self,
        interactions: Iterable[Interaction],
        *,
        strict: bool = False,
        refused: Refused = raising,
        checked: bool = False,
        processes: int = 1,
    ) -> Added:
        """Log whole interactions, as an import does: one transaction per batch, or one for all when ``strict``.

        ``refused(index, error)`` is called for rows that conflict or cannot be stored, and the rest goes on. Without
        it the error is raised, which undoes the transaction. An interrupted import can be repeated.

        An id that is another task's becomes ``TASK:ID``. ``checked`` rows come from a reader, which gives them their
        canonical form. More than one of ``processes`` price the edits of a long import, under the costs of ``COSTS``,
        and a thread reads ``interactions``; as everywhere, a script that asks for them guards its ``__main__``.
        """
        pieces = batches(interactions, self.max_text_chars, refused, checked=checked)
        total = Added()
        with closing(priced_ahead(pieces, self.cost_of, processes)) as ready, ThreadPoolExecutor(1) as reader:
            if strict:
                with self._writing(importing=True) as writer:
                    total = sum((writer.add_named(piece, refused, prices) for piece, prices in ready), total)

            def following() -> Callable[[], tuple[Batch, Prices] | None]:
                return reader.submit(next, ready, None).result if processes > 1 else partial(next, ready, None)

            coming = following()
            while (found := coming()) is not None:
                with self._writing(importing=True) as writer:
                    piece, prices = found
                    total += writer.add_named(piece, refused, prices)
                    coming = following()  # is read while this one is committed, not before: both would wait for the GIL
        settle(self._engine)
        return total

    def write(self, events: Sequence[Event]) -> tuple[list[Outcome], dict[str, dict[str, Count]]]:
        """Write events, as ``redraft.log.events.checked`` gives them, in one transaction; durable on return.

        Returns what became of each, and the statistics of every task in which they changed, as they then were.
        """
        with writing(self._engine) as connection:
            writer = Writer(connection, self.cost_of)
            outcomes = write(connection, writer, events)
            return outcomes, writer.settle()

    def statistics(self, task: str) -> dict[str, Count]:
        """What is known of each policy of a task, under the Δ it has now."""
        with reading(self._engine) as connection:
            found = known(connection, task, self.cost_of(task).name)
        if found is not None:
            return found
        with writing(self._engine) as connection:
            return rebuild(connection, task, self.cost_of)

    def interactions(self, task: str | None = None, *, edited_only: bool = False) -> Iterator[Interaction]:
        """Stream completions in order of arrival, each with the edit that holds; erased ones are left out."""
        with reading(self._engine) as connection:
            statement = queries.interactions_of(task, edited_only=edited_only)
            rows = connection.execute(statement, execution_options={"yield_per": 200})
            yield from map(_interaction, rows.mappings())

    def interaction(self, completion_id: str) -> Interaction:
        """One completion with the edit that holds; raises ``NotFoundError`` when unknown or erased.

        Of a stream that has not ended, ``response`` is what it said so far.
        """
        with reading(self._engine) as connection:
            row = connection.execute(queries.interactions_of(None, completion_id=completion_id)).mappings().first()
        if row is None:
            raise NotFoundError(f"completion {completion_id!r} is not in the log")
        return _interaction(row)

    def resolved(self, task: str | None = None) -> Iterator[tuple[Decision, float]]:
        """Stream what a selector learns from: decisions with the cost that holds, in order of their first edit.

        A cost that was logged under another Δ than the task has now is computed anew from the texts, so that all
        share one scale; where these were erased the decision is left out.
        """
        with reading(self._engine) as connection:
            rows = connection.execute(queries.resolved_of(task), execution_options={"yield_per": 200})
            for row in rows.mappings():
                decision, units = decision_from(row), cost_today(connection, row, self.cost_of)
                if decision is not None and units is not None:
                    yield decision, units / COST_UNIT

    def tasks(self) -> list[str]:
        """Names of the tasks that have completions."""
        with reading(self._engine) as connection:
            return list(connection.scalars(select(completions.c.task).distinct().order_by(completions.c.task)))

    def counts(self, task: str | None = None, *, now: datetime | None = None) -> Counts:
        """Count completions by what became of them by ``now``."""
        horizon = (now or datetime.now(UTC)) - self.horizon
        with reading(self._engine) as connection:
            return Counts(**connection.execute(queries.tally(task, horizon)).mappings().one())

    def shared(self, task: str | None = None) -> tuple[int, int]:
        """How many completions have edits of several people, and in how many of these their last texts differ."""
        with reading(self._engine) as connection:
            several, differing = connection.execute(queries.shared_of(task)).one()
            return several, differing

    def edit_events(
        self, tasks: Sequence[str], *, completion_id: str | None = None, after: int = 0, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Edit events of these tasks after a position, in order of arrival, fit for JSON; erased texts are null."""
        with reading(self._engine) as connection:
            found = queries.edits_of(completion_id).where(edits.c.position > after, completions.c.task.in_(tasks))
            return [edit_event(row) for row in connection.execute(found.limit(limit)).mappings()]

    def written_by(self, user_id: str, tasks: Sequence[str] | None = None) -> set[str]:
        """Ids of the completions, of these tasks or of all, that hold a text of a person, erased or not."""
        with reading(self._engine) as connection:
            return set(connection.scalars(queries.written_by(user_id, tasks)))

    def erase(
        self,
        user_id: str,
        *,
        tasks: Sequence[str] | None = None,
        trained_on: Callable[[Collection[str]], list[str]] = lambda _: [],
    ) -> Erased:
        """Erase all texts of a person's completions and edits, in these tasks or in all. Events and costs stay.

        ``trained_on`` tells, from the ids of their completions, which policies learnt from them: these are kept on
        record. In SQLite's files the bytes are overwritten, in its write-ahead log once the last process has closed it.
        """
        policies = trained_on(self.written_by(user_id, tasks))
        with writing(self._engine) as connection:
            count = connection.execute(queries.erasing(user_id, tasks)).rowcount
            kept = {"user_id": user_id, "created_at": datetime.now(UTC), "texts": count, "policies": policies}
            connection.execute(insert(erasures).values(kept))
        return Erased(count, policies)

    def erased(self) -> set[str]:
        """Ids of the completions that lost a text to ``erase``."""
        gone = select(texts.c.completion_id).where(texts.c.content.is_(None), texts.c.messages.is_(None))
        with reading(self._engine) as connection:
            return set(connection.scalars(gone))

    def keys(self) -> AbstractContextManager[Connection]:
        """A transaction for ``redraft.log.keys``."""
        return writing(self._engine)

    def key(self, text: str) -> Key | None:
        """The API key of this text; see ``redraft.log.keys.find_key``."""
        with reading(self._engine) as connection:
            return find_key(connection, text)

    def verify(self) -> list[str]:
        """Check the whole log against itself and recompute every cost; returns one line per problem or ``Remark``."""
        known = dict(COSTS)
        for name in self._costs:
            with suppress(ConfigError):  # its module may be gone: what it priced is named as not recomputed
                cost = get_cost(name)
                known[cost.name] = cost
        with reading(self._engine) as connection:
            return list(problems(connection, self.cost_of, known))

    @contextmanager
    def _writing(self, *, importing: bool = False) -> Generator[Writer]:
        with writing(self._engine) as connection:
            if importing:
                one_import(connection)
            writer = Writer(connection, self.cost_of)
            yield writer
            writer.settle()


def _interaction(row: RowMapping) -> Interaction:
    return Interaction(completion_from(row), edit_from(row, row[queries.edited_text.c.content]), decision_from(row))
