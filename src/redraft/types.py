"""The vocabulary: what flows from a logged edit to a chosen policy.

Values with derived properties and nothing else, all frozen except ``Count``; this file imports nothing of ours. The
symbols are the paper's (arXiv 2601.19055): x is a context (``messages``), y a response, y' the text a person left
after editing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "COST_UNIT",
    "Completion",
    "Context",
    "Contexts",
    "Count",
    "Decision",
    "Decoding",
    "Edit",
    "Interaction",
    "Message",
    "PolicyRef",
    "Price",
    "Role",
]

COST_UNIT = 10**9
"""Integer units in a cost of 1. Sums of integers do not depend on the order in which edits arrive."""

Role = Literal["system", "user", "assistant", "tool"]

_POLICY = re.compile(r"(?P<task>[^/@\s]+)/(?P<name>[^/@\s]+)@(?P<version>[1-9]\d*)")


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message, in OpenAI's terms: ``content`` is the text that ``redraft.messages`` gives it.

    ``more`` keeps the fields that this text stands for where it is not all: tool calls, parts, a refusal.
    """

    role: Role
    content: str
    more: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)

    @property
    def plain(self) -> dict[str, str]:
        """Role and text, as models are shown it."""
        return {"role": self.role, "content": self.content}


Contexts = Sequence[Sequence[Message]]
"""Several requests x [n], as a policy is asked them."""

Price = Callable[[Contexts, Sequence[str]], "NDArray[np.float64]"]
"""What an edit of each response to its context is thought to cost [n], in units of the cost."""


@dataclass(frozen=True, slots=True)
class PolicyRef:
    """The immutable name of a trained policy: ``email/sft@3``.

    >>> str(PolicyRef("email", "sft", 3)), PolicyRef.parse("email/sft@3").version
    ('email/sft@3', 3)
    """

    task: str
    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.task}/{self.name}@{self.version}"

    @classmethod
    def parse(cls, text: str) -> PolicyRef:
        """Read ``task/name@version``; raises ``ValueError`` when the text has another form."""
        match = _POLICY.fullmatch(text)
        if match is None:
            raise ValueError(f"policy reference {text!r}: expected task/name@version, e.g. email/sft@3")
        return cls(match["task"], match["name"], int(match["version"]))


@dataclass(frozen=True, slots=True)
class Context:
    """A request x. ``domain`` and ``facts`` exist in simulation only: users see them, no policy does."""

    id: str
    messages: tuple[Message, ...]
    task: str
    domain: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a response is drawn: ``temperature`` 0 is greedy, 1 samples the policy as it is.

    ``precision`` is ``bfloat16`` where a model in this process shall write in it, rather than as it was loaded.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    precision: str = "float32"

    @property
    def logged(self) -> dict[str, Any]:
        """As logs and manifests keep it: those of float32 do not name the precision, as before there was another.

        >>> Decoding(64).logged
        {'max_new_tokens': 64, 'temperature': 0.0, 'seed': 0}
        """
        said = asdict(self)
        if self.precision == "float32":
            del said["precision"]
        return said


@dataclass(frozen=True, slots=True)
class Completion:
    """A response y to a context x, as it was given. ``id`` is the key of everything that follows from it.

    ``policy`` names who answered (``email/sft@3``, ``base``, or free text in imported logs) and ``model`` the base
    model under it, both empty when unknown. ``decoding`` holds temperature, token limit and the like. ``answer`` keeps
    what ``response`` stands for where that is not all: OpenAI's message and its ``finish_reason``. ``untaught`` says
    why neither a policy nor a selector learns from its edits (``refusal``, ``empty``); it is empty where they do.
    """

    id: str
    task: str
    messages: tuple[Message, ...]
    response: str
    policy: str = ""
    model: str = ""
    user_id: str | None = None
    created_at: datetime | None = None
    decoding: Mapping[str, Any] = field(default_factory=dict[str, Any])
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    answer: Mapping[str, Any] = field(default_factory=dict[str, Any])
    untaught: str = ""


@dataclass(frozen=True, slots=True)
class Edit:
    """What a person made of a completion: y', or ``None`` for an explicit "accepted unchanged".

    ``revision`` counts up from 0 and the highest one holds. An empty text is an edit (everything was struck).
    """

    completion_id: str
    edited: str | None
    revision: int = 0
    user_id: str | None = None
    created_at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Decision:
    """Why a policy answered: the arms, what the selector knew, and what it chose.

    ``t`` is the number of resolved decisions plus one at the time. ``scores`` (one per candidate, lower is better)
    and ``propensities`` (one per candidate, summing to 1) are ``None`` where a selector has none.
    """

    completion_id: str
    candidates: tuple[str, ...]
    chosen: str
    t: int
    selector: str
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    scores: tuple[float, ...] | None = None
    propensities: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Interaction:
    """A completion with the edit that holds for it, if any came, and the decision that chose its policy."""

    completion: Completion
    edit: Edit | None = None
    decision: Decision | None = None

    @property
    def edited(self) -> str | None:
        """y': the response itself when it was accepted, ``None`` while no edit has come."""
        if self.edit is None:
            return None
        return self.completion.response if self.edit.edited is None else self.edit.edited

    @property
    def unchanged(self) -> bool:
        """Whether a person left the response as it was, by saying so or by an edit equal to it."""
        return self.edited == self.completion.response


@dataclass(slots=True)
class Count:
    """What is known of one policy: N(π) and C(π) of Algorithm 1, ``resolved`` and ``total``, and two more integers.

    ``total`` sums costs in 10⁻⁹ units, ``squares`` their squares in 10⁻¹⁸ units, both over ``resolved`` decisions.
    """

    decisions: int = 0
    resolved: int = 0
    total: int = 0
    squares: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(
            self.decisions + other.decisions,
            self.resolved + other.resolved,
            self.total + other.total,
            self.squares + other.squares,
        )

    @property
    def mean(self) -> float:
        """C/N, correctly rounded. Needs a resolved decision."""
        return self.total / (self.resolved * COST_UNIT)
