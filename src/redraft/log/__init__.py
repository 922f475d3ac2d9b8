"""The edit log: its store, its schema and the file formats it reads."""

from redraft.log.store import Added, Counts, EditLog, Erased

__all__ = ["Added", "Counts", "EditLog", "Erased"]
