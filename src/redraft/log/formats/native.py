"""Our own JSONL: one interaction a line, read back exactly as it was written.

Needed are a context (``messages``, or ``prompt`` for one user message) and ``response``, unless ``messages`` end with
it. Feedback is ``edited`` (a text) or ``accepted: true``; a line with neither has none yet. ``id`` and ``task`` may be
left out, and so may everything else. ``edit_user_id`` is ``user_id`` unless given. Unknown keys are refused: a mistyped
``edited`` would otherwise look like silence.

``messages`` that end with another answer than ``response`` are kept so, in this format alone: a gateway may have been
asked to go on from the start of an answer, and what it logged has to come back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from redraft.errors import DataError
from redraft.log.formats.chat import message, turn
from redraft.log.formats.fields import getter, near, steps_of, without
from redraft.log.formats.rows import describe, moment
from redraft.log.mapping import message_json
from redraft.types import Completion, Decision, Edit, Interaction, Message

__all__ = ["fits", "hint", "reader", "renaming", "write"]

Object = Mapping[str, Any]
ABOUT = ("policy", "model", "user_id", "created_at", "decoding", "metadata", "answer", "untaught")
"""What a line may say about a completion, under the names of its fields."""
OURS = {"decision", "untaught", "decoding", "edit_metadata", "edit_created_at", "edit_user_id"}
SHOWN = ("messages", "prompt", "response", "edited", "accepted")
TEXTS = {"prompt", "response", "edited", "id", "task", "user_id", "policy", "model"}


Moment = Annotated[datetime | None, BeforeValidator(lambda value, about: moment(str(about.field_name), value))]


class _Decision(BaseModel):
    model_config = ConfigDict(extra="forbid")

    candidates: tuple[str, ...]
    chosen: str
    t: int
    selector: str
    parameters: dict[str, Any] = Field(default_factory=dict[str, Any])
    scores: tuple[float, ...] | None = None  # "-inf" is text, since JSON has no infinity
    propensities: tuple[float, ...] | None = None


class _Line(BaseModel):
    """A line without its context."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    id: str = ""
    task: str = ""
    response: str
    edited: str | None = None
    accepted: Literal[True] | None = None
    revision: int = 0
    policy: str = ""
    model: str = ""
    user_id: str | None = None
    created_at: Moment = None
    decoding: dict[str, Any] = Field(default_factory=dict[str, Any])
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    answer: dict[str, Any] = Field(default_factory=dict[str, Any])
    untaught: str = ""
    edit_user_id: str | None = None
    edit_created_at: Moment = None
    edit_metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    decision: _Decision | None = None

    @model_validator(mode="after")
    def _consistent(self) -> _Line:
        if self.edited is not None and self.accepted:
            raise ValueError("give either edited or accepted, not both")
        about = {"revision", "edit_user_id", "edit_created_at", "edit_metadata"} & self.model_fields_set
        if about and self.edited is None and not self.accepted:
            raise ValueError(f"{', '.join(sorted(about))} without edited or accepted")
        return self

    def interaction(self, task: str, messages: tuple[Message, ...]) -> Interaction:
        """Say it in our vocabulary."""
        about = {name: getattr(self, name) for name in ABOUT}
        completion = Completion(self.id, self.task or task, messages, self.response, **about)
        decision = self.decision and Decision(completion_id=self.id, **dict(self.decision))
        return Interaction(completion, self._edit(), decision)

    def _edit(self) -> Edit | None:
        if self.edited is None and not self.accepted:
            return None
        user_id = self.edit_user_id if "edit_user_id" in self.model_fields_set else self.user_id
        return Edit(self.id, self.edited, self.revision, user_id, self.edit_created_at, self.edit_metadata)


KEYS = {*_Line.model_fields, "prompt", "messages"}

COMMON = {*TEXTS, "messages", "accepted", "created_at"} - {"task"}
"""Keys that others have too: their numbers for ids and objects for texts are read as those of a table."""


def fits(record: Object) -> bool:
    """Whether a record is a line of ours: has no key that is not, or one that nobody else has."""
    answered = "response" in record or ("messages" in record and not {"edited", "accepted"}.isdisjoint(record))
    if not answered or not ("messages" in record or "prompt" in record):
        return False
    if record.keys() <= COMMON:
        return all(isinstance(record.get(key), str | None) for key in TEXTS) and record.get("accepted") in (None, True)
    return record.keys() <= KEYS or ("response" in record and not OURS.isdisjoint(record))


def hint(sample: Iterable[Object]) -> str:
    """Say which keys that we do not know seem to be meant as which of ours."""
    keys = {key for record in sample for key in record}
    needed = [name for name in ("prompt", "response", "edited") if name not in keys]
    if "messages" in keys:
        needed = [name for name in needed if name != "prompt"]
    found = {name: key for name in needed if (key := near(sorted(keys - KEYS), name))}
    asked = ", ".join(f"{key} → {name}?" for name, key in found.items())
    return f"{asked} --map {','.join('='.join(pair) for pair in found.items())}" if found else ""


