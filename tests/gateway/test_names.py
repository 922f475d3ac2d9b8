"""How settings name the policies of a task."""

from __future__ import annotations

from pathlib import Path

import pytest

from redraft.config import PolicySettings, ServeSettings, Settings, TaskSettings, UpstreamSettings
from redraft.errors import ConfigError
from redraft.gateway.setup import make_gateway
from redraft.log import EditLog
from redraft.policies.store import MANIFEST


def test_a_policy_can_be_named_within_its_task_or_in_full(tmp_path: Path) -> None:
    for name in ("sft@1", "sft@2", "sft@10", "dpo@1"):
        (tmp_path / "email" / name).mkdir(parents=True)
        (tmp_path / "email" / name / MANIFEST).write_text("{}")

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
