"""The file formats that can be imported, one module each.

``READERS`` is the whole list: name → generator of ``Row`` and ``BadRow`` over a file.
"""

from redraft.log.formats import native, table, trl
from redraft.log.formats.rows import BadRow, Options, Reader, Row

__all__ = ["READERS", "BadRow", "Options", "Reader", "Row"]

READERS: dict[str, Reader] = {"native": native.read, "csv": table.read, "trl": trl.read}
