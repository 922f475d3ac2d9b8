"""How the records of one file are read, decided once: field → key. Then one interaction is made from each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from redraft.errors import DataError
from redraft.log.formats.annotated import NO_EDIT
from redraft.log.formats.chat import Said, Turn, dialogue, exchange, message, said
from redraft.log.formats.fields import BY_NAME, TEXTS, Steps, getter, guessed, near, steps_of, without
from redraft.log.formats.rows import Options, moment
from redraft.log.formats.source import Raw, Source
from redraft.messages import message_text, untaught
from redraft.types import Completion, Edit, Interaction, Message

__all__ = ["Plan", "Read", "Shape", "planned", "require_mapped"]

Object = Mapping[str, Any]
Read = Callable[[Object], Iterable[Interaction]]
MOMENTS = ("created_at", "edit_created_at")
YES = {"true", "t", "yes", "y", "1", "1.0", "ok", "checked", "✓", "✔", "accept", "accepted", "approve", "approved"}
NO = {"false", "f", "no", "n", "0", "0.0", "reject", "rejected", "ignore", "pending", "none", "null", "nan", ""}
ERRORS = {"#NAME?", "#VALUE!", "#REF!", "#DIV/0!", "#NUM!", "#NULL!"}  # a text that began with = or -
DRAWN = ("messages", "conversations", "conversation")  # may repeat the context with one of the answers


@dataclass(frozen=True, slots=True)
class Shape:
    """What one producer's records look like.

    ``fields`` are the keys that it always names so (``|``: or else); the other fields are found by their names.
    ``expand`` turns a record into flat ones, ``uses`` are keys that it has read. ``annotated``: other keys belong to
    the edit. Of the shapes that fit, the highest ``rank`` is taken.
    """

    name: str
    said: str
    fits: Callable[[Object], bool]
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    expand: Callable[[Object], Iterable[Object]] = lambda record: (record,)
    uses: frozenset[str] = frozenset()
    annotated: bool = False
    rank: int = 2

    def flat(self, record: Object) -> list[Object]:
        """The flat records of one by which a file is judged; none where it is bad, which is said when it is read."""
        try:
            return list(self.expand(record))
        except Exception:  # as in ``Rows.rows``
            return []


@dataclass(frozen=True, slots=True)
class Plan:
    """``fields`` says which path each field is read from; ``used`` and ``nested`` are what leaves the metadata."""

    task: str
    fields: Mapping[str, str]
    at: Mapping[str, Callable[[Object], Any]]
    used: frozenset[str]
    nested: Sequence[Steps]
    table: bool
    annotated: bool
    rest: Sequence[str] = ()

    @property
    def shown(self) -> dict[str, str]:
        """The fields, and which keys become metadata."""
        return {**self.fields, **({"metadata": ", ".join(self.rest)} if self.rest else {})}

    def interaction(self, record: Object) -> Interaction:
        """Say a flat record in our vocabulary; raises ``DataError`` where it cannot be."""
        value = {name: found for name, at in self.at.items() if (found := at(record)) is not None}
        if self.table:
            value = {name: found for name, found in value.items() if found != ""}
            if ruined := next((name for name in TEXTS if value.get(name) in ERRORS), None):
                raise DataError(f"{ruined} = {value[ruined]}: a spreadsheet wrote this for a text: correct the cell")
        about: dict[str, Any] = {}
        messages, answer, edited = self._texts(value, about)
        nothing = (None, "") if self.table else (None,)
        rest = {key: part for key, part in record.items() if key not in self.used and part not in nothing}
        for steps in self.nested:
            rest = cast("dict[str, Any]", without(rest, steps))
        rest |= about | (
            {self.fields["accepted"]: given} if _word(given := value.get("accepted", True)) not in YES else {}
        )
        for name in DRAWN:
            if name in rest and _repeats(rest[name], messages, answer, edited):
                del rest[name]
        edit = None if record.get(NO_EDIT) else self._edit(value, answer, edited, record, rest)
        completion = Completion(
            _name(value, "id") or "",
            _name(value, "task") or self.task,
            messages,
            **_answer(answer),
            policy=_name(value, "policy") or "",
            model=_name(value, "model") or "",
            user_id=_name(value, "user_id"),
            created_at=moment("created_at", value.get("created_at")),
            metadata={} if self.annotated and edit else rest,
        )
        return Interaction(completion, edit)

    def _texts(self, value: Mapping[str, Any], about: dict[str, Any]) -> tuple[tuple[Message, ...], Turn, Turn | None]:
        """Context, response and edited text."""
        prompt, response, edited = (value.get(name) for name in TEXTS)
        if not (plain := all(isinstance(part, str) and part[:1] not in ("[", "{") for part in (prompt, response))):
            prompt = said(prompt, "prompt", about)
            system = about.pop("system", None) or about.pop("instructions", None)
            value = {"system": system, **value} if system else value
            response = said(response, "response", about)
        final = edited if isinstance(edited, str) and edited[:1] not in ("[", "{") else said(edited, "edited", about)
        if plain and not isinstance(final, list):
            context: list[Turn] = [{"role": "user", "content": prompt}]
            answer: Turn = {"role": "assistant", "content": response}
            changed = None if final is None else {"role": "assistant", "content": final}
        else:
            if prompt is None:
                response, final = _dialogue(response), _dialogue(final)
            context, answer, changed = exchange(cast("Said", prompt), cast("Said", response), final)
        if (system := value.get("system")) and context[0] != {"role": "system", "content": system}:
            context = [{"role": "system", "content": system}, *context]
        return tuple(map(message, context)), answer, changed

    def _edit(
        self, value: Mapping[str, Any], answer: Turn, edited: Turn | None, record: Object, rest: dict[str, Any]
    ) -> Edit | None:
        if edited is None and not _yes(value.get("accepted")):
            return None
        return Edit(
            _name(value, "id") or "",
            None if edited is None else message_text(edited),
            record.get("revision", 0) if self.annotated else 0,
            _name(value, "edit_user_id") or _name(value, "user_id"),
            moment("edit_created_at", value.get("edit_created_at")),
            rest if self.annotated else {},
        )


def _answer(answer: Turn) -> dict[str, Any]:
    """What the log keeps of an answer, as of those that the gateway gives."""
    content = answer.get("content")
    if isinstance(content, str) and answer.keys() <= {"role", "content"}:
        return {"response": content}
    kept = {name: part for name, part in answer.items() if part is not None}
    return {"response": message_text(answer), "answer": {"message": kept}, "untaught": untaught(answer)}


def _dialogue(value: object) -> Any:
    return (dialogue(value) or value) if isinstance(value, str) else value


def _repeats(given: object, messages: Sequence[Message], *answers: Turn | None) -> bool:
    """Whether messages say again what was read already."""
    try:
        turns = [(m.role, m.content) for m in map(message, cast("list[Turn]", said(given, "", {})))]
    except (DataError, TypeError, AttributeError, KeyError):
        return False
    context = [(m.role, m.content) for m in messages]
    return any(turns == [*context, ("assistant", message_text(answer))] for answer in answers if answer)


def _yes(value: object) -> bool:
    """Whether a value says that a draft was accepted; raises ``DataError`` where it says neither yes nor no."""
    word = _word(value)
    if word not in YES and word not in NO:
        raise DataError(
            f"accepted = {value!r:.60}: write yes or no; a text that was made of the draft is --map edited=…"
        )
    return word in YES


def _word(value: object) -> str:
    return "" if value is None else str(value).strip().lower()


def _name(value: Mapping[str, Any], name: str) -> str | None:
    found = value.get(name)
    if isinstance(found, Mapping) and len(found) == 1 and "$oid" in found:  # MongoDB's
        found = cast("Object", found)["$oid"]
    if found is None or isinstance(found, str):
        return found or None
    if isinstance(found, int | float):
        return str(found)
    raise DataError(f"{name} = {found!r:.60}: must be a text or a number")


def planned(source: Source, shape: Shape, sample: Sequence[Object], options: Options) -> Plan:
    """Decide which field is read from where.

    Raises ``DataError`` where a text has no key, or one of ``options.columns`` is in no record.
    """
    every = [*(() if shape.uses else source.columns), *(key for record in sample for key in record)]
    keys = [key for key in dict.fromkeys(every) if key != NO_EDIT and not (shape.annotated and key == "revision")]
    require_mapped(source, shape, sample, options)
    known = {name: next((key for key in either.split("|") if key in keys), "") for name, either in shape.fields.items()}
    fields = {name: key for name, key in known.items() if key} | dict(options.columns)
    first = {str(steps_of(path, keys)[0]) for path in fields.values()}
    own = ("user_id", "created_at") if shape.annotated else ()  # are the edit's there
    sought = [name for name in BY_NAME if name not in fields and name not in own]
    try:
        found = guessed(keys, {*first, *shape.uses, NO_EDIT}, sought)
    except DataError as error:
        raise DataError(f"{source.file}: {error}") from error
    fields |= {name: key for name, key in found.items() if name not in MOMENTS or _all_moments(key, sample)}
    if sample or source.columns:
        _require_texts(source, shape, sample, fields, keys)
    steps = {name: steps_of(path, keys) for name, path in fields.items()}
    single = frozenset(str(path[0]) for path in steps.values() if len(path) == 1)
    read = {str(path[0]) for path in steps.values()} | shape.uses | {NO_EDIT, "revision"}
    return Plan(
        options.task,
        fields,
        {name: getter(path) for name, path in steps.items()},
        single | shape.uses | {NO_EDIT} | ({"revision"} if shape.annotated else frozenset[str]()),
        [path for path in steps.values() if len(path) > 1],
        source.table,
        shape.annotated,
        [key for key in keys if key not in read],
    )


def _all_moments(key: str, sample: Iterable[Object]) -> bool:
    try:
        for record in sample:
            moment(key, record.get(key))
    except DataError:
        return False
    return True


def _require_texts(
    source: Source, shape: Shape, sample: Sequence[Object], fields: Mapping[str, str], keys: Sequence[str]
) -> None:
    """Refuse a file in which a text has no key: nothing could be read, or an edit would look like silence."""
    missing = [name for name in TEXTS[:2] if name not in fields]
    answers = [getter(steps_of(fields["response"], keys))(record) for record in sample] if "response" in fields else []
    if missing == ["prompt"] and (
        any(map(_several, answers)) or (shape.name == "trl" and answers and isinstance(answers[0], str))
    ):
        missing = []  # it stands before the answer
    asked = getter(steps_of(fields["prompt"], keys)) if "prompt" in fields else None
    if missing == ["response"] and asked and any(_answered(asked(record)) for record in sample):
        missing = []
    paths = _paths(sample, keys)
    left = [path for path in paths if path not in fields.values() and path not in shape.uses]
    if "edited" not in fields and "accepted" not in fields:
        unread = shape.annotated and any(not record.get(NO_EDIT) for record in sample)
        written = [path for path in left if all(part in (None, "") for part in paths[path]) or _written(paths[path])]
        missing += ["edited"] if unread or near(written, "edited") else []
        left = written if missing == ["edited"] else left
    if missing:
        nearest = {name: key for name in missing if (key := near(left, name))}
        meant = "".join(f"; {key} → {name}?" for name, key in nearest.items())
        pairs = " ".join(f"--map {_quoted(name, nearest.get(name, '…'))}" for name in missing)
        found = ", ".join(keys) or "none"
        raise DataError(
            f"{source.file}: nothing is read as {' and '.join(missing)}{meant}: {pairs} (its keys: {found})"
        )


def _several(answer: object) -> bool:
    return isinstance(answer, list) and len(cast("list[Any]", answer)) > 1


def _answered(asked: object) -> bool:
    """Whether messages, if these are any, end with the assistant."""
    try:
        turns = said(asked, "prompt", {})
    except DataError:
        return False
    return isinstance(turns, list) and bool(turns) and turns[-1]["role"] == "assistant"


def _paths(sample: Iterable[Object], keys: Iterable[str]) -> dict[str, list[Any]]:
    """The keys, and the paths into objects and the first of several; what stands there, in each record."""
    found: dict[str, list[Any]] = {key: [] for key in keys}
    for record in sample:
        for key, value in record.items():
            found.setdefault(key, []).append(value)
            start, inner = (f"{key}[0]", value[0]) if isinstance(value, list) and value else (key, value)
            for name, part in cast("Object", inner).items() if isinstance(inner, Mapping) else ():
                found.setdefault(f"{start}.{name}", []).append(part)
    return found


def _written(values: Iterable[Any]) -> bool:
    """Whether a text that somebody wrote may be among these: numbers, times and yes or no are none."""
    return any(
        _written(cast("Iterable[Any]", value.values() if isinstance(value, Mapping) else value))
        if isinstance(value, Mapping | list)
        else isinstance(value, str) and _word(value) not in YES | NO and not _measured(value)
        for value in values
    )


def _measured(text: str) -> bool:
    try:
        moment("", text)
    except DataError:
        return bool(re.fullmatch(r"[-+]?[\d.,]+%?", text.strip()))
    return True


def _quoted(name: str, key: str) -> str:
    pair = f"{name}={key}"
    return f'"{pair}"' if re.search(r"[^\w=….\[\]-]", pair) else pair


def require_mapped(source: Source, shape: Shape, sample: Sequence[Object], options: Options) -> None:
    """Raise ``DataError`` for a path of ``--map`` that no record has; all are read where the first ones lack it."""
    for name, path in options.columns.items():
        keys = list(dict.fromkeys([*source.columns, *(key for record in sample for key in record)]))
        at = getter(steps_of(path, keys))
        every = (flat for raw in source.records() if isinstance(raw, Raw) for flat in shape.flat(raw.value))
        if path in source.columns or any(at(record) is not None for record in sample):
            continue
        if all(at(record) is None for record in every):
            found = ", ".join(keys) or "none"
            raise DataError(f"{source.file}: no {path}, which --map reads as {name}, in any row; found: {found}")
