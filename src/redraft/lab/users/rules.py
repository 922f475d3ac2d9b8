"""Users whose latent preference is a list of text operations, as in PRELUDE (arXiv 2404.15269).

A strong user applies every item, a weak one its content and a random subset of its style, drawn anew for each
context. Items run in order, leave the results of earlier items alone and are idempotent, so editing an
edit changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from redraft.errors import DataError
from redraft.types import Context

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["Item", "RuleUser", "by_zones"]

Zones = TypeVar("Zones")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing a user wants: ``apply(context, text)`` returns the text with it, unchanged where nothing is missing.

    A weak user may skip ``optional`` items. Content is never optional, or an empty answer would be cheap.
    """

    name: str
    apply: Callable[[Context, str], str]
    optional: bool = True


def by_zones(read: Callable[[str], Zones], change: Callable[[Context, Zones], Zones]) -> Callable[[Context, str], str]:
    """Make a text operation of a change to a text's zones; without a change the text keeps its layout too."""

    def apply(context: Context, text: str) -> str:
        zones = read(text)
        changed = change(context, zones)
        return text if changed == zones else str(changed)

    return apply


@dataclass(frozen=True, slots=True)
class RuleUser:
    """A user who edits by the preference of a context's domain: by all of its items or, when ``weak``, by some.

    ``preferences`` has the items by ``Context.domain``; no policy is told the domain.

    Examples
    --------
    >>> shout = Item("loud", lambda context, text: text.upper())
    >>> user = RuleUser("loud", {"talk": (shout,)})
    >>> user.edit(Context("1", (), "task", domain="talk"), "hello", t=1, rng=None)
    'HELLO'
    """

    name: str
    preferences: Mapping[str, tuple[Item, ...]]
    weak: bool = False

    def edit(self, context: Context, response: str, *, t: int, rng: Generator | None) -> str:
        """Return the edited response; only a weak user needs ``rng``.

        Raises ``DataError`` when the user has no preference for the context's domain.
        """
        for item in self.choose(context, rng):
            response = item.apply(context, response)
        return response

    def choose(self, context: Context, rng: Generator | None) -> tuple[Item, ...]:
        """Return the items that count this time; a weak user picks each optional one with probability ½."""
        if context.domain not in self.preferences:
            known = ", ".join(self.preferences)
            raise DataError(f"user {self.name!r} edits {known}, not {context.domain!r} (context {context.id!r})")
        items = self.preferences[context.domain]
        if not self.weak:
            return items
        if rng is None:
            raise ValueError(f"user {self.name!r} is weak and draws its items: give rng, e.g. user_rng(seed, id)")
        return tuple(item for item in items if rng.random() < 0.5 or not item.optional)
