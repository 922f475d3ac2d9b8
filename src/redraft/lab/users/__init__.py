"""Simulated users: who edits a response, and how.

A user sees the whole context, notes included. Its edit depends only on the context, the response, t and its own
generator, never on the order of calls, so a matrix computed beforehand equals a live run.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol

from redraft.types import Context

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["User", "user_rng"]


class User(Protocol):
    """Someone who turns a response y into the text y' they can use."""

    @property
    def name(self) -> str:
        """How rows and reports call this user."""
        ...

    def edit(self, context: Context, response: str, *, t: int, rng: Generator) -> str:
        """Return y'. ``t`` counts rounds from 1, for users who tire or drift; ``rng`` comes from ``user_rng``."""
        ...


def user_rng(seed: int, context_id: str) -> Generator:
    """Return the generator of a user's choices on one context, the same whenever it is asked for.

    >>> user_rng(1, "email-1-0001").random() == user_rng(1, "email-1-0001").random()
    True
    """
    from numpy.random import default_rng

    return default_rng(int.from_bytes(blake2b(f"{seed}/{context_id}".encode(), digest_size=16).digest()))
