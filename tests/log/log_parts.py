"""Short names for what goes into a log by way of a gateway."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from redraft.log import EditLog
from redraft.log.events import Event, Feedback, checked
from redraft.types import Completion, Decision, Edit, Message

ARMS = ("base", "email/sft@1")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def completion(name: str, policy: str = "base", response: str = "one two three") -> Completion:
    return Completion(name, "email", (Message("user", f"context of {name}"),), response, policy)


def decision(name: str, chosen: str = "base", t: int = 1) -> Decision:
    return Decision(name, ARMS, chosen, t, "late")


def give(log: EditLog, *events: Event) -> list[Any]:
    return log.write([checked(event, 10_000) for event in events])[0]


def feedback(name: str, edited: str | None, revision: int = -1, key: str | None = None, **fields: Any) -> Feedback:
    edit = Edit(name, edited, revision, created_at=NOW, **fields)
    return Feedback(edit, "default", frozenset({"email"}), key)
