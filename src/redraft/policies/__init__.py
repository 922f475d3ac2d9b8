"""Who answers: the base model, or adapters over it in memory.

The adapters (``redraft.policies.adapter``) are not imported here: they bring torch along.
"""

from redraft.lm.trim import trim
from redraft.policies.base import BASE, Policy
from redraft.policies.store import PolicyStore

__all__ = ["BASE", "Policy", "PolicyStore", "trim"]
