"""Which policy answers: one selection rule a file, all over the same integer counts."""

from __future__ import annotations

from collections.abc import Callable

from redraft.select.base import Selector, rebuild
from redraft.select.fixed import Fixed
from redraft.select.leader import Leader
from redraft.select.ucb import LateEnsemble
from redraft.select.uniform import Uniform

__all__ = [
    "SELECTORS",
    "Fixed",
    "LateEnsemble",
    "Leader",
    "Selector",
    "Uniform",
    "rebuild",
]

SELECTORS: dict[str, Callable[..., Selector]] = {rule.name: rule for rule in (LateEnsemble, Leader, Uniform, Fixed)}
"""Every rule by the name that configuration and logged decisions use; each takes the arms first."""
