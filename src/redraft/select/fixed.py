"""Always one policy: the baseline every selector must beat, and a way to pin a policy without another code path."""

from __future__ import annotations

from collections.abc import Sequence

from redraft.errors import ConfigError
from redraft.select.base import Selector
from redraft.types import Decision

__all__ = ["Fixed"]


class Fixed(Selector):
    """Choose the same policy every time; the others stand by and keep their counts.

    Parameters
    ----------
    arms
        Names of the policies, at least one, none twice.
    policy
        The one to play; the first by default.

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

    def select(self, completion_id: str, among: Sequence[str] | None = None) -> Decision:
        """Choose the policy; where it cannot answer, the first that can."""
        arms = among or self.arms
        return self.decide(completion_id, self.policy if self.policy in arms else arms[0], among=arms)
