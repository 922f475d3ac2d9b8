"""A task as it is served, and one request to it on its way to an answer."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from redraft.config import DecodingSettings
from redraft.gateway.board import Board
from redraft.gateway.engine import Engine
from redraft.gateway.openai import ChatRequest
from redraft.log.canonical import canonical_completion, cleaned
from redraft.messages import untaught
from redraft.select import Selector
from redraft.types import Completion, Decision

__all__ = ["Task", "Turn", "as_logged", "make_turn"]


@dataclass(frozen=True)
class Task:
    """A task as it is served: the selector chooses among its arms, and ``fallback`` answers where they fail.

    ``engines`` answer for the arms and the fallback, by the policies' names in the log.
    """

    name: str
    project: str
    selector: Selector
    engines: Mapping[str, Engine]
    fallback: str | None = None
    model: str = ""
    decoding: DecodingSettings = field(default_factory=DecodingSettings)

    def full(self, policy: str) -> str:
        """A policy's full name, by which clients pin it: ``email/base``, ``email/sft@3``."""
        return policy if policy.startswith(f"{self.name}/") else f"{self.name}/{policy}"

    @cached_property
    def pins(self) -> Mapping[str, str]:
        """Every policy that can be pinned, by its full name."""
        return {self.full(policy): policy for policy in self.engines}


@dataclass(slots=True)
class Turn:
    """One request while it is answered. ``chosen`` is the policy to ask first; a ``pinned`` one is the only one.

    ``completion`` is without policy and response. ``decision`` is what the selector will learn from, if anything.
    """

    task: Task
    board: Board
    request: ChatRequest
    completion: Completion
    pinned: str | None
    explored: bool
    chosen: str = ""
    decision: Decision | None = None

    def answered(self, policy: str, message: Mapping[str, Any], text: str, reason: str | None) -> Completion:
        """The completion as it is logged."""
        return self.by(policy, **as_logged(message, text, reason))

    def by(self, policy: str, **more: Any) -> Completion:
        """The completion as this policy writes it, before there is a response or with what is known of it."""
        if own := self.task.engines[policy].decoding:
            more["decoding"] = {**self.completion.decoding, **own}
        return replace(self.completion, policy=policy, **more)


def as_logged(message: Mapping[str, Any], text: str, reason: str | None) -> dict[str, Any]:
    """What the log keeps of an answer: its ``response`` and, where that is not all, ``answer`` and ``untaught``.

    Models can write what no log can hold, such as half a surrogate pair.
    """
    said: dict[str, Any] = {"response": cleaned(text)}
    if text and reason in (None, "stop") and message.keys() <= {"role", "content"}:
        return said  # as nearly always: the text is all
    kept = {name: value for name, value in message.items() if value is not None}
    return said | {"answer": cleaned({"message": kept, "finish_reason": reason}), "untaught": untaught(message)}


def make_turn(task: Task, board: Board, request: ChatRequest, pinned: str | None, max_text_chars: int) -> Turn:
    """The turn of a request, before any policy is chosen; raises ``DataError`` for what cannot be logged."""
    completion_id = _new_id()
    free = pinned is None and request.temperature is None and request.conversation is None
    explored = free and _drawn(completion_id) < task.decoding.explore_share
    request = _as_served(request, task.decoding, explored)
    asked = Completion(
        id=completion_id,
        task=task.name,
        messages=request.logged(),
        response="",
        policy="",
        model=task.model,
        user_id=request.user or None,
        created_at=datetime.now(UTC),
        decoding=request.decoding() | ({"explored": True} if explored else {}),
        metadata=dict(request.metadata or {}),
    )
    return Turn(task, board, request, canonical_completion(asked, max_text_chars), pinned, explored)


def _new_id() -> str:
    """In the order of time, so that indexes stay compact, and impossible to guess."""
    return f"chatcmpl-{time.time_ns():016x}{secrets.token_hex(8)}"


def _drawn(completion_id: str) -> float:
    """A number in [0, 1) that the id decides."""
    return int(completion_id[-8:], 16) / 16**8


def _as_served(request: ChatRequest, decoding: DecodingSettings, explored: bool) -> ChatRequest:
    """The request with the task's decoding where it names none of its own."""
    given: dict[str, Any] = {}
    if request.temperature is None:
        given["temperature"] = 1.0 if explored else decoding.temperature
    if request.limit is None and decoding.max_new_tokens is not None:
        given["max_tokens"] = decoding.max_new_tokens
    return request.model_copy(update=given) if given else request
