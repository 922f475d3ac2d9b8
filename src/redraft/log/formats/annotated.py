"""Exports of annotation tools: one record may hold what several people made of one draft.

Each becomes a flat record per person and text. Answers that were cancelled, discarded or not yet submitted give no
edit. What the tools say about an annotation (who, when, how long) belongs to the edit, not to the draft.
"""

from __future__ import annotations

import ast
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from redraft.log.formats.fields import named

__all__ = ["ANSWERED", "NO_EDIT", "argilla", "label_studio", "prodigy"]

ANSWERED = "-suggestion-metadata"  # the end of a column that each question of Argilla 1 has
NO_EDIT = "no edit"
"""A flat record with this key has no feedback, whatever else it says."""
Object = Mapping[str, Any]
Flat = dict[str, Any]


def prodigy(record: Object) -> Iterator[Object]:
    """Prodigy's tasks: ``accept`` without an edit accepts the draft; ``reject`` and ``ignore`` give no text."""
    answer = record.get("answer")
    empty = {name for name, value in record.items() if value == "" and named(name, "edited")}  # a box not typed in
    flat = {name: record[name] for name in record if name not in empty | {"answer"}} | {"verdict": answer}
    flat |= {"accepted": True} if answer == "accept" else {NO_EDIT: True}
    hashes = [record.get("_input_hash"), record.get("_task_hash")]
    if None not in hashes:
        flat["id"] = ":".join(map(str, hashes))
    yield flat


def label_studio(record: Object) -> Iterator[Object]:
    """Label Studio's JSON, one object a task, or its flat exports (JSON_MIN, CSV), one object an annotation."""
    if "annotations" not in record:
        yield from _each_text(dict(record))
        return
    known = ("data", "annotations", "predictions", "drafts", "id")
    base = {"id": record.get("id")} | _beside(record["data"]) | {k: v for k, v in record.items() if k not in known}
    predicted = [_texts(part) for part in record.get("predictions") or ()]
    areas = _areas([*record["annotations"], *(record.get("predictions") or ())])
    annotations = [part for part in record["annotations"] if not part.get("was_cancelled")]
    for part in annotations or [None]:
        values = _texts(part) if part else {}
        about = {name: part.get(name) for name in ("lead_time", "ground_truth") if part.get(name)} if part else {}
        who = (
            {}
            if part is None
            else {"annotator": _person(part), "updated_at": part.get("updated_at") or part.get("created_at")}
        )
        flat = base | who | about | ({"annotation_id": part["id"]} if part and "id" in part else {})
        yield from _each_text(_answered(flat, values, predicted[0] if predicted else {}, areas))


def _areas(annotations: Iterable[Object]) -> set[str]:
    """The controls into which texts are typed: a choice is a word too, and no edit."""
    parts = (part for one in annotations for part in one.get("result") or ())
    return {part.get("from_name", "") for part in parts if part.get("type") == "textarea"}


def _beside(data: Object) -> Flat:
    return {f"data.{name}" if name in ("id", "annotator", "updated_at") else name: data[name] for name in data}


def _texts(annotation: Object) -> Flat:
    """Values by control; several texts of one control, or in several regions, stay a list."""
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for part in annotation.get("result") or ():
        value = cast("Flat", part.get("value") or {})
        given = value.get("text") if part.get("type") == "textarea" else value.get(part.get("type", ""))
        found[part.get("from_name", "")] += cast("list[Any]", given) if isinstance(given, list) else [given]
    return {name: parts[0] if len(parts) == 1 else parts for name, parts in found.items()}


def _person(annotation: Object) -> Any:
    who = annotation.get("completed_by")
    return who.get("email") or who.get("id") if isinstance(who, Mapping) else who


def argilla(record: Object) -> Iterator[Object]:
    """Argilla's records: of ``to_list``, nested, and of ``to_datasets``, flat with ``QUESTION.responses`` columns."""
    if any(name.endswith(ANSWERED) for name in record):
        record = _questions(record)
    nested = isinstance(record.get("fields"), Mapping)
    base, people, suggested = (_nested if nested else _flat)(record)
    for who, values in people.items() or [(None, {})]:
        # A label is a text too: only a question that is named as one is read as the edit.
        texts = {name for name in suggested | values if named(name, "edited") or named(name, "response")}
        yield from _each_text(_answered(base | ({"annotator": who} if who else {}), values, suggested, texts))


