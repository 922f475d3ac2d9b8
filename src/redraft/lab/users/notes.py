"""What a simulated user knows that no policy is told: the notes behind a request, as facts with slots.

They travel in ``Context.facts`` as plain data, so that contexts can be written to a file and read back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from redraft.errors import DataError
from redraft.types import Context

__all__ = ["Fact", "Kind", "Notes", "Slot", "Tone"]

Kind = Literal["day", "time", "date", "number", "name", "word"]
Tone = Literal["request", "trouble", "news"]


@dataclass(frozen=True, slots=True)
class Slot:
    """A value that a sentence must hold to state its fact: ``Slot("time", "3 pm")``."""

    kind: Kind
    value: str


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the notes: ``note`` is what the policy reads, ``sentence`` what the user adds where it is missing.

    Any wording of it must hold all ``slots``, at least one.
    """

    note: str
    sentence: str
    slots: tuple[Slot, ...]


@dataclass(frozen=True, slots=True)
class Notes:
    """Who writes to whom about what. ``recipient`` is as the notes name it: Tom, Ms Keller, the sales team."""

    sender: str
    recipient: str
    tone: Tone
    facts: tuple[Fact, ...]

    def as_facts(self) -> dict[str, Any]:
        """Return these notes as ``Context.facts``."""
        return asdict(self)

    @classmethod
    def of(cls, context: Context) -> Notes:
        """Read the notes of a context; raises ``DataError`` when it has none, or incomplete ones."""
        try:
            facts = tuple(_fact(fact) for fact in context.facts["facts"])
            return cls(context.facts["sender"], context.facts["recipient"], context.facts["tone"], facts)
        except (KeyError, TypeError) as error:
            raise DataError(
                f"context {context.id!r} has no usable notes ({error!r}): the email user edits contexts made by "
                "redraft.lab.bench.tasks"
            ) from error


def _fact(data: Mapping[str, Any]) -> Fact:
    return Fact(data["note"], data["sentence"], tuple(Slot(slot["kind"], slot["value"]) for slot in data["slots"]))
