"""The file formats that can be imported.

``understand`` finds out what a file is (``source``) and what its records mean (``shapes``). ``READERS`` is the list of
names that a person can give instead: name → generator of ``Row`` and ``BadRow`` over a file.
"""

from redraft.log.formats.rows import BadRow, Options, Reader, Row
from redraft.log.formats.shapes import READERS, Understood, understand

__all__ = ["READERS", "BadRow", "Options", "Reader", "Row", "Understood", "understand"]
