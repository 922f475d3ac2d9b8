"""Always one policy: the baseline every selector must beat, and a way to pin a policy without another code path."""

from __future__ import annotations

from collections.abc import Sequence

from redraft.errors import ConfigError
from redraft.select.base import Selector, one_hot
from redraft.types import Decision

__all__ = ["Fixed"]


class Fixed(Selector):
    """Choose the same policy every time; the others stand by and keep their counts.

    Parameters
    ----------
    arms
        Names of the policies, at least one, none twice.
    policy
        The one to play; the first where not given.

    Examples
    --------
    >>> Fixed(["base", "email/sft@1"], policy="email/sft@1").select("x").chosen
    'email/sft@1'
    """

    name = "fixed"

    def __init__(self, arms: Sequence[str], policy: str | None = None) -> None:
        super().__init__(arms)
        self.policy = self.arms[0] if policy is None else policy
        if self.policy not in self.arms:
            raise ConfigError(f"policy = {policy!r}: must be one of the arms {', '.join(self.arms)}")

    def select(self, completion_id: str) -> Decision:
        """Choose the policy."""
        decision = Decision(
            completion_id=completion_id,
            candidates=self.arms,
            chosen=self.policy,
            t=self.t,
            selector=self.name,
            propensities=one_hot(self.arms, self.policy),
        )
        self.record(decision)
        return decision
