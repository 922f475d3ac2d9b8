"""The kernel user: one who chooses among the texts of a candidate set C(x), from which the policies choose too.

For this user Assumption 1 holds exactly (``redraft.lab.kernels``), so what the paper proves can be watched on texts.
Left out: how a candidate set comes about and who scores it; any model's log-probabilities will do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redraft.costs import Cost
from redraft.errors import DataError
from redraft.lab.kernels import Kernel, Solution, solve
from redraft.types import Context

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import ArrayLike

__all__ = ["Candidates", "KernelUser"]


@dataclass(frozen=True, slots=True)
class Candidates:
    """The texts of one context and what its user makes of each: ``solution`` has their order."""

    texts: tuple[str, ...]
    solution: Solution

    @classmethod
    def of(cls, texts: Sequence[str], log_ref: ArrayLike, cost: Cost, kernel: Kernel, beta: float) -> Candidates:
        """Find the user of these texts, scored by a model: ``log_ref`` in nats, one a text, normalised here.

        Raises ``DataError`` when a text stands twice or ``solve`` finds no user.
        """
        if len(set(texts)) < len(texts):
            twice = next(text for text in texts if list(texts).count(text) > 1)
            raise DataError(f"kernel user: candidate {_short(twice)} stands twice; give every text once")
        distance = [[cost(response, edited) for edited in texts] for response in texts]
        return cls(tuple(texts), solve(log_ref, distance, kernel, beta))


@dataclass(frozen=True, slots=True)
class KernelUser:
    """A user who draws y' from q(·|x, y) over the candidates of the context.

    Parameters
    ----------
    name
        How rows and reports call this user.
    candidates
        By ``Context.id``.
    """

    name: str
    candidates: Mapping[str, Candidates]

    def edit(self, context: Context, response: str, *, t: int, rng: Generator) -> str:
        """Return y', one of the candidates, by a single draw from ``rng``.

        Raises ``DataError`` when the context has no candidates or the response is not one of them.
        """
        if context.id not in self.candidates:
            raise DataError(f"user {self.name!r} has no candidates for context {context.id!r}; solve them first")
        among = self.candidates[context.id]
        if response not in among.texts:
            raise DataError(
                f"user {self.name!r}: response {_short(response)} is none of the {len(among.texts)} candidates of "
                f"context {context.id!r}; let policies choose among them"
            )
        cumulative = among.solution.q[among.texts.index(response)].cumsum()
        return among.texts[int(cumulative.searchsorted(rng.random() * cumulative[-1], side="right"))]


def _short(text: str, room: int = 40) -> str:
    return repr(text if len(text) <= room else text[:room] + "…")
