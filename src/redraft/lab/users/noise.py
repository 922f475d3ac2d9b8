"""Users whose edits do not, or not always, follow a preference: by chance (noise) or on purpose (an adversary).

Both wrap another user and need only what that user leaves. They keep the wrapper's rule for chance: its own draws
come from one child spawned off ``rng``, and ``rng`` itself goes on to the wrapped user untouched. So what the wrapped
user would leave does not depend on the wrapper's numbers, and two degrees of noise meet on common random numbers.
Words are what white space parts, layout is not counted; sizes are therefore those of the ``whitespace`` cost.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redraft.errors import ConfigError
from redraft.lab.users import User
from redraft.types import Context

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["AdversarialUser", "NoisyUser", "opposed", "random_edit"]

_WORD_IN_PLACE = re.compile(r"\s*\S+")  # a word with the white space before it


@dataclass(frozen=True, slots=True)
class NoisyUser:
    """A user of whose edits the share ε is random, of the size they would have had (``random_edit``).

    ε = 0 is the wrapped user exactly, ε = 1 edits at random always. A response which the user accepts stays accepted.

    Parameters
    ----------
    user
        Whose edits.
    epsilon
        Probability, drawn for each context.
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
    """A user who on a share of the contexts edits against the preference (``opposed``).

    Parameters
    ----------
    user
        Whose preference.
    share
        Probability, drawn for each context: 0 is the wrapped user exactly, 1 an adversary always.
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


def random_edit(response: str, edited: str, rng: Generator) -> str:
    """Return the response after as many insertions, deletions and substitutions of words as lead to ``edited``.

    Where they fall is chance, and so is which words of ``edited`` come in. Such an edit has the size of the true one
    (the result is as long as ``edited``, its distance from the response at most as large) and some of its words, but
    no aim: as a target and as a preference it teaches nothing but length and vocabulary, while the cost stays about
    the same. So noise takes away what an edit says and leaves what it costs.
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
    r"""Return the response without the words that ``edited`` has: what the user wants goes, what they strike stays.

    This turns every signal round. The target is what the user would have struck, the text preferred is the worse one,
    and a response costs the share of it that was right: most where the user would accept it, nothing where all was
    wrong. What is left is never nearer to ``edited`` than the response was, by the words' distance over their number.

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
