"""What can go wrong for a user, in few kinds.

Every message is one line that names the place, the value received and the remedy. The command line turns any
of these into exit status 2 and the gateway into its status code: each in one place, so nothing below prints.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "ConfigError",
    "ConflictError",
    "DataError",
    "ModelError",
    "NotFoundError",
    "RedraftError",
    "UnavailableError",
    "did_you_mean",
]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Ask whether the nearest of the known names was meant; empty where none is near.

    >>> did_you_mean("alfa", ["alpha", "cost"]), did_you_mean("alfa", ["policies"])
    ("did you mean 'alpha'?", '')
    """
    from difflib import get_close_matches

    return "".join(f"did you mean {near!r}?" for near in get_close_matches(name, known, n=1))


class RedraftError(Exception):
    """Base of every error a caller can mend. ``str(error)`` is one line fit to show."""


class ConfigError(RedraftError):
    """A setting or an option is unknown, missing or out of range."""


class DataError(RedraftError):
    """A file or a row cannot be used as it stands."""


class ModelError(RedraftError):
    """A base model or a policy cannot be loaded, or does not fit what it is asked to do."""


class NotFoundError(RedraftError):
    """Something named by the caller does not exist: a completion, a task, a policy."""


class UnavailableError(RedraftError):
    """The log cannot be reached now: its database is away, locked or full. Nothing was lost, ask again later."""


class ConflictError(RedraftError):
    """The same key was sent before with other content, e.g. one edit revision with two texts."""
