"""Users who change while they are served: what they prefer (drift), and whether they bother to edit (fatigue).

Both depend on the round t and on ``rng`` alone, so a context edited in round t is edited the same whatever came
before. As all wrappers do, each draws from one child spawned off ``rng`` and hands ``rng`` on untouched
(``redraft.lab.users.noise`` says why). One draw decides a context for all rounds: once changed it stays changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from redraft.errors import ConfigError
from redraft.lab.users import User
from redraft.types import Context

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["DriftingUser", "TiringUser"]


@dataclass(frozen=True, slots=True)
class DriftingUser:
    """One user before round ``at``, another after it, at once or by and by.

    Parameters
    ----------
    before, after
        The two.
    at
        First round in which the second can edit.
    width
        Rounds from there until the first is gone: in round ``at`` + k the second edits with probability
        (k + 1) / (width + 1). 0 is a change at once.

    Examples
    --------
    >>> from redraft.lab.users.rules import RuleUser
    >>> user = DriftingUser(RuleUser("old", {}), RuleUser("new", {}), at=20, width=4)
    >>> user.name, [user.changed(t) for t in (19, 20, 22, 24, 60)]
    ('old+drift=new@20..24', [0.0, 0.2, 0.6, 1.0, 1.0])
    """

    before: User
    after: User
    at: int
    width: int = 0

    def __post_init__(self) -> None:
        if self.at < 1 or self.width < 0:
            raise ConfigError(f"drift: at = {self.at}, width = {self.width}; rounds count from 1, a width from 0")

    @property
    def name(self) -> str:
        """Both names and the rounds of the change."""
        until = f"..{self.at + self.width}" if self.width else ""
        return f"{self.before.name}+drift={self.after.name}@{self.at}{until}"

    def changed(self, t: int) -> float:
        """Return the probability that the second user edits in round t."""
        return min(1.0, max(0.0, (t - self.at + 1) / (self.width + 1)))

    def edit(self, context: Context, response: str, *, t: int, rng: Generator) -> str:
        """Return the edit of whoever it is in round t."""
        (own,) = rng.spawn(1)
        user = self.after if own.random() < self.changed(t) else self.before
        return user.edit(context, response, t=t, rng=rng)


@dataclass(frozen=True, slots=True)
class TiringUser:
    """A user who ever more often leaves a response as it is, good or not; the cost then says 0.

    Parameters
    ----------
    user
        Who edits when not tired.
    half_life
        Rounds until half of the edits are left, > 0; infinite: the wrapped user exactly. The first round finds everyone
        fresh.
    """

    user: User
    half_life: float

    def __post_init__(self) -> None:
        if not self.half_life > 0:
            raise ConfigError(f"fatigue: half_life = {self.half_life}, give a number of rounds > 0")

    @property
    def name(self) -> str:
        """The wrapped user's name with the half-life."""
        return f"{self.user.name}+fatigue={self.half_life:g}"

    def tired(self, t: int) -> float:
        """Return the probability that a response is left untouched in round t, 1 − 2^(−(t − 1)/half_life)."""
        return 1 - 0.5 ** ((t - 1) / self.half_life)

    def edit(self, context: Context, response: str, *, t: int, rng: Generator) -> str:
        """Return the wrapped user's edit, or the response."""
        (own,) = rng.spawn(1)
        return response if own.random() < self.tired(t) else self.user.edit(context, response, t=t, rng=rng)
