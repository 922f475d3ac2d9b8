"""What can be logged, and the one form in which it is kept.

``canonical`` brings an interaction into the form in which it comes back from the log (JSON values, UTC), so that
"the same content" is plain equality, and refuses what could not be stored faithfully in every database: a log moves
from a laptop's SQLite to a PostgreSQL, which has no U+0000 and a bound on what it indexes. ``cleaned`` mends what a
model wrote instead, since nobody can be asked to write that again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from operator import attrgetter, is_
from typing import Any, TypeVar, cast

from redraft.errors import DataError
from redraft.types import Completion, Decision, Edit, Interaction, Message

__all__ = [
    "MAX_REVISION",
    "NO_TASK",
    "Named",
    "canonical",
    "canonical_completion",
    "canonical_edit",
    "check_name",
    "check_task",
    "check_text",
    "cleaned",
    "decision_problems",
    "renamed",
    "utc",
]

NO_TASK = "task is missing: name it in the row, or give --task"

Record = TypeVar("Record", Interaction, Completion, Edit)

_TASK = re.compile(r"[^/@\s]+")
_TEXTS = {
    kind: [field.name for field in fields(kind) if field.type in ("str", "str | None")]
    for kind in (Completion, Edit, Decision)
}
_NAMES = ("id", "completion_id", "task", "policy", "chosen", "user_id")
MAX_REVISION = 2**31 - 1
MAX_DEPTH = 64  # of JSON values: encoders, parsers and databases each have a bound of their own
KEPT_DEPTH = MAX_DEPTH - 4  # in ``cleaned``, whose values may become part of another one
MAX_NAME_BYTES = 1000  # PostgreSQL's index entries hold 2,704 bytes, and some have two names


@dataclass(frozen=True, slots=True)
class Named(Interaction):
    """An interaction whose id was made from its content; earlier versions may have logged it as ``before``."""

    before: str = ""


def renamed(interaction: Interaction, name: str) -> Interaction:
    """The same under another id; its edit and decision follow."""
    edit, decision = interaction.edit, interaction.decision
    return Interaction(
        Completion(name, *_BUT_ID(interaction.completion)),  # as ``replace``, in half of its time: files have no ids
        edit and Edit(name, *_BUT_COMPLETION_ID(edit)),
        decision and replace(decision, completion_id=name),
    )


_BUT_ID, _BUT_COMPLETION_ID = (attrgetter(*(field.name for field in fields(kind)[1:])) for kind in (Completion, Edit))


def canonical(interaction: Interaction, max_text_chars: int) -> Interaction:
    """Check an interaction and give it the form in which the log returns it.

    Raises ``DataError`` naming the field, the value and the remedy.
    """
    completion, edit, decision = interaction.completion, interaction.edit, interaction.decision
    for record in (edit, decision):
        if record is not None and record.completion_id != completion.id:
            raise DataError(f"completion_id {record.completion_id!r}: must be {completion.id!r}, its completion's id")
    return _with(
        interaction,
        completion=canonical_completion(completion, max_text_chars),
        edit=edit and canonical_edit(edit, max_text_chars),
        decision=decision and _canonical_decision(decision, max_text_chars),
    )


def _with(record: Record, **values: object) -> Record:
    """The record with these values; itself where it has them, since making another costs more than all checks."""
    for name, value in values.items():
        if getattr(record, name) is not value:
            return replace(record, **values)
    return record


def canonical_completion(completion: Completion, max_text_chars: int) -> Completion:
    """Check a completion and give it the form in which the log returns it; raises ``DataError`` as ``canonical``."""
    _check_texts(completion, max_text_chars)
    if not completion.id:
        raise DataError("id is empty: give every completion its own id")
    check_task(completion.task)
    messages = tuple(_message(f"messages[{i}]", m, max_text_chars) for i, m in enumerate(completion.messages))
    same = len(messages) == len(completion.messages) and all(map(is_, messages, completion.messages))
    return _with(
        completion,
        messages=completion.messages if same and type(completion.messages) is tuple else messages,
        created_at=utc(completion.created_at),
        decoding=_json("decoding", completion.decoding),
        metadata=_json("metadata", completion.metadata),
        answer=_json("answer", completion.answer),
    )


def _message(name: str, message: Message, max_text_chars: int) -> Message:
    check_text(name, message.content, max_text_chars)
    check_text(f"{name}.role", message.role, max_text_chars)
    return replace(message, more=_json(name, message.more)) if message.more else message


def check_task(task: str) -> None:
    """Raise ``DataError`` unless ``task`` can name a task."""
    if not task:
        raise DataError(NO_TASK)
    if not _TASK.fullmatch(task):
        raise DataError(f"task {task!r}: give a name (--task) without spaces, '/' and '@', e.g. email")


def canonical_edit(edit: Edit, max_text_chars: int) -> Edit:
    """Check an edit and give it the form in which the log returns it; raises ``DataError`` as ``canonical``."""
    _check_texts(edit, max_text_chars)
    if not 0 <= edit.revision <= MAX_REVISION:
        raise DataError(f"revision {edit.revision}: must be between 0 and {MAX_REVISION}")
    return _with(edit, created_at=utc(edit.created_at), metadata=_json("edit metadata", edit.metadata))


def _check_texts(record: Completion | Edit | Decision, max_text_chars: int) -> None:
    for name in _TEXTS[type(record)]:
        value = getattr(record, name)
        if value:
            check_text(name, value, max_text_chars)
            if 4 * len(value) > MAX_NAME_BYTES and name in _NAMES:  # else it is short enough, whatever it says
                check_name(name, value)


def check_name(name: str, value: str) -> None:
    """Raise ``DataError`` unless a text can be stored and found by."""
    _check_characters(name, value)
    if (size := len(value.encode())) > MAX_NAME_BYTES:
        raise DataError(f"{name} has {size:,} bytes in UTF-8, more than {MAX_NAME_BYTES:,}: shorten it")


def check_text(name: str, text: str, max_text_chars: int) -> None:
    """Raise ``DataError`` unless a text can be stored as it is."""
    if len(text) > max_text_chars:
        size = f"{len(text):,} characters, more than {max_text_chars:,}"
        raise DataError(f"{name} has {size}: shorten it, or raise [log] max_text_chars")
    if not (text.isascii() and "\0" not in text):  # as few are
        _check_characters(name, text)


def _check_characters(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{name} is not valid Unicode at character {error.start}: save the text as UTF-8") from error
    if "\0" in text:
        raise DataError(f"{name} has U+0000 at character {text.index(chr(0))}, which no text needs: remove it")


def utc(moment: datetime | None) -> datetime | None:
    """The same instant in UTC; a naive time is taken to be UTC. Raises ``DataError`` outside the years 1 to 9999."""
    if moment is None:
        return None
    try:
        if moment.tzinfo is UTC:
            return moment
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise DataError(f"time {moment}: in UTC it is outside the years 1 to 9999, correct it") from error


def _json(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    if not value:
        return value if type(value) is dict else {}
    numbers = all(type(part) is float and math.isfinite(part) for part in value.values())
    if numbers and all(map(str.isidentifier, value)):  # as the decoding of nearly every request
        return dict(value)
    try:
        _check_json(name, value)
        return json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{name} cannot be written as JSON ({error}): use strings, finite numbers, lists") from error


def _check_json(name: str, value: object, depth: int = 1) -> None:
    """Refuse texts that cannot be stored, among keys too, and more than ``MAX_DEPTH`` levels."""
    if isinstance(value, str):
        _check_characters(f"a text in {name}", value)
    elif isinstance(value, Mapping | list | tuple):
        if depth > MAX_DEPTH:
            raise DataError(f"{name} is nested more than {MAX_DEPTH} deep: flatten it")
        inside = cast("Mapping[object, object] | Sequence[object]", value)
        for part in inside.values() if isinstance(inside, Mapping) else inside:
            _check_json(name, part, depth + 1)
        for key in inside if isinstance(inside, Mapping) else ():
            _check_json(name, key)


def cleaned(value: Any) -> Any:
    r"""What a model wrote, as text or JSON, fit for the log: U+FFFD for what no database stores, bounded depth.

    Numbers that JSON does not have become ``None``.

    >>> cleaned({"content": "a\ud800b", "logprobs": [float("-inf")]}) == {"content": "a\ufffdb", "logprobs": [None]}
    True
    """
    return _cleaned(value, 1)


def _cleaned(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _cleaned_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not isinstance(value, Mapping | list | tuple):
        return value
    if depth > KEPT_DEPTH:
        return "…"
    inside = cast("Mapping[str, Any] | Sequence[Any]", value)
    if isinstance(inside, Mapping):
        return {_cleaned_text(key): _cleaned(part, depth + 1) for key, part in inside.items()}
    return [_cleaned(part, depth + 1) for part in inside]


def _cleaned_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:  # a stream may also cut a pair in two: its halves belong together
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\0", "\ufffd")


def _canonical_decision(decision: Decision, max_text_chars: int) -> Decision:
    _check_texts(decision, max_text_chars)
    for candidate in decision.candidates:
        check_text("a candidate", candidate, max_text_chars)
    problems = decision_problems(decision)
    if problems:
        raise DataError(f"decision of {decision.completion_id!r}: {'; '.join(problems)}")
    return replace(
        decision,
        candidates=tuple(decision.candidates),
        parameters=_json("decision parameters", decision.parameters),
        scores=None if decision.scores is None else tuple(float(score) for score in decision.scores),
        propensities=None if decision.propensities is None else tuple(float(p) for p in decision.propensities),
    )


def decision_problems(decision: Decision) -> list[str]:
    """Name everything that makes a decision useless for replay or off-policy estimates."""
    arms, scores, propensities = len(decision.candidates), decision.scores, decision.propensities
    checks = {
        f"chosen {decision.chosen!r} is not among the candidates": decision.chosen in decision.candidates,
        f"t = {decision.t} is below 1": decision.t >= 1,
        f"t = {decision.t} is no number of decisions": decision.t < 2**63,
        f"scores are not one number for each of {arms} candidates": scores is None
        or (len(scores) == arms and not any(math.isnan(score) for score in scores)),
        f"propensities are not one probability for each of {arms} candidates, summing to 1": propensities is None
        or (
            len(propensities) == arms
            and all(0 <= p <= 1 for p in propensities)
            and math.isclose(math.fsum(propensities), 1, abs_tol=1e-6)
        ),
    }
    return [problem for problem, fine in checks.items() if not fine]
