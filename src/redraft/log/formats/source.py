"""From a file's bytes to its records, whatever it is packed in; what the records mean is for ``shapes`` to say.

Bytes are asked first and the name after: a table named ``.json`` is a table. Left out are formats that need a program
of their own (workbooks, databases): they are named, with what to export instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from redraft.errors import DataError
from redraft.log.formats import columnar, delimited, documents
from redraft.log.formats.rows import Options
from redraft.log.formats.unpacked import Raw, Records, open_text

ELSEWHERE = {".yaml": "YAML", ".yml": "YAML", ".toml": "TOML", ".xml": "XML"}  # text that no byte tells apart
__all__ = ["Raw", "Source", "open_source"]


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was understood. ``records`` reads it from the start, each time, and holds one record at a time.

    ``said`` tells a person what it is taken for, such as ``JSON Lines, UTF-16, gzip``. The cells of a ``table`` are
    texts and an empty one says nothing; ``columns`` are its names, in order, and empty for what is no table.
    """

    file: Path
    said: str
    records: Records
    columns: tuple[str, ...] = ()

    @property
    def table(self) -> bool:
        """Whether its records have one row of names."""
        return bool(self.columns)


def open_source(file: Path, options: Options) -> Source:
    """Find out what a file is, from its bytes and its name.

    Raises ``DataError`` when it cannot be read or is nothing that can be.
    """
    if (kind := ELSEWHERE.get(file.suffix.lower())) and file.is_file():
        raise DataError(f"{file}: seems to be {kind}: export the rows as CSV or JSON Lines")
    if file.is_fifo():
        raise DataError(f"{file}: is a pipe, which can be read only once: write it to a file first")
    if found := columnar.in_folder(file) if file.is_dir() else columnar.recognise(file):
        return Source(file, *found)
    text = open_text(file, options)
    if not text.head.strip():
        return Source(file, "an empty file", lambda: iter(()))
    if text.head.lstrip("[ \n").startswith("{'"):
        raise DataError(f"{file}: is written as Python writes objects, not as JSON: write it with json.dumps")
    if found := documents.recognise(text):
        return Source(file, ", ".join((found[0], *text.said)), found[1])
    if found := delimited.recognise(text):
        return Source(file, ", ".join((found[0], *text.said)), found[1], found[2])
    if documents.named(file):
        return Source(file, ", ".join(("JSON Lines", *text.said)), lambda: documents.lines(text))
    raise DataError(f"{file}: is neither JSON nor a table of two columns or more: export it as CSV or JSON Lines")
