"""Who answers: adapters over a base model in memory, or a model behind a server.

The adapters (``redraft.policies.adapter``) are not imported here: they bring torch along.
"""

from redraft.policies.base import BASE, Policy
from redraft.policies.remote import RemotePolicy
from redraft.policies.store import PolicyStore
from redraft.policies.trim import trim

__all__ = ["BASE", "Policy", "PolicyStore", "RemotePolicy", "trim"]
