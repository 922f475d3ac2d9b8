"""The file formats that can be imported.

``READERS`` is the whole list: name → generator of ``Row`` and ``BadRow`` over a file.
"""

from collections.abc import Iterator
from pathlib import Path

from redraft.log.formats import native, table
from redraft.log.formats.rows import BadRow, Options, Reader, Row
from redraft.log.formats.shapes import understand

__all__ = ["READERS", "BadRow", "Options", "Reader", "Row"]


def _understood(file: Path, options: Options) -> Iterator[Row | BadRow]:
    return understand(file, options).rows()


READERS: dict[str, Reader] = {"auto": _understood, "native": native.read, "csv": table.read, "trl": _understood}
