"""OpenAI's chat messages and the one text that each of them has: what is logged, edited, priced and taught.

A tool call is a line of JSON between tags, as Hermes' and Qwen's chat templates write it and as vLLM's ``hermes``
parser reads it, so that a policy that learns from edits of such texts writes calls that servers understand. A part
that is not text leaves its type in brackets. Left out: what a message means to a model, which is its template's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

__all__ = ["Draft", "calls_text", "choice_size", "content_text", "message_text", "untaught"]

Content = str | Sequence[Mapping[str, Any]] | None


def content_text(content: Content) -> str:
    """The text of a message's content; a part that is not text leaves its type in brackets.

    >>> content_text([{"type": "text", "text": "See "}, {"type": "image_url"}])
    'See [image_url]'
    """
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(str(p.get("text", "")) if p.get("type") == "text" else f"[{p.get('type')}]" for p in content)


def calls_text(calls: Sequence[Mapping[str, Any]]) -> str:
    r"""The text of tool calls: name and arguments of each, arguments as JSON wherever they are valid JSON.

    >>> calls_text([{"function": {"name": "send", "arguments": '{"to":"Ann"}'}}])
    '<tool_call>\n{"name": "send", "arguments": {"to": "Ann"}}\n</tool_call>'
    """
    return "\n".join(map(_call_text, calls))


def _call_text(call: Mapping[str, Any]) -> str:
    function = call.get("function") or call.get("custom") or call
    if not isinstance(function, Mapping):  # a client may send what it likes
        function = {"arguments": function}
    given = function.get("arguments", function.get("input"))
    try:
        arguments = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError):  # a model may break off in the middle of them
        arguments = given
    said = json.dumps({"name": function.get("name"), "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{said}\n</tool_call>"


def message_text(message: Mapping[str, Any]) -> str:
    r"""The text of a whole message: its content, or what it says in refusing, and its tool calls below.

    >>> message_text({"content": None, "refusal": "I cannot help."})
    'I cannot help.'
    """
    content = message.get("content")
    if isinstance(content, str) and message.keys() <= {"role", "content"}:  # as nearly always
        return content
    given: Any = message.get("tool_calls")
    calls = [*given] if isinstance(given, list) else []
    if message.get("function_call"):  # OpenAI's form before tools
        calls.append(message["function_call"])
    said = content_text(content) or message.get("refusal")
    parts = [said if isinstance(said, str) else "", calls_text([call for call in calls if isinstance(call, Mapping)])]
    return "\n".join(part for part in parts if part)


def untaught(message: Mapping[str, Any]) -> str:
    """Why an answer teaches nothing: ``"refusal"``, ``"empty"``, or ``""`` where it does teach.

    A refusal is a rule of whoever runs the model and an answer without anything is an accident; an edit of either says
    nothing about how to write.
    """
    if message.get("refusal"):
        return "refusal"
    return "" if message_text(message) else "empty"


def choice_size(choice: Mapping[str, Any]) -> int:
    """Characters of all the texts that a choice of a chunk adds to an answer."""
    delta = choice.get("delta") or {}
    calls = [*(delta.get("tool_calls") or ()), {"function": delta.get("function_call")}]
    functions = [call.get("function") or call.get("custom") or {} for call in calls]
    texts = [delta.get("refusal"), *(part for function in functions for part in function.values())]
    return len(content_text(delta.get("content"))) + sum(len(text) for text in texts if isinstance(text, str))


class Draft:
    """A streamed answer put together from its deltas: the message that a whole answer would have been.

    ``size`` counts the characters of all its texts.
    """

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.size = 0
        self._texts: dict[str, list[str]] = {}
        self._calls: dict[int, dict[str, Any]] = {}

    def add(self, choice: Mapping[str, Any]) -> None:
        """Add the choice of a chunk."""
        self.size += choice_size(choice)
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        delta = choice.get("delta") or {}
        for name in ("content", "refusal"):
            if delta.get(name):
                self._texts.setdefault(name, []).append(content_text(delta[name]))
        for call in delta.get("tool_calls") or ():
            self._call(call)
        if delta.get("function_call"):
            self._call({"index": -1, "function": delta["function_call"]})

    def _call(self, given: Mapping[str, Any]) -> None:
        kind = "custom" if given.get("custom") else "function"
        call = self._calls.setdefault(given.get("index") or 0, {"id": None, "type": kind, kind: {}})
        call["id"] = given.get("id") or call["id"]
        function = cast(Mapping[str, str | None], given.get(kind) or {})
        for name in ("name", "arguments") if kind == "function" else ("name", "input"):
            call[kind][name] = call[kind].get(name, "") + (function.get(name) or "")

    @property
    def message(self) -> dict[str, Any]:
        """The message as it is by now."""
        texts = {name: "".join(parts) for name, parts in self._texts.items()}
        calls = {"tool_calls": [self._calls[index] for index in sorted(self._calls)]} if self._calls else {}
        return {"role": "assistant", "content": None, **texts, **calls}

    @property
    def text(self) -> str:
        """Its text."""
        if not self._calls and "refusal" not in self._texts:  # as nearly always
            return "".join(self._texts.get("content", ()))
        return message_text(self.message)
