"""The shapes that records have, by producer: how each is recognised, and which field is read from which key.

A shape is told from the first records. Where several fit, the more particular one is taken; between equals a person
has to choose with ``--format``. Keys that no field reads go to the interaction's metadata, so that nothing is dropped,
in all shapes but our own, which refuses them: a mistyped ``edited`` would otherwise look like silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, cast

from redraft.errors import DataError
from redraft.log.formats import annotated, native
from redraft.log.formats.fields import TEXTS, guessed
from redraft.log.formats.plan import Plan, Read, Shape, planned, require_mapped
from redraft.log.formats.rows import BadRow, Options, Reader, Row, Rows
from redraft.log.formats.source import Raw, Source, open_source

__all__ = ["READERS", "SHAPES", "Understood", "understand", "understood"]

SAMPLE = 100  # records by which a file is judged
Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Understood:
    """What a file was taken for: the kind of file, the shape of its records, and field → key.

    ``hint`` is what to try where no row is good.
    """

    file: str
    shape: str
    fields: Mapping[str, str]
    rows: Callable[[], Iterator[Row | BadRow]]
    hint: str = ""


def _has(*keys: str) -> Callable[[Object], bool]:
    needed = frozenset(keys)
    return lambda record: needed <= record.keys()


def _ends_with_assistant(record: Object) -> bool:
    turns = record.get("messages")
    last = cast("list[Any]", turns)[-1] if isinstance(turns, list) and turns else None
    answers = {"response", "chosen", "rejected", "edited", "completion"}
    return isinstance(last, Mapping) and cast("Object", last).get("role") == "assistant" and not answers & record.keys()


def _named(record: Object) -> bool:
    return _names_all(frozenset(record))


@cache
def _names_all(keys: frozenset[str]) -> bool:
    try:
        return {*TEXTS} <= guessed(keys).keys()
    except DataError:
        return False


def _argilla(record: Object) -> bool:
    ends = (".responses", annotated.ANSWERED)
    return record.keys() >= {"fields", "responses"} or any(key.endswith(ends) for key in record)


def _label_studio(record: Object) -> bool:
    flat = not {"annotation_id", "lead_time", "id"}.isdisjoint(record) and "annotator" in record
    return flat or record.keys() >= {"data", "annotations"}


def _langfuse(record: Object) -> bool:
    marks = {"corrected_output", "correctedOutput", "trace_id", "traceId", "observations", "latency", "sessionId"}
    return record.keys() >= {"input", "output"} and not marks.isdisjoint(record) and "instruction" not in record


def _alpaca(record: Object) -> Iterator[Object]:
    """Alpaca's instruction and input are one request, as LLaMA-Factory joins them; ``history`` came before."""
    asked = "\n".join(part for part in (record["instruction"], record.get("input")) if part)
    turns = [
        {"role": role, "content": text}
        for pair in record.get("history") or ()
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    yield {**record, "prompt": [*turns, {"role": "user", "content": asked}] if turns else asked}


PREFERENCE = {"response": "rejected", "edited": "chosen"}
LABELS = {"true", "false", "1", "0", "1.0", "0.0"}
RESPONSES = {"prompt": "input", "response": "output", "system": "instructions", "created_at": "created_at"}
OPENAI = {"prompt": "input", "response": "non_preferred_output", "edited": "preferred_output"}
LABELLED = {"accepted": "kto_tag"}
ALPACA = Shape(
    "alpaca",
    "Alpaca, as LLaMA-Factory reads it",
    lambda record: "instruction" in record and ("output" in record or record.keys() >= {"chosen", "rejected"}),
    {"prompt": "prompt", "response": "rejected|output", "edited": "chosen", **LABELLED},
    _alpaca,
    frozenset({"instruction", "input", "history"}),
)
SHAPES = (
    Shape("native", "our own", native.fits, rank=3),
    Shape("table", "columns by name", _named, rank=1),
    Shape(
        "trl",  # once the name of OpenAI's too
        "TRL preferences",
        _has(*PREFERENCE.values()),
        {name: f"{key}|{OPENAI[name]}" for name, key in {"prompt": "prompt|messages", **PREFERENCE}.items()},
        rank=1,
    ),
    Shape(
        "kto",
        "TRL labelled completions",
        lambda record: "completion" in record and str(record.get("label")).lower() in LABELS,
        {"prompt": "prompt", "response": "completion", "accepted": "label"},
    ),
    Shape("openai", "OpenAI preferences", _has("preferred_output", "non_preferred_output"), OPENAI),
    Shape("chat", "OpenAI chats that end with the response", _ends_with_assistant, {"prompt": "messages"}),
    Shape("responses", "OpenAI Responses", lambda record: record.get("object") == "response", RESPONSES, rank=3),
    Shape(
        "sharegpt",
        "ShareGPT conversations",
        _has("conversations"),
        {"prompt": "conversations", **PREFERENCE, **LABELLED},
    ),
    ALPACA,
    Shape(
        "helpsteer3",
        "HelpSteer3 edits",
        _has("context", "original_response", "edited_response"),
        {"prompt": "context", "response": "original_response", "edited": "edited_response"},
    ),
    Shape("langfuse", "Langfuse observations", _langfuse, {"prompt": "input", "response": "output"}),
    Shape("argilla", "Argilla records", _argilla, {"edit_user_id": "annotator"}, annotated.argilla, annotated=True),
    Shape(
        "labelstudio",
        "Label Studio annotations",
        _label_studio,
        {"edit_user_id": "annotator", "edit_created_at": "updated_at|created_at"},
        annotated.label_studio,
        annotated=True,
    ),
    Shape(
        "prodigy",
        "Prodigy tasks",
        lambda record: "answer" in record and not record.keys().isdisjoint({"_input_hash", "_task_hash"}),
        {"accepted": "accepted", "edit_user_id": "_annotator_id", "edit_created_at": "_timestamp"},
        annotated.prodigy,
        annotated=True,
    ),
)
BY_NAME = {shape.name: shape for shape in SHAPES} | {"csv": next(shape for shape in SHAPES if shape.name == "table")}


def understand(file: Path, form: str, options: Options) -> Understood:
    """Find out what a file holds; ``form`` names the shape, or is ``auto``.

    Raises ``DataError`` where that is unclear, and for a field of ``options.columns`` that no record has.
    """
    return understood(open_source(file, options), form, options)


def understood(source: Source, form: str, options: Options) -> Understood:
    """Find out what a source's records mean; as ``understand``."""
    sample = list(islice((raw.value for raw in source.records() if isinstance(raw, Raw)), SAMPLE))
    shape = BY_NAME[form] if form != "auto" else _recognised(source, sample, options)
    if shape.name == "native":
        require_mapped(source, shape, sample, options)
        read = native.reader(sample, options.task, options.columns)
        keys = {key: key for record in sample for key in record if key in native.SHOWN}
        fields = keys | dict(options.columns)
    else:
        flat = [flat for record in sample for flat in shape.flat(record)]
        plan = planned(source, shape, flat, options)
        if len(sample) == SAMPLE and not source.table and plan.fields.keys().isdisjoint({"edited", "accepted"}):
            every = (raw.value for raw in source.records() if isinstance(raw, Raw))  # the first edit may come late
            keys = {key: None for record in every for flat_one in shape.flat(record) for key in flat_one}
            plan = planned(source, shape, [*flat, keys], options)
        read, fields = _expanding(shape, plan), plan.shown
    hint = native.hint(sample) if shape.name == "native" else ""
    return Understood(source.said, f"{shape.name} ({shape.said})", fields, lambda: _rows(source, read, options), hint)


def _expanding(shape: Shape, plan: Plan) -> Read:
    return lambda record: map(plan.interaction, shape.expand(record))


def _recognised(source: Source, sample: list[Object], options: Options) -> Shape:
    """The most particular shape that most of the records have; by the names of their keys where none has them."""
    mapped = native.renaming(options.columns, sample)
    scores = {
        shape.name: sum(shape.fits(mapped(record) if shape.name == "native" else record) for record in sample)
        for shape in SHAPES
        if not (shape.name == "native" and source.table)  # an empty cell says nothing, and has no type
    }
    most = max(scores.values())
    fitting = [shape for shape in SHAPES if 0 < most <= 2 * scores.get(shape.name, 0)]
    best = [shape for shape in fitting if shape.rank == max(one.rank for one in fitting)]
    if len(best) > 1:
        names = " and ".join(f"{shape.name} ({shape.said})" for shape in best)
        raise DataError(f"{source.file}: its records could be {names}: choose with --format {best[0].name}")
    if "response" in options.columns and not (best and best[0].name == "native"):
        return BY_NAME["table"]
    return best[0] if best else BY_NAME["table"]


def _rows(source: Source, read: Read, options: Options) -> Iterator[Row | BadRow]:
    rows = Rows(source.file, options)
    for raw in source.records():
        if isinstance(raw, BadRow):
            yield raw
        else:
            yield from rows.rows(raw.line, read, raw.value)


def _reader(form: str) -> Reader:
    return lambda file, options: understand(file, form, options).rows()


READERS: dict[str, Reader] = {form: _reader(form) for form in ("auto", *BY_NAME)}
"""Readers by the name that ``redraft import --format`` takes."""
