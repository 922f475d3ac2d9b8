"""What a gateway tells the log, many events per transaction: one wait for the disk serves all that arrived meanwhile.

Each event has its own outcome: one that is refused leaves the others as they are. Within a transaction answers come
before what follows on them, and that comes in the order of their completions, texts before edits, so that processes
lock the same rows in the same order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, select, update

from redraft.errors import ConflictError, DataError, NotFoundError, RedraftError
from redraft.log import queries
from redraft.log.canonical import MAX_REVISION, canonical, canonical_edit, check_name, check_task, utc
from redraft.log.database import adding
from redraft.log.schema import RESPONSE, completions, conversations, edits, requests, texts
from redraft.log.writer import Writer
from redraft.types import COST_UNIT, Completion, Decision, Edit, Interaction

__all__ = [
    "Answered",
    "Event",
    "Feedback",
    "Finished",
    "Outcome",
    "Pinned",
    "Revised",
    "Spoken",
    "Started",
    "checked",
    "write",
]


_OPEN = (
    update(texts)
    .where(texts.c.completion_id == bindparam("of_completion"), texts.c.revision == RESPONSE)
    .where(texts.c.content.is_(None))
    .where(texts.c.messages.is_not(None))  # unless it was erased: a person's wish comes before what arrives later
)
_SPEAK = _OPEN.values(partial=bindparam("response"))
_FINISH = _OPEN.values(content=bindparam("response"), answer=bindparam("said"), untaught=bindparam("why"), partial=None)
_PINNED = select(conversations.c.policy).where(
    conversations.c.task == bindparam("task"), conversations.c.id == bindparam("id")
)
_REQUEST = select(requests).where(requests.c.project == bindparam("project"), requests.c.key == bindparam("key"))


@dataclass(frozen=True, slots=True)
class Answered:
    """A whole answer and what chose its policy."""

    completion: Completion
    decision: Decision | None


class Started(Answered):
    """An answer that is about to be streamed: ``completion.response`` is not known yet."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Spoken:
    """What has been said so far of a started answer: its text, should the stream break off here."""

    completion_id: str
    response: str


@dataclass(frozen=True, slots=True)
class Finished:
    """What was streamed of a started answer; ``answer`` and ``untaught`` as in ``Completion``.

    Without effect where an edit was priced against a part of it.
    """

    completion_id: str
    response: str
    answer: Mapping[str, Any] = field(default_factory=dict[str, Any])
    untaught: str = ""


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


_Following = Spoken | Finished | Pinned | Feedback
Event = Answered | Spoken | Finished | Pinned | Feedback
Outcome = Revised | str | None | RedraftError
"""``Revised`` for feedback, the policy for a conversation, ``None`` for an answer, or why the event was refused."""


def checked(event: Event, max_text_chars: int) -> Event:
    """Give an event the form in which the log keeps it; raises ``DataError`` for what cannot be kept."""
    if isinstance(event, Answered):
        ready = canonical(Interaction(event.completion, None, event.decision), max_text_chars)
        return replace(event, completion=ready.completion, decision=ready.decision)
    if isinstance(event, Feedback):
        asked = max(event.edit.revision, 0)
        ready = canonical_edit(replace(event.edit, revision=asked), max_text_chars)
        check_name("idempotency_key", event.key or "")
        return replace(event, edit=replace(ready, revision=event.edit.revision))
    if isinstance(event, Pinned):
        for name, value in {"conversation": event.conversation, "policy": event.policy}.items():
            check_name(name, value)
        check_task(event.task)
        return replace(event, created_at=utc(event.created_at))
    about = Completion(event.completion_id, "any", (), event.response)
    if isinstance(event, Finished):
        about = replace(about, answer=event.answer, untaught=event.untaught)
    ready = canonical(Interaction(about), max_text_chars).completion
    return replace(event, answer=ready.answer) if isinstance(event, Finished) else event


