"""What a policy is to everything that uses one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from redraft.types import Decoding, Message

__all__ = ["BASE", "Policy"]

BASE = "base"
"""The name of the unchanged base model as a policy: π_ref of what was trained on it."""


class Policy(Protocol):
    """π: answers contexts under a name that never changes what it stands for."""

    @property
    def name(self) -> str:
        """``email/sft@3``, ``base``, or what a configuration calls an upstream."""
        ...

    def respond(self, contexts: Sequence[Sequence[Message]], decoding: Decoding) -> list[str]:
        """One response per context, in their order, trimmed of repetition.

        Raises ``ModelError`` when there is no response.
        """
        ...
