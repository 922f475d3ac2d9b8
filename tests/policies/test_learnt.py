"""What erasing a person names: all that learnt from their texts, at one remove too."""

from __future__ import annotations

import json
from pathlib import Path

from redraft.policies.store import PolicyStore
from redraft.train.runs import MANIFEST, SOURCES, write_sources


def learnt(root: Path, name: str, sources: list[str], start: str | None = "") -> None:
    """A policy's folder; without ``start`` a cost model's."""
    folder = root / "email" / name
    folder.mkdir(parents=True)
    write_sources(folder, sources)
    if start is not None:
        parts = {"policy": f"email/{name}", "status": "complete", "base": {}, "data": {}, "limits": {}}
        manifest = {**parts, "options": {"start": start}, "metrics": {}, "history": [], "seconds": 0.0, "versions": {}}
        (folder / MANIFEST).write_text(json.dumps(manifest))


def test_policies_cost_models_and_what_goes_on_from_them_are_named(tmp_path: Path) -> None:
    learnt(tmp_path, "sft@1", ["a", "b"])
    learnt(tmp_path, "sft@2", ["c"])
    learnt(tmp_path, "dpo@1", ["c"], start="email/sft@1")
    learnt(tmp_path, "aft@1", ["c"], start="email/dpo@1")  # two steps away, and before them in every list
    learnt(tmp_path, "rl@1", ["c"], start="email/sft@2")
    learnt(tmp_path, "cost@1", ["b"], start=None)
    learnt(tmp_path, "cost@2", ["c"], start=None)
    (tmp_path / "email" / "old@1").mkdir()  # neither says where it comes from, nor is asked to
    (tmp_path / "email" / "old@1" / MANIFEST).write_text("{}")
    store = PolicyStore(tmp_path)
    assert not (store.path(store.resolve("email/old")) / SOURCES).exists()
    assert store.trained_on(["b"]) == ["email/aft@1", "email/cost@1", "email/dpo@1", "email/sft@1"]
    assert store.trained_on(["nobody's"]) == []


def test_half_a_file_of_sources_keeps_nobody_from_being_erased(tmp_path: Path) -> None:
    learnt(tmp_path, "sft@1", ["a"])
    learnt(tmp_path, "sft@2", ["a"])
    (tmp_path / "email" / "sft@2" / SOURCES).write_text('["a", "b')
    assert PolicyStore(tmp_path).trained_on(["a"]) == ["email/sft@1"]
