"""Which policies learnt from which completions, for the day someone asks for their texts to be erased."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from redraft.errors import DataError
from redraft.policies.store import PolicyStore
from redraft.train.runs import read_manifest, read_sources

__all__ = ["trained_on"]


def trained_on(store: PolicyStore, completion_ids: Collection[str]) -> list[str]:
    """Policies and cost models that learnt from any of these completions, or continue from a policy that did."""
    wanted = set(completion_ids)
    named = {str(ref) for ref in store.learnt() if wanted & read_sources(store.path(ref))}
    starts = {str(ref): _start(store.path(ref)) for ref in store.list()}
    while more := {policy for policy, start in starts.items() if start in named} - named:
        named |= more
    return sorted(named)


def _start(folder: Path) -> str:
    """Name of the policy that this one continues from, if any; a broken manifest must not keep texts from erasure."""
    with suppress(DataError):
        return str(read_manifest(folder).options.get("start", ""))
    return ""
