"""Users whose latent preference is a list of text operations, as in PRELUDE (arXiv 2404.15269).

A strong user applies every item, a weak one its content and a random subset of its style, drawn anew for each
context. Items run in the order of the list and leave alone what earlier items made; with that, and each of them
idempotent, a user leaves its own edit as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redraft.types import Context

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["Item", "RuleUser"]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing a user wants.

    Parameters
    ----------
    name
        What it is about, in a word or two.
    apply
        ``apply(context, text)``: the text with it, the text itself where nothing is missing.
    optional
        Whether a weak user may let it pass. Content is never optional, or an empty answer would be cheap.
    """

    name: str
    apply: Callable[[Context, str], str]
    optional: bool = True


@dataclass(frozen=True, slots=True)
class RuleUser:
    """A user who edits by ``items``, all of them or, when ``weak``, some.

    Examples
    --------
    >>> shout = Item("loud", lambda context, text: text.upper())
    >>> RuleUser("loud", (shout,)).edit(Context("1", (), "task"), "hello", t=1, rng=None)
    'HELLO'
    """

    name: str
    items: tuple[Item, ...]
    weak: bool = False

    def edit(self, context: Context, response: str, *, t: int, rng: Generator | None) -> str:
        """Return the response as this user leaves it; only a weak user needs ``rng``."""
        for item in self.choose(rng) if self.weak else self.items:
            response = item.apply(context, response)
        return response

    def choose(self, rng: Generator | None) -> tuple[Item, ...]:
        """Return what a weak user minds this time: an optional item comes with probability ½."""
        if rng is None:
            raise ValueError(f"user {self.name!r} is weak and draws its items: give rng, e.g. user_rng(seed, id)")
        return tuple(item for item in self.items if rng.random() < 0.5 or not item.optional)
