"""What the records of a file mean: the prompt, what a model wrote, and what a person made of it.

Most producers agree on these three and differ in names: TRL, UltraFeedback, OpenAI, ShareGPT, Alpaca, HelpSteer3,
Label Studio, Argilla, Langfuse and any table with a header. So a field is found by its name, whatever its case, and a
value is read by its form: a text, a message or messages in OpenAI's or ShareGPT's shape, either in JSON in a cell. Our
own format is recognised and read strictly. What no field is read from is not kept, and ``said`` tells so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, cast

from pydantic_core import to_json

from redraft.errors import ConfigError, DataError
from redraft.log.formats import native
from redraft.log.formats.rows import BadRow, Options, Row, Rows
from redraft.log.formats.source import Source, open_source
from redraft.log.mapping import message_json
from redraft.messages import content_text, message_text
from redraft.types import Completion, Edit, Interaction, Message

__all__ = ["FIELDS", "Understood", "understand"]

FIELDS: dict[str, tuple[str, ...]] = {
    "prompt": (
        *("prompt", "messages", "context", "conversations", "conversation", "question", "instruction", "query"),
        *("input", "source", "src", "article", "request"),
    ),
    "response": (
        *("response", "draft", "original_response", "rejected", "non_preferred_output", "output", "completion"),
        *("original", "generated", "prediction", "mt", "before"),
    ),
    "edited": (
        *("edited", "final", "edited_response", "corrected", "corrected_output", "chosen", "preferred_output"),
        *("revised", "correction", "post_edit", "pe", "after"),
    ),
    "accepted": ("accepted",),
    "id": ("id", "completion_id"),
    "user_id": ("user_id", "user", "annotator", "editor", "completed_by", "author"),
    "policy": ("policy",),
    "model": ("model", "model_name"),
    "created_at": ("created_at", "timestamp", "created"),
}
"""Names under which a field is found, the likeliest first."""
SAMPLE = 100  # records from which a file is understood
_ROLES = {"human": "user", "gpt": "assistant", "developer": "system", "function": "tool"}
_KNOWN = ("system", "user", "assistant", "tool")
_PLAIN = frozenset({"role", "content", "more"})
_ANNOTATORS = frozenset({"annotator", "completedby"})
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


@dataclass(frozen=True)
class Understood:
    """A file whose records have a meaning. ``fields`` says under which name or path each is read; none if ours."""

    source: Source
    fields: Mapping[str, str]
    options: Options
    unread: tuple[str, ...] = ()
    others: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])

    @property
    def said(self) -> str:
        """What it is taken for, in a line."""
        if not self.fields:
            return f"{self.source.said}, redraft's own format"
        read = ", ".join(f"{field} from {name!r}" for field, name in self.fields.items())
        return f"{self.source.said}: {read}" + (f"; not read: {', '.join(self.unread)}" if self.unread else "")

    def rows(self) -> Iterator[Row | BadRow]:
        """Every interaction, or why there is none."""
        rows, file = Rows(self.source.file, self.options), self.source.file
        for raw in self.source.records():
            if isinstance(raw, BadRow):
                yield raw
                continue
            if not self.fields:
                yield rows.row(raw.line, self._own, raw.value)
                continue
            try:
                spread = _spread(raw.value)
            except DataError as error:
                yield BadRow(file, raw.line, str(error))
                continue
            for one in spread:
                yield rows.row(raw.line, self._read, one)

    def _own(self, value: Mapping[str, Any]) -> Interaction:
        messages, rest = value.get("messages"), dict(value)
        if _list_of_messages(messages):
            said = [
                given
                if given.keys() <= _PLAIN and isinstance(given.get("content"), str)
                else message_json(_message(given))
                for given in cast(list[Any], messages)
            ]
            if len(said) > 1 and said[-1] == {"role": "assistant", "content": value["response"]}:
                said.pop()  # the response itself, as logs of whole conversations have it
            rest["messages"] = said
        return native.parsed(to_json(rest), self.options.task)

    def _read(self, value: Mapping[str, Any]) -> Interaction:
        given = {field: self._given(value, field, path) for field, path in self.fields.items()}
        context, response, answer = _asked(value, given)
        edited, moment = given.get("edited"), _moment(given.get("created_at"))
        of_edit = _plain(self.fields.get("user_id", "")) in _ANNOTATORS
        silent = edited is None or (edited == "" and self.source.table)
        completion = Completion(
            id=_name(given.get("id")),
            task=self.options.task,
            messages=context,
            response=response,
            policy=_name(given.get("policy")),
            model=_name(given.get("model")),
            user_id=_name(given.get("user_id")) or None,
            created_at=None if of_edit else moment,
            answer=answer,
        )
        about: dict[str, Any] = {"user_id": completion.user_id, "created_at": moment if of_edit else None}
        if _yes(given.get("accepted")):
            return Interaction(completion, Edit(completion.id, None, **about))
        return Interaction(completion, None if silent else Edit(completion.id, _text("edited", edited)[0], **about))

    def _given(self, value: Mapping[str, Any], field: str, path: str) -> Any:
        """What a field is in a record; rows of several producers may stand in one file."""
        said = found(value, path)
        if said is None and field not in self.options.columns:
            others = (value.get(name) for name in self.others.get(field, ()))
            said = next((other for other in others if other is not None), None)
        return said


def understand(file: Path, options: Options) -> Understood:
    """Find out what a file holds; ``options.columns`` names fields that are read elsewhere.

    Raises ``DataError`` where the prompt or the response is found under no name, ``ConfigError`` for a wrong mapping.
    """
    source = open_source(file, options)
    asked = {"prompt" if field == "context" else field: path for field, path in options.columns.items()}
    if unknown := sorted(set(asked) - set(FIELDS)):
        raise ConfigError(f"--map: unknown field {', '.join(unknown)}: use {', '.join(FIELDS)}")
    sample = [raw.value for raw in islice(source.records(), SAMPLE) if not isinstance(raw, BadRow)]
    if not asked and not source.table and any(_ours(value) for value in sample):
        return Understood(source, {}, options)
    spread = [one for value in sample for one in _sampled(value)]
    names = dict.fromkeys(name for one in spread for name in one)
    likely = {field: there for field, known in FIELDS.items() if (there := _named(known, names))}
    fields = {field: there[0] for field, there in likely.items()} | asked
    for mapped, path in asked.items():
        if spread and not any(found(one, path) is not None for one in spread):
            there = ", ".join(names) or "none"
            raise ConfigError(f"--map {mapped}={path}: no record of {file} has it; found: {there}")
    if sample:
        _require_enough(source, fields, names)
    unread = tuple(name for name in names if name not in fields.values() and name not in ("instruction", "input"))
    return Understood(source, fields, options, unread, {field: there[1:] for field, there in likely.items()})


def _ours(value: Mapping[str, Any]) -> bool:
    return "response" in value and ("prompt" in value or "messages" in value)


def _sampled(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    try:
        return _spread(value)
    except DataError:
        return []


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


def _named(known: Sequence[str], names: Mapping[str, None]) -> list[str]:
    plain = {_plain(name): name for name in names}
    return [plain[_plain(name)] for name in known if _plain(name) in plain]


def _require_enough(source: Source, fields: Mapping[str, str], names: Mapping[str, None]) -> None:
    shared = {"chosen", "rejected"} <= set(names)  # a prompt may stand at the head of both
    supervised = "prompt" in fields and "response" not in fields and "edited" not in fields
    missing = [field for field in ("prompt", "response") if field not in fields]
    if (
        not missing
        or (missing == ["prompt"] and shared)
        or (supervised and fields["prompt"] in ("messages", "conversations"))
    ):
        return
    there = ", ".join(names) or "none"
    near = [f"{field}={close[0]}" for field in missing if (close := get_close_matches(field, names, 1, 0.5))]
    hint = " ".join(f"--map {one}" for one in near) or " ".join(f"--map {field}=…" for field in missing)
    raise DataError(
        f"{source.file}: no {' and no '.join(missing)} found ({source.said}; there are {there}): name it with {hint}"
    )


def found(value: Any, path: str) -> Any:
    """What stands under a name, or under a path such as ``data.turns[0].text``; ``None`` where nothing does."""
    if isinstance(value, Mapping) and path in value:
        return cast(Mapping[str, Any], value)[path]
    for name, place in _STEP.findall(path):
        try:
            value = value[int(place)] if place else value[name]
        except (LookupError, TypeError):
            return None
    return value


def _spread(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A record with several annotations as one record for each; any other as it is."""
    if isinstance(value.get("data"), Mapping) and isinstance(value.get("annotations"), list):  # Label Studio
        done = [one for one in value["annotations"] if isinstance(one, Mapping) and not one.get("was_cancelled")]
        return [_annotated(value, one) for one in done] or [{**value["data"], "id": value.get("id")}]
    answered = next((name for name in value if name.endswith(".responses")), None)
    if answered is not None:  # Argilla
        name = answered.removesuffix(".responses")
        own = {key: part for key, part in value.items() if not key.startswith(f"{name}.")}
        users = value.get(f"{answered}.users") or []
        said = value[answered] or []
        return [
            {**own, name: text, **({"user_id": users[place]} if place < len(users) else {})}
            for place, text in enumerate(said)
        ] or [own]
    return [value]


