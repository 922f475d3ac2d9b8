"""How settings name the policies of a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from redraft.config import DecodingSettings, PolicySettings, ServeSettings, Settings, TaskSettings, UpstreamSettings
from redraft.errors import ConfigError, DataError
from redraft.gateway.setup import make_gateway
from redraft.log import EditLog
from redraft.policies.store import DEMOTED, PROMOTED, PolicyStore
from redraft.train.runs import Manifest, write_manifest
from redraft.types import PolicyRef


def trained(
    root: Path, name: str, *distances: float, temperature: float = 0.0, edits: int = 4, chance: bool = False
) -> None:
    """A policy's folder; its own and base's distance from held-out edits, where they were measured."""
    evaluation: dict[str, Any] = dict(zip(("distance", "base_distance"), distances, strict=False))
    if distances:
        interval = (-0.5, 0.1 if chance else -0.1) if distances[0] < distances[1] else (-0.1, 0.5)
        evaluation |= {
            "decoding": {"temperature": temperature},
            "edits": 9,
            "base_edits": edits,
            "against_base": interval,
        }
    write_manifest(root / name, Manifest(name, "complete", {}, {}, {}, {"method": "sft"}, evaluation=evaluation))


def default_arms(root: Path, **task: Any) -> list[str]:
    settings = Settings(policies=PolicySettings(root=root), tasks={"email": TaskSettings(**task)})
    with EditLog("sqlite://") as log:
        return list(make_gateway(settings, log).tasks["email"].selector.arms)


def test_by_default_a_task_serves_what_did_better_than_base(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert default_arms(tmp_path) == ["base"]
    for name, *distances in (
        ("sft@1", 0.2, 0.9), ("sft@2", 0.15, 0.93), ("sft@3", 0.93, 0.93), ("dpo@1", 3.3, 0.9), ("early@1",),
    ):  # fmt: skip
        trained(tmp_path, f"email/{name}", *distances)
    trained(tmp_path, "email/sft@4", 0.1, 0.9, edits=3)
    trained(tmp_path, "email/rl@1", 0.4, 0.9, chance=True)
    with caplog.at_level("INFO", "redraft.gateway"):
        assert default_arms(tmp_path) == ["base", "email/sft@2"]
    for said in (
        "email/dpo@1 (3.30 ≥ base 0.90), email/early@1 (never evaluated)",
        "email/rl@1 (0.40 < base 0.90, but it may be chance)",
        "email/sft@4 (0.10 < base 0.90, but on 3 of 4 held-out edits)",
    ):
        assert said in caplog.text
    assert "redraft policies promote" in caplog.text
    assert default_arms(tmp_path, policies=("dpo", "early")) == ["email/dpo@1", "email/early@1"]
    assert default_arms(tmp_path, decoding=DecodingSettings(temperature=1)) == ["base"], "measured at temperature 0"


def test_what_people_decide_goes_before_what_was_measured(tmp_path: Path) -> None:
    for name, *distances in (("sft@1", 0.2, 0.9), ("sft@2", 0.1, 0.9), ("dpo@1", 3.3, 0.9), ("early@1",)):
        trained(tmp_path, f"email/{name}", *distances)
    store = PolicyStore(tmp_path)
    for name, said in (("dpo@1", PROMOTED), ("early@1", PROMOTED), ("sft@2", DEMOTED)):
        store.tell(PolicyRef.parse(f"email/{name}"), said)
    assert default_arms(tmp_path) == ["base", "email/dpo@1", "email/early@1", "email/sft@1"]
    store.tell(PolicyRef("email", "sft", 2), PROMOTED)
    store.tell(PolicyRef("email", "dpo", 1), DEMOTED)
    assert default_arms(tmp_path) == ["base", "email/early@1", "email/sft@1", "email/sft@2"]
    for broken, says in (("{", "correct or delete it"), ('{"email/sft@1": "loved"}', "must be promoted or demoted")):
        (tmp_path / "email/standing.json").write_text(broken)
        with pytest.raises(DataError, match=says):
            default_arms(tmp_path)


def test_a_policy_can_be_named_within_its_task_or_in_full(tmp_path: Path) -> None:
    for name in ("sft@1", "sft@2", "sft@10", "dpo@1"):
        trained(tmp_path, f"email/{name}", 0.1, 0.2)

    def served(*policies: str, fallback: str | None = None) -> list[str]:
        email = TaskSettings(policies=policies, fallback=fallback)
        settings = Settings(policies=PolicySettings(root=tmp_path), tasks={"email": email})
        with EditLog("sqlite://") as log:
            return list(make_gateway(settings, log).tasks["email"].engines)

    assert served() == ["base", "email/dpo@1", "email/sft@10"]
    assert served("sft", "sft@2", "email/sft@1", "email/dpo") == [
        f"email/{n}" for n in ("sft@10", "sft@2", "sft@1", "dpo@1")
    ]
    reranked = served("sft+consensus3", "base+consensus3", fallback="dpo")
    assert reranked == ["email/sft@10+consensus3", "base+consensus3", "email/dpo@1"]
    with pytest.raises(ConfigError, match=r"tasks.email: policy 'kto' is neither trained .*: use base, email/dpo@1"):
        served("kto")
    assert served("email/base", "sft", fallback="email/base") == ["base", "email/sft@10"]


def test_two_policies_of_one_full_name_are_refused() -> None:
    there = UpstreamSettings(url="http://127.0.0.1:9/v1", models={"llama": "a", "email/llama": "b"})
    email = TaskSettings(policies=("llama", "email/llama"))
    settings = Settings(serve=ServeSettings(upstreams={"x": there}), tasks={"email": email})
    with (
        EditLog("sqlite://") as log,
        pytest.raises(ConfigError, match=r"tasks\.email: two policies have one full name"),
    ):
        make_gateway(settings, log)