def write(connection: Connection, writer: Writer, events: Sequence[Event]) -> list[Outcome]:
    """Write canonical events and return what became of each, in their order; the caller settles and commits."""
    outcomes: list[Outcome] = [None] * len(events)
    answers = [
        (index, Interaction(event.completion, None, event.decision))
        for index, event in enumerate(events)
        if isinstance(event, Answered)
    ]
    begun = {index for index, event in enumerate(events) if isinstance(event, Started)}
    writer.add_batch(answers, outcomes.__setitem__, begun)
    rest = [(index, event) for index, event in enumerate(events) if not isinstance(event, Answered)]
    for index, event in sorted(rest, key=lambda pair: _place(pair[1])):
        try:
            outcomes[index] = _follow(connection, writer, event)
        except RedraftError as error:
            outcomes[index] = error
    return outcomes


def _place(event: _Following) -> tuple[str, ...]:
    if isinstance(event, Pinned):
        return "", event.task, event.conversation
    edit = isinstance(event, Feedback)
    return "answer", event.edit.completion_id if edit else event.completion_id, "then its edits" if edit else ""


def _follow(connection: Connection, writer: Writer, event: _Following) -> Outcome:
    if isinstance(event, Pinned):
        return _pin(connection, event)
    if isinstance(event, Feedback):
        return _give(connection, writer, event)
    if isinstance(event, Finished):
        said = {"response": event.response, "said": event.answer or None, "why": event.untaught or None}
        connection.execute(_FINISH, {"of_completion": event.completion_id, **said})
    elif event.response:
        connection.execute(_SPEAK, {"of_completion": event.completion_id, "response": event.response})
    return None


def _pin(connection: Connection, event: Pinned) -> str:
    row = {"task": event.task, "id": event.conversation, "policy": event.policy, "created_at": event.created_at}
    connection.execute(adding(connection, conversations), row)
    return str(connection.scalars(_PINNED, {"task": event.task, "id": event.conversation}).one())


def _give(connection: Connection, writer: Writer, event: Feedback) -> Revised:
    row = writer.locked(event.edit.completion_id)
    if row is None or row[completions.c.task] not in event.tasks:
        raise NotFoundError(f"completion {event.edit.completion_id!r} is not in the log")
    before = _known_request(connection, event)
    if before is not None:
        return _revised(connection, row, before, new=False)
    row = writer.settled(row)
    edit = replace(event.edit, revision=_next_revision(connection, row, event.edit))
    new = writer.add_edit(row, edit)
    if event.key is not None:
        kept = {"project": event.project, "key": event.key, "digest": event.digest, "created_at": edit.created_at}
        kept |= {"completion_id": edit.completion_id, "revision": edit.revision}
        connection.execute(adding(connection, requests), kept)
    return _revised(connection, row, edit.revision, new=new)


def _known_request(connection: Connection, event: Feedback) -> int | None:
    if event.key is None:
        return None
    row = connection.execute(_REQUEST, {"project": event.project, "key": event.key}).mappings().first()
    if row is not None and row["digest"] != event.digest:
        raise ConflictError(f"idempotency key {event.key!r} came before with another request: use a key once")
    return None if row is None else int(row["revision"])


def _next_revision(connection: Connection, row: RowMapping, edit: Edit) -> int:
    """The revision asked for; else the holding one if this says the same, else the one after it."""
    if edit.revision >= 0:
        return edit.revision
    holding = connection.execute(queries.HOLDING, {"completion_id": edit.completion_id}).mappings().first()
    if holding is None:
        return 0
    response, text = row[texts.c.content], holding[queries.edited_text.c.content]
    same = (response if holding[edits.c.accepted] else text) == (response if edit.edited is None else edit.edited)
    if not same and holding[edits.c.revision] == MAX_REVISION:
        raise DataError(f"completion {edit.completion_id!r}: revision {MAX_REVISION} is the last that there can be")
    return holding[edits.c.revision] + (0 if same else 1)


def _revised(connection: Connection, row: RowMapping, revision: int, *, new: bool) -> Revised:
    place = {"completion_id": row[completions.c.id], "revision": revision}
    edit = connection.execute(queries.REVISION, place).mappings().one()
    return Revised(
        task=row[completions.c.task],
        policy=row[completions.c.policy],
        revision=revision,
        new=new,
        raw=edit[edits.c.raw],
        cost=edit[edits.c.cost] / COST_UNIT,
        unchanged=edit[edits.c.unchanged],
    )
