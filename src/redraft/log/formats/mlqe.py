"""MLQE-PE (sheffieldnlp/mlqe-pe): sources, machine translations and their post-edits, line by line.

``train.src``, ``train.mt`` and ``train.pe`` belong together; any of them, or ``train``, names all three. White space
at the ends of a line is dropped. A post-edit equal to its translation is kept as an edit that changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from redraft.errors import DataError
from redraft.log.formats.rows import BadRow, Options, Row, Rows, TooLong, asked, lines
from redraft.types import Interaction

__all__ = ["PROMPT", "read"]

PARTS = (".src", ".mt", ".pe")
PROMPT = "Translate this sentence.\n\n{source}"


def read(file: Path, options: Options) -> Iterator[Row | BadRow]:
    """Read three aligned files; raises ``DataError`` when their numbers of lines differ."""
    prefix = file.with_suffix("") if file.suffix in PARTS else file
    files = [prefix.with_name(prefix.name + part) for part in PARTS]
    counts = [sum(1 for _ in lines(part, options.max_text_chars)) for part in files]
    if len(set(counts)) > 1:
        found = ", ".join(f"{part.name} has {count}" for part, count in zip(files, counts, strict=True))
        raise DataError(f"{prefix}: lines must match one to one, but {found}: download the three files again")

    def parse(texts: tuple[bytes | TooLong, ...]) -> Interaction:
        source, translation, edited = (_text(text, part) for text, part in zip(texts, PARTS, strict=True))
        return asked(options.task, PROMPT.format(source=source), translation, edited)

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
