"""Users who wrap other users: noise, adversaries, drift, fatigue and populations.

A wrapper needs only what the wrapped user returns. Its own chance comes from one child spawned off ``rng``, and ``rng``
goes on to the wrapped user untouched. So what the wrapped user would return does not depend on the wrapper's settings,
and two degrees of noise share their random numbers. Drift and fatigue depend on the round t and on ``rng`` alone, with
one draw for all rounds: a context that has changed stays changed, whatever was edited before.
Words are separated by white space and layout is not counted, so sizes are those of the ``whitespace`` cost.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from redraft.errors import ConfigError
from redraft.lab.users import User
from redraft.types import Context

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["AdversarialUser", "DriftingUser", "MixedUsers", "NoisyUser", "TiringUser", "opposed", "random_edit"]

_WORD_IN_PLACE = re.compile(r"\s*\S+")  # a word with the white space before it


@dataclass(frozen=True, slots=True)
class NoisyUser:
    """A user of whose edits the share ``epsilon`` is random, of the size they would have had (``random_edit``).

    Chance decides for each context. 0 is the wrapped user exactly, 1 always edits at random. A response that the user
    accepts stays accepted.
    """

    user: User
    epsilon: float

    def __post_init__(self) -> None:
        _check_probability("noise", "epsilon", self.epsilon)

    @property
    def name(self) -> str:
        """The wrapped user's name with the degree."""
        return f"{self.user.name}+noise={self.epsilon:g}"

    def edit(self, context: Context, response: str, *, t: int, rng: Generator) -> str:
        """Return the wrapped user's edit, or a random one of its size."""
        (own,) = rng.spawn(1)
        edited = self.user.edit(context, response, t=t, rng=rng)
        return random_edit(response, edited, own) if own.random() < self.epsilon else edited


@dataclass(frozen=True, slots=True)
class AdversarialUser:
    """A user who on a ``share`` of the contexts edits against the preference (``opposed``).

    Chance decides for each context. 0 is the wrapped user exactly, 1 is always an adversary.
    """

    user: User
    share: float

    def __post_init__(self) -> None:
        _check_probability("adversary", "share", self.share)

    @property
    def name(self) -> str:
        """The wrapped user's name with the degree."""
        return f"{self.user.name}+adversarial={self.share:g}"

    def edit(self, context: Context, response: str, *, t: int, rng: Generator) -> str:
        """Return the wrapped user's edit, or its opposite."""
        (own,) = rng.spawn(1)
        edited = self.user.edit(context, response, t=t, rng=rng)
        return opposed(response, edited) if own.random() < self.share else edited


@dataclass(frozen=True, slots=True)
class DriftingUser:
    """One user (``before``) until round ``at``, another (``after``) from then on, at once or gradually.

    In round ``at`` + k the second edits with probability (k + 1) / (width + 1), up to 1; ``width`` 0 is a hard change.

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
        """Return the edit of the user whose turn it is in round t."""
        (own,) = rng.spawn(1)
        user = self.after if own.random() < self.changed(t) else self.before
        return user.edit(context, response, t=t, rng=rng)


@dataclass(frozen=True, slots=True)
class TiringUser:
    """A user who more and more often leaves a response as it is, good or not; its cost is then 0.

    Half of the edits are left after ``half_life`` > 0 rounds; infinite is the wrapped user exactly. In the first round
    nobody is tired.
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


@dataclass(frozen=True, slots=True)
class MixedUsers:
    """A population: each context is edited by one of several users, always the same one.

    ``members`` are (share, user) pairs whose shares are positive and sum to 1.

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
        """Return the edit of the member that the context belongs to."""
        (own,) = rng.spawn(1)
        bounds = list(accumulate(share for share, _ in self.members))[:-1]
        _, user = self.members[bisect_right(bounds, own.random())]
        return user.edit(context, response, t=t, rng=rng)


def random_edit(response: str, edited: str, rng: Generator) -> str:
    """Return the response after as many insertions, deletions and substitutions of words as lead to ``edited``.

    Their places are random, and so are the words of ``edited`` that come in. Such an edit has the size of the true one
    (the result is as long as ``edited``, its distance from the response at most as large) and some of its words. It
    teaches only length and vocabulary, while its cost stays about the same: noise removes what an edit says, not what
    it costs.
    """
    from rapidfuzz.distance import Levenshtein

    words = edited.split()
    counts = Counter(operation.tag for operation in Levenshtein.editops(response.split(), words))
    if not counts:
        return response
    pieces = _WORD_IN_PLACE.findall(response)
    places = rng.permutation(len(pieces)).tolist()[: counts["replace"] + counts["delete"]]
    for place in places[: counts["replace"]]:
        pieces[place] = pieces[place][: -len(pieces[place].lstrip())] + words[rng.integers(len(words))]
    deleted = set(places[counts["replace"] :])
    pieces = [piece for place, piece in enumerate(pieces) if place not in deleted]
    for _ in range(counts["insert"]):
        pieces.insert(int(rng.integers(len(pieces) + 1)), f" {words[rng.integers(len(words))]}")
    return _joined(pieces)


def opposed(response: str, edited: str) -> str:
    r"""Return the response without the words of ``edited``: what the user wants goes, what they would delete stays.

    This reverses every signal. The target is what the user would have deleted, the preferred text is the worse one, and
    a response costs the share of it that was right. The result is never nearer to ``edited`` than the response was, by
    word distance over the number of words.

    >>> opposed("Dear Tom,\nI hope you are well. We meet at 3.", "Hi Tom,\nWe meet at 3.")
    'Dear\nI hope you are well.'
    """
    wanted = set(edited.split())
    pieces = _WORD_IN_PLACE.findall(response)
    kept = [piece for piece in pieces if piece.strip() not in wanted]
    return response if len(kept) == len(pieces) else _joined(kept)


def _joined(pieces: Sequence[str]) -> str:
    """Join words in place, each with at least a space before it, none before the first."""
    return "".join(piece if piece[0].isspace() else f" {piece}" for piece in pieces).strip()


def _check_probability(user: str, name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{user}: {name} = {value}, give a probability from 0 to 1")