def renaming(columns: Mapping[str, str], sample: Iterable[Object]) -> Callable[[Object], Object]:
    """How to give records of these keys the names of our fields, where ``--map`` says so."""
    if not columns:
        return lambda record: record
    keys = {key for record in sample for key in record}
    steps = {name: steps_of(path, keys) for name, path in columns.items()}

    def renamed(record: Object) -> Object:
        found = {name: getter(path)(record) for name, path in steps.items()}
        rest = cast("Any", dict(record))
        for path in steps.values():
            rest = without(rest, path)
        if not isinstance(found.get("prompt", ""), str):
            found["messages"] = found.pop("prompt")
        return rest | {name: value for name, value in found.items() if value is not None}

    return renamed


def reader(
    sample: Iterable[Object], task: str, columns: Mapping[str, str]
) -> Callable[[Object], Iterable[Interaction]]:
    """How to read a record; a record's own task goes before ``task``."""
    renamed = renaming(columns, sample)
    return lambda record: (_read(renamed(record), task),)


def _read(record: Object, task: str) -> Interaction:
    """Read one record; raises ``DataError`` for all that is wrong with it."""
    keys = record.keys()
    if keys <= TEXTS and keys >= {"prompt", "response"} and all(type(value) is str for value in record.values()):
        return _of_texts(cast("Mapping[str, str]", record), task)
    messages, last = _context(record)
    line = {key: value for key, value in record.items() if key not in ("prompt", "messages")}
    if last is not None and line.setdefault("response", last.content) == last.content and len(messages) > 1:
        messages = messages[:-1]
        if last.more:
            line.setdefault("answer", {"message": {"role": "assistant", "content": last.content, **last.more}})
    if not messages or ("response" not in record and messages[-1] is last):
        raise DataError("messages is empty: give at least one before the response")
    try:
        return _Line.model_validate_json(json.dumps(line)).interaction(task, messages)
    except ValidationError as error:
        raise DataError(describe(error)) from error


def _of_texts(record: Mapping[str, str], task: str) -> Interaction:
    """As ``_Line``, for the records that nearly all are."""
    name, user = record.get("id", ""), record.get("user_id")
    completion = Completion(
        name,
        record.get("task") or task,
        (Message("user", record["prompt"]),),
        record["response"],
        record.get("policy", ""),
        record.get("model", ""),
        user,
    )
    edited = record.get("edited")
    return Interaction(completion, None if edited is None else Edit(name, edited, user_id=user))


def _context(record: Object) -> tuple[tuple[Message, ...], Message | None]:
    """The messages, and the last one if it is the assistant's."""
    prompt, given = record.get("prompt"), record.get("messages")
    if (prompt is None) == (given is None):
        raise DataError("give either messages or prompt")
    if given is None:
        if not isinstance(prompt, str):
            raise DataError(f"prompt = {prompt!r:.60}: must be a text; a conversation goes into messages")
        return (Message("user", prompt),), None
    if not isinstance(given, list):
        raise DataError(f"messages = {given!r:.60}: must be a list of messages")
    messages = tuple(_message(part, f"messages[{i}]") for i, part in enumerate(cast("list[object]", given)))
    return messages, messages[-1] if messages and messages[-1].role == "assistant" else None


def _message(given: object, name: str) -> Message:
    part = turn(given, name)
    if "more" not in part:
        return message(part)
    if set(part) != {"role", "content", "more"} or not isinstance(part["more"], dict):
        raise DataError(f"{name} has {', '.join(part)}: beside more, which is an object, only role and content")
    return Message(part["role"], part["content"] or "", cast("dict[str, Any]", part["more"]))


def write(interaction: Interaction) -> dict[str, Any]:
    """Return the JSON object of one line; what is empty is left out."""
    completion, edit, decision = interaction.completion, interaction.edit, interaction.decision
    line: dict[str, Any] = {
        "id": completion.id,
        "task": completion.task,
        "messages": [message_json(message) for message in completion.messages],
        "response": completion.response,
    }
    rest = {name: getattr(completion, name) for name in ABOUT}
    if edit is not None:
        line |= {"accepted": True} if edit.edited is None else {"edited": edit.edited}
        line |= {"edit_user_id": edit.user_id} if edit.user_id != completion.user_id else {}
        rest |= {"revision": edit.revision, "edit_created_at": edit.created_at, "edit_metadata": edit.metadata}
    if decision is not None:
        line["decision"] = _decision(decision)
    moments = {name: value.isoformat() for name, value in rest.items() if isinstance(value, datetime)}
    return line | {name: value for name, value in (rest | moments).items() if value}


def _decision(decision: Decision) -> dict[str, Any]:
    about = {name: getattr(decision, name) for name in _Decision.model_fields}
    scores = decision.scores and [score if math.isfinite(score) else str(score) for score in decision.scores]
    return about | {"scores": scores}