def _questions(record: Object) -> Flat:
    """Bring Argilla 1's columns, a list of answers for each question, into its nested form."""
    names = [name.removesuffix(ANSWERED) for name in record if name.endswith(ANSWERED)]
    known = {name + end for name in names for end in ("", "-suggestion", ANSWERED)} | {"metadata"}
    about: Any = record.get("metadata")
    return {
        "fields": {name: value for name, value in record.items() if name not in known},
        "metadata": json.loads(about) if isinstance(about, str) else about,
        "responses": {name: record.get(name) for name in names},
        "suggestions": {name: {"value": record.get(f"{name}-suggestion")} for name in names},
    }


def _nested(record: Object) -> tuple[Flat, dict[Any, Flat], Flat]:
    known = ("fields", "responses", "suggestions", "vectors", "metadata")
    base = {name: value for name, value in record.items() if name not in known}
    base |= cast("Flat", record["fields"]) | cast("Flat", record.get("metadata") or {})
    people: defaultdict[Any, Flat] = defaultdict(dict)
    given: Any = record.get("responses") or {}
    if isinstance(given, Mapping):  # question → one answer a person
        every = [(name, part) for name, parts in cast("Flat", given).items() for part in parts or ()]
    else:  # one object a person, with the values by question
        every = [(name, part | value) for part in given for name, value in (part.get("values") or {}).items()]
    for name, part in every:
        if part.get("status", "submitted") == "submitted":
            people[part.get("user_id")][name] = part.get("value")
    suggestions: Any = record.get("suggestions") or {}
    if not isinstance(suggestions, Mapping):
        suggestions = {part["question_name"]: part for part in suggestions}
    return base, people, {name: part.get("value") for name, part in cast("Flat", suggestions).items() if part}


def _flat(record: Object) -> tuple[Flat, dict[Any, Flat], Flat]:
    questions = [name.removesuffix(".responses") for name in record if name.endswith(".responses")]
    parts = tuple(f"{name}." for name in questions)
    base = {name: value for name, value in record.items() if not name.startswith(parts)}
    people: defaultdict[Any, Flat] = defaultdict(dict)
    for name in questions:
        values = _listed(record[f"{name}.responses"])
        who = _listed(record.get(f"{name}.responses.users")) or [None] * len(values)
        states = _listed(record.get(f"{name}.responses.status")) or ["submitted"] * len(values)
        for value, person, state in zip(values, who, states, strict=True):
            if state == "submitted":
                people[person][name] = value
    return base, people, {name: record.get(f"{name}.suggestion") for name in questions}


def _answered(base: Flat, values: Flat, suggested: Flat, areas: set[str]) -> Flat:
    """A flat record of one person's answers: the one in ``areas`` is the edit, what was suggested for it the draft.

    Where several are texts and none is named as an edit, all keep their names, for a person to choose.
    """
    flat = {name: value for name, value in values.items() if name not in base} | base
    texts = [name for name, value in (suggested | values).items() if name in areas and isinstance(value, str | list)]
    chosen = [name for name in texts if named(name, "edited")] or texts
    if len(chosen) == 1:
        (name,) = chosen
        if name in values and not named(name, "edited"):
            flat = {key: value for key, value in flat.items() if key != name or key in base} | {"edited": values[name]}
        if isinstance(suggested.get(name), str) and not any(named(key, "response") for key in base):
            flat["draft"] = suggested[name]
    return flat if values else flat | {NO_EDIT: True}


def _each_text(flat: Flat) -> Iterator[Object]:
    """One record for each of several texts that one person gave: the last is the one that holds."""
    edits = ["edited"] if "edited" in flat else [name for name in flat if named(name, "edited")]
    lists = {name: texts for name in edits or flat if (texts := _listed(flat[name])) and isinstance(texts[0], str)}
    for i in range(max((len(texts) for texts in lists.values()), default=1)):
        yield flat | {name: texts[min(i, len(texts) - 1)] for name, texts in lists.items()} | {"revision": i}


def _listed(value: Any) -> list[Any]:
    """A list, also one that was written into a cell as JSON or as Python writes it."""
    if isinstance(value, str) and value.startswith("["):
        for read in (json.loads, ast.literal_eval):
            try:
                found: Any = read(value)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            return cast("list[Any]", found) if isinstance(found, list) else []
    return cast("list[Any]", value) if isinstance(value, list) else []
