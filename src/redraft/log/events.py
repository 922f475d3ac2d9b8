"""What a gateway tells the log, many events to a transaction: one wait for the disk serves all that arrived meanwhile.

Each event has its own outcome: one that is refused leaves the others as they are. Within a transaction answers come
before edits, and edits in the order of their completions, so that processes lock the same rows in the same order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, RowMapping, select, update
from sqlalchemy.dialects import postgresql, sqlite

from redraft.errors import ConflictError, NotFoundError, RedraftError
from redraft.log import queries
from redraft.log.canonical import canonical, canonical_edit
from redraft.log.schema import COST_UNIT, RESPONSE, completions, conversations, edits, requests, texts
from redraft.log.writer import Batch, Writer
from redraft.types import Completion, Decision, Edit, Interaction

__all__ = ["Answered", "Event", "Feedback", "Finished", "Outcome", "Pinned", "Revised", "Started", "checked", "write"]


@dataclass(frozen=True, slots=True)
class Answered:
    """A whole answer and what chose its policy."""

    completion: Completion
    decision: Decision | None


@dataclass(frozen=True, slots=True)
class Started:
    """An answer that is about to be streamed: ``completion.response`` is not known yet."""

    completion: Completion
    decision: Decision | None


@dataclass(frozen=True, slots=True)
class Finished:
    """What was streamed of a started answer."""

    completion_id: str
    response: str


@dataclass(frozen=True, slots=True)
class Pinned:
    """A conversation asks which policy answers it; ``policy`` does unless another was named before."""

    task: str
    conversation: str
    policy: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Feedback:
    """An edit of a completion of one of ``tasks``.

    ``edit.revision`` below 0 asks for the next one. ``key`` is an idempotency key of ``project``.
    """

    edit: Edit
    project: str
    tasks: frozenset[str]
    key: str | None = None

    @property
    def digest(self) -> str:
        """Of all that the request said."""
        edit = self.edit
        said = [edit.completion_id, edit.edited, edit.revision, edit.user_id, dict(edit.metadata)]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Revised:
    """What became of an edit: ``new`` is false where the log knew it. ``cost`` is Δ(y, y'), ``raw`` the distance."""

    task: str
    policy: str
    revision: int
    new: bool
    raw: float
    cost: float
    unchanged: bool


Event = Answered | Started | Finished | Pinned | Feedback
Outcome = Revised | str | None | RedraftError
"""``Revised`` for feedback, the policy for a conversation, ``None`` for an answer, or why the event was refused."""


def checked(event: Event, max_text_chars: int) -> Event:
    """Give an event the form in which the log keeps it; raises ``DataError`` for what cannot be kept."""
    if isinstance(event, Answered | Started):
        ready = canonical(Interaction(event.completion, None, event.decision), max_text_chars)
        return replace(event, completion=ready.completion, decision=ready.decision)
    if isinstance(event, Feedback):
        asked = max(event.edit.revision, 0)
        ready = canonical_edit(replace(event.edit, revision=asked), max_text_chars)
        return replace(event, edit=replace(ready, revision=event.edit.revision))
    return event


def write(connection: Connection, writer: Writer, events: Sequence[Event]) -> list[Outcome]:
    """Write canonical events and return what became of each, in their order; the caller settles and commits."""
    outcomes: list[Outcome] = [None] * len(events)

    def refused(index: int, error: RedraftError) -> None:
        outcomes[index] = error

    answers = [
        (index, Interaction(event.completion, None, event.decision))
        for index, event in enumerate(events)
        if isinstance(event, Answered | Started)
    ]
    writer.add_batch(Batch(answers, refused))
    for event in events:
        if isinstance(event, Started):
            _set_response(connection, event.completion.id, None)
        elif isinstance(event, Finished):
            _set_response(connection, event.completion_id, event.response)
    rest = [(index, event) for index, event in enumerate(events) if isinstance(event, Pinned | Feedback)]
    for index, event in sorted(rest, key=lambda pair: _place(pair[1])):
        try:
            outcomes[index] = _pin(connection, event) if isinstance(event, Pinned) else _give(connection, writer, event)
        except RedraftError as error:
            outcomes[index] = error
    return outcomes


def _place(event: Pinned | Feedback) -> tuple[str, ...]:
    return ("", event.task, event.conversation) if isinstance(event, Pinned) else ("edit", event.edit.completion_id)


def _set_response(connection: Connection, completion_id: str, response: str | None) -> None:
    """Only while it was not erased: a person's wish goes before what arrives later."""
    of = (texts.c.completion_id == completion_id) & (texts.c.revision == RESPONSE) & texts.c.messages.is_not(None)
    connection.execute(update(texts).where(of).values(content=response))


def _pin(connection: Connection, event: Pinned) -> str:
    row = {"task": event.task, "id": event.conversation, "policy": event.policy, "created_at": event.created_at}
    connection.execute(_insert_for(connection)(conversations).values(row).on_conflict_do_nothing())
    of = (conversations.c.task == event.task) & (conversations.c.id == event.conversation)
    return str(connection.scalars(select(conversations.c.policy).where(of)).one())


def _give(connection: Connection, writer: Writer, event: Feedback) -> Revised:
    row = writer.locked(event.edit.completion_id)
    if row is None or row[completions.c.task] not in event.tasks:
        raise NotFoundError(f"completion {event.edit.completion_id!r} is not in the log")
    before = _known_request(connection, event)
    if before is not None:
        return _revised(connection, row, before, new=False)
    edit = replace(event.edit, revision=_next_revision(connection, row, event.edit))
    new = writer.add_edit(row, edit)
    if event.key is not None:
        kept = {"project": event.project, "key": event.key, "digest": event.digest, "created_at": edit.created_at}
        kept |= {"completion_id": edit.completion_id, "revision": edit.revision}
        connection.execute(_insert_for(connection)(requests).values(kept).on_conflict_do_nothing())
    return _revised(connection, row, edit.revision, new=new)


def _known_request(connection: Connection, event: Feedback) -> int | None:
    if event.key is None:
        return None
    of = (requests.c.project == event.project) & (requests.c.key == event.key)
    row = connection.execute(select(requests).where(of)).mappings().first()
    if row is not None and row["digest"] != event.digest:
        raise ConflictError(f"idempotency key {event.key!r} came before with another request: use a key once")
    return None if row is None else int(row["revision"])


def _next_revision(connection: Connection, row: RowMapping, edit: Edit) -> int:
    """The revision asked for; else the holding one if this says the same, else the one after it."""
    if edit.revision >= 0:
        return edit.revision
    holding = connection.execute(queries.holding_of(edit.completion_id)).mappings().first()
    if holding is None:
        return 0
    found = queries.revision_of(edit.completion_id, holding[edits.c.revision])
    text = connection.execute(found).mappings().one()[queries.edited_text.c.content]
    response = row[texts.c.content]
    same = (response if holding[edits.c.accepted] else text) == (response if edit.edited is None else edit.edited)
    return holding[edits.c.revision] + (0 if same else 1)


def _revised(connection: Connection, row: RowMapping, revision: int, *, new: bool) -> Revised:
    edit = connection.execute(queries.revision_of(row[completions.c.id], revision)).mappings().one()
    return Revised(
        task=row[completions.c.task],
        policy=row[completions.c.policy],
        revision=revision,
        new=new,
        raw=edit[edits.c.raw],
        cost=edit[edits.c.cost] / COST_UNIT,
        unchanged=edit[edits.c.unchanged],
    )


def _insert_for(connection: Connection):
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
