"""A policy that says what it was told to: for tests of everything that uses one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from redraft.errors import ModelError
from redraft.policies.trim import trim
from redraft.types import Decoding, Message

__all__ = ["ScriptedPolicy"]


@dataclass(frozen=True)
class ScriptedPolicy:
    """Answers from a function of the messages, or from a table keyed by the last message's text.

    >>> ScriptedPolicy("polite", {"Hi": "Hello."}).respond([[Message("user", "Hi")]], Decoding())
    ['Hello.']
    """

    name: str
    answers: Mapping[str, str] | Callable[[Sequence[Message]], str]

    def respond(self, contexts: Sequence[Sequence[Message]], decoding: Decoding) -> list[str]:
        """One scripted response per context; raises ``ModelError`` where the table has none."""
        return [trim(self._answer(messages)) for messages in contexts]

    def _answer(self, messages: Sequence[Message]) -> str:
        if callable(self.answers):
            return self.answers(messages)
        asked = messages[-1].content
        if asked not in self.answers:
            raise ModelError(f"policy {self.name!r} has no answer to {asked!r}: add one")
        return self.answers[asked]
