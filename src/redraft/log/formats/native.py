"""Our own JSONL: one interaction a line, read back exactly as it was written.

Needed are a context (``messages``, or ``prompt`` for one user message) and ``response``. Feedback is ``edited`` (a
text) or ``accepted: true``; a line with neither has none yet. ``id`` and ``task`` may be left out, and so may
everything else. ``edit_user_id`` is ``user_id`` unless given. Unknown keys are refused: a mistyped ``edited`` would
otherwise look like silence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from redraft.errors import DataError
from redraft.log.formats.rows import BadRow, Options, Record, Row, describe, json_rows
from redraft.log.mapping import message_json
from redraft.types import Completion, Decision, Edit, Interaction, Message

__all__ = ["parsed", "read", "write"]

ABOUT = ("policy", "model", "user_id", "created_at", "decoding", "metadata", "answer", "untaught")
"""What a line may say about a completion, under the names of its fields."""


class _Decision(BaseModel):
    model_config = ConfigDict(extra="forbid")

    candidates: tuple[str, ...]
    chosen: str
    t: int
    selector: str
    parameters: dict[str, Any] = Field(default_factory=dict[str, Any])
    scores: tuple[float, ...] | None = None  # "-inf" is text, since JSON has no infinity
    propensities: tuple[float, ...] | None = None


class _Line(Record):
    model_config = ConfigDict(extra="forbid")

    id: str = ""
    task: str = ""
    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    response: str
    edited: str | None = None
    accepted: Literal[True] | None = None
    revision: int = 0
    policy: str = ""
    model: str = ""
    user_id: str | None = None
    created_at: datetime | None = None
    decoding: dict[str, Any] = Field(default_factory=dict[str, Any])
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    answer: dict[str, Any] = Field(default_factory=dict[str, Any])
    untaught: str = ""
    edit_user_id: str | None = None
    edit_created_at: datetime | None = None
    edit_metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    decision: _Decision | None = None

    @model_validator(mode="after")
    def _consistent(self) -> _Line:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("give either messages or prompt")
        if self.messages is not None and not self.messages:
            raise ValueError("messages is empty: give at least one")
        if self.edited is not None and self.accepted:
            raise ValueError("give either edited or accepted, not both")
        about = {"revision", "edit_user_id", "edit_created_at", "edit_metadata"} & self.model_fields_set
        if about and self.edited is None and not self.accepted:
            raise ValueError(f"{', '.join(sorted(about))} without edited or accepted")
        return self

    def interaction(self, task: str) -> Interaction:
        """Say it in our vocabulary."""
        messages = (Message("user", self.prompt),) if self.prompt is not None else self.messages or ()
        about = {name: getattr(self, name) for name in ABOUT}
        completion = Completion(self.id, self.task or task, messages, self.response, **about)
        decision = self.decision and Decision(completion_id=self.id, **dict(self.decision))
        return Interaction(completion, self._edit(), decision)

    def _edit(self) -> Edit | None:
        if self.edited is None and not self.accepted:
            return None
        user_id = self.edit_user_id if "edit_user_id" in self.model_fields_set else self.user_id
        return Edit(self.id, self.edited, self.revision, user_id, self.edit_created_at, self.edit_metadata)


def parsed(line: bytes, task: str) -> Interaction:
    """Read one line; raises ``DataError``."""
    try:
        return _Line.model_validate_json(line).interaction(task)
    except ValidationError as error:
        raise DataError(describe(error)) from error


def read(file: Path, options: Options) -> Iterator[Row | BadRow]:
    """Read interactions; a row's own task goes before the one in ``options``."""
    return json_rows(file, options, _Line)


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
