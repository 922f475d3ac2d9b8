"""Published corpora of people's edits, read as any format is: DeFacto's summaries and MLQE-PE's translations.

*DeFacto* (microsoft/DeFacto): news articles, machine summaries, and the summaries as people corrected them. Where
nothing was wrong, the corrected summary is empty or null, or equals the candidate up to white space at its ends: all of
these mean that the summary was accepted. Explanations and evidence are not read.

*MLQE-PE* (sheffieldnlp/mlqe-pe): ``train.src``, ``train.mt`` and ``train.pe`` belong together line by line; any of
them, or ``train``, names all three. White space at the ends of a line is dropped. A post-edit equal to its translation
is an edit that changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from redraft.errors import DataError
from redraft.log.formats.rows import BadRow, Options, Reader, Row, Rows, TooLong, describe, lines
from redraft.log.formats.source import open_source
from redraft.types import Completion, Edit, Interaction, Message

__all__ = ["CORPORA", "read_defacto", "read_mlqe"]

SUMMARIZE = "Summarize this news article in one sentence.\n\n{article}"
TRANSLATE = "Translate this sentence.\n\n{source}"
PARTS = (".src", ".mt", ".pe")


class _Feedback(BaseModel):
    summary: str | None


class _Summary(BaseModel):
    model_config = ConfigDict(strict=True)

    article: str
    candidate: str
    feedback: _Feedback


def read_defacto(file: Path, options: Options) -> Iterator[Row | BadRow]:
    """Read ``train.jsonl`` or ``val.jsonl``."""

    def parse(record: Mapping[str, Any]) -> Interaction:
        try:
            row = _Summary.model_validate(record)
        except ValidationError as error:
            raise DataError(describe(error)) from error
        corrected = row.feedback.summary or ""
        edited = None if corrected.strip() in ("", row.candidate.strip()) else corrected
        return _asked(options.task, SUMMARIZE.format(article=row.article), row.candidate, edited)

    rows = Rows(file, options)
    for raw in open_source(file, options).records():
        yield raw if isinstance(raw, BadRow) else rows.row(raw.line, parse, raw.value)


def read_mlqe(file: Path, options: Options) -> Iterator[Row | BadRow]:
    """Read three aligned files; raises ``DataError`` when their numbers of lines differ."""
    prefix = file.with_suffix("") if file.suffix in PARTS else file
    files = [prefix.with_name(prefix.name + part) for part in PARTS]
    counts = [sum(1 for _ in lines(part, options.max_text_chars)) for part in files]
    if len(set(counts)) > 1:
        found = ", ".join(f"{part.name} has {count}" for part, count in zip(files, counts, strict=True))
        raise DataError(f"{prefix}: lines must match one to one, but {found}: download the three files again")

    def parse(texts: tuple[bytes | TooLong, ...]) -> Interaction:
        source, translation, edited = (_text(text, part) for text, part in zip(texts, PARTS, strict=True))
        return _asked(options.task, TRANSLATE.format(source=source), translation, edited)

    rows = Rows(files[0], options)
    streams = [lines(part, options.max_text_chars) for part in files]
    for aligned in zip(*streams, strict=True):
        yield rows.row(aligned[0][0], parse, tuple(text for _, text in aligned))


def _text(line: bytes | TooLong, part: str) -> str:
    if isinstance(line, TooLong):
        raise DataError(f"the line in {part} is too long: shorten it, or raise [log] max_text_chars")
    try:
        return line.decode().strip()
    except UnicodeDecodeError as error:
        raise DataError(f"not valid UTF-8 in {part} at byte {error.start + 1}: save the file as UTF-8") from error


CORPORA: dict[str, Reader] = {"defacto": read_defacto, "mlqe": read_mlqe}
"""Readers by the name that ``redraft import --format`` takes."""


def _asked(task: str, prompt: str, response: str, edited: str | None) -> Interaction:
    """One user message, the response to it, and what a person made of that (``None``: accepted unchanged)."""
    return Interaction(Completion("", task, (Message("user", prompt),), response), Edit("", edited))
