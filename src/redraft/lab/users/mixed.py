"""A population: each context is edited by one of several users, always the same one.

As all wrappers do, it draws from one child spawned off ``rng`` and hands ``rng`` on untouched
(``redraft.lab.users.noise`` says why).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from redraft.errors import ConfigError
from redraft.lab.users import User
from redraft.types import Context

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["MixedUsers"]


@dataclass(frozen=True, slots=True)
class MixedUsers:
    """Several users, each with its share of the contexts.

    Parameters
    ----------
    members
        (share, user) pairs whose shares are positive and sum to 1.

    Examples
    --------
    >>> from redraft.lab.users.rules import RuleUser
    >>> MixedUsers(((0.7, RuleUser("strong", {})), (0.3, RuleUser("weak", {})))).name
    'mixed(strong=0.7,weak=0.3)'
    """

    members: tuple[tuple[float, User], ...]

    def __post_init__(self) -> None:
        shares = [share for share, _ in self.members]
        if not all(share > 0 for share in shares) or not math.isclose(sum(shares), 1):
            raise ConfigError(f"mixed users: shares {shares}, give numbers > 0 that sum to 1")

    @property
    def name(self) -> str:
        """Every member's name with its share."""
        return f"mixed({','.join(f'{user.name}={share:g}' for share, user in self.members)})"

    def edit(self, context: Context, response: str, *, t: int, rng: Generator) -> str:
        """Return the edit of the member to whom the context falls."""
        (own,) = rng.spawn(1)
        bounds = list(accumulate(share for share, _ in self.members))[:-1]
        _, user = self.members[bisect_right(bounds, own.random())]
        return user.edit(context, response, t=t, rng=rng)
