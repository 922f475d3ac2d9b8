"""Who answers: adapters over a base model in memory, a model behind a server, or a script.

The adapters (``redraft.policies.adapter``) are not imported here: they bring torch along.
"""

from redraft.policies.base import BASE, Policy
from redraft.policies.remote import RemotePolicy
from redraft.policies.scripted import ScriptedPolicy
from redraft.policies.store import PolicyStore
from redraft.policies.trim import trim

__all__ = ["BASE", "Policy", "PolicyStore", "RemotePolicy", "ScriptedPolicy", "trim"]