def _annotated(value: Mapping[str, Any], annotation: Mapping[str, Any]) -> Mapping[str, Any]:
    texts = {
        str(part.get("from_name")): found(part, "value.text")
        for part in annotation.get("result") or ()
        if isinstance(part, Mapping) and part.get("type") == "textarea"
    }
    about = {"id": value.get("id"), "completed_by": annotation.get("completed_by")}
    return {**value["data"], **texts, **about, "created_at": annotation.get("created_at")}


def _asked(value: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[tuple[Message, ...], str, dict[str, Any]]:
    """Context, response and what this stands for where it is not all."""
    prompt, response = given.get("prompt"), given.get("response")
    if _list_of_messages(response) and len(_messages(response)) > 1:  # with the prompt at its head
        whole, other = _messages(response), _messages(given.get("edited") or response)
        if whole[:-1] != other[:-1]:
            raise DataError("chosen and rejected begin with different messages: give the prompt apart")
        return whole[:-1], *_text("response", response)
    if isinstance(value.get("instruction"), str) and isinstance(value.get("input"), str) and value["input"]:
        prompt = f"{value['instruction']}\n\n{value['input']}"  # Alpaca
    if prompt is None:
        raise DataError("the prompt is missing: give what was asked")
    context = _messages(prompt)
    if response is None and context and context[-1].role == "assistant":  # supervised rows
        return context[:-1], context[-1].content, {}
    if response is None:
        raise DataError("the response is missing: give what the model wrote")
    text, answer = _text("response", response)
    if context and context[-1].role == "assistant":
        if context[-1].content != text:
            raise DataError(
                "the prompt ends with an assistant's message that is not the response: leave one of them out"
            )
        context = context[:-1]
    if not context:
        raise DataError("the prompt has no message: give what was asked")
    return context, text, answer


def _decoded(value: Any) -> Any:
    """JSON of messages in a cell as what it says; any other text as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            inside = json.loads(value)
        except (ValueError, RecursionError):
            return value
        if _is_message(inside) or _list_of_messages(inside) or _is_request(inside) or _texts(inside):
            return inside
    return value


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and ("role" in value or ("from" in value and "value" in value))


def _is_request(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("messages"), list)


def _list_of_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_message, cast(list[Any], value)))


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in cast(list[Any], value))


def _messages(value: Any) -> tuple[Message, ...]:
    value = _decoded(value)
    if _is_request(value):
        value = value["messages"]
    if isinstance(value, str):
        return (Message("user", value),)
    if _is_message(value):
        value = [value]
    if not _list_of_messages(value):
        raise DataError(f"the prompt is {type(value).__name__}, neither a text nor messages: map another field")
    return tuple(map(_message, value))


def _message(given: Mapping[str, Any]) -> Message:
    role = str(given.get("role", given.get("from")))
    role = _ROLES.get(role, role)
    if role not in _KNOWN:
        raise DataError(f"role {role!r} is unknown: use {', '.join(_KNOWN)}")
    rest = {name: part for name, part in given.items() if name not in ("role", "from", "value") and part is not None}
    if "value" in given and "content" not in given:
        rest["content"] = given["value"]
    text = message_text(rest) if rest.keys() - {"content"} else content_text(rest.get("content"))
    plain = isinstance(rest.get("content"), str)
    more = {name: part for name, part in rest.items() if not (plain and name == "content")}
    return Message(cast(Any, role), text, more)


def _text(field: str, value: Any) -> tuple[str, dict[str, Any]]:
    """A text, and the message that it stands for where it is not all."""
    value = _decoded(value)
    if isinstance(value, str):
        return value, {}
    if _texts(value):
        if len(value) > 1:
            raise DataError(f"{field} holds {len(value)} texts: keep the one that counts")
        return value[0], {}
    said = _messages(value) if _is_message(value) or _list_of_messages(value) else ()
    if not said or said[-1].role != "assistant":
        raise DataError(f"{field} is neither a text nor an assistant's message: map another field")
    last = said[-1]
    whole = {"role": "assistant", "content": last.content, **last.more}
    return last.content, {"message": whole, "finish_reason": None} if last.more else {}


def _name(value: Any) -> str:
    return "" if value is None else str(value)


def _yes(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.strip().casefold() in ("true", "yes", "1"))


def _moment(value: Any) -> datetime | None:
    if value is None or value == "":
        return None
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        return None  # as producers write them, many are no moments
