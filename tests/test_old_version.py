"""What commit 524eb1b left on disk keeps working: its settings, its log, its policies and its cost model.

``tests/old`` was written by that commit's commands (import, train all, export native) and by its ``EditLog``: imported
edits, decisions with late and revised edits, an erased user, a key; the policies are over the tests' tiny model.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from redraft.cli.app import main
from redraft.config import load_settings
from redraft.lm.load import Base
from redraft.log import EditLog
from redraft.select import LateEnsemble, rebuild
from redraft.types import Decision

OLD = Path(__file__).parent / "old"
EXPECTED = json.loads((OLD / "expected.json").read_text("utf-8"))
Shell = Callable[..., dict[str, Any]]


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The old folder, copied, as the working folder."""
    folder = Path(shutil.copytree(OLD, tmp_path / "old"))
    (folder / "redraft.db").write_bytes(gzip.decompress((folder / "redraft.db.gz").read_bytes()))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def shell(old: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Run ``redraft … --json`` there."""

    def run(*args: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["redraft", *args, "--json"])
        with pytest.raises(SystemExit) as caught:
            main()
        assert not caught.value.code, args
        return json.loads(capsys.readouterr().out)

    return run


def test_settings_are_read(old: Path) -> None:
    settings = load_settings()
    assert settings.log.horizon_days == 7
    assert settings.serve.upstreams["vllm"].models == {"email/llama": "llama"}
    assert settings.task("email").policies == ("base", "email/sft@1", "email/early@1")
    assert (settings.task("summary").cost, settings.task("summary").alpha) == ("character-capped", 0.5)


def test_the_log_is_sound_and_says_the_same(shell: Shell, old: Path) -> None:
    assert shell("log", "verify") == {"ok": True, "problems": []}
    assert shell("log", "stats")["tasks"] == EXPECTED["stats"]
    shell("export", "native", "again.jsonl")
    assert (old / "again.jsonl").read_bytes() == (old / "native.jsonl").read_bytes()
    assert [key["name"] for key in shell("keys", "list")["keys"]] == ["old app"]


def test_selectors_know_what_they_knew(old: Path) -> None:
    with EditLog.from_settings(load_settings(), create=False) as log:
        kept = log.statistics("email")
        resolved: list[tuple[Decision, float | None]] = list(log.resolved("email"))
        assert log.key(EXPECTED["key"]) is not None
    found = {policy: [n.decisions, n.resolved, n.total, n.squares] for policy, n in kept.items()}
    assert found == EXPECTED["statistics"]
    state = rebuild(LateEnsemble(["base", "email/sft@1", "email/early@1"]), resolved).state()
    for arm, counts in EXPECTED["selector"]["arms"].items():
        assert state["arms"][arm] == counts | {"decisions": counts["resolved"]}, "of what was resolved"


def test_policies_and_cost_model_answer_as_they_did(shell: Shell, old: Path, tiny_base: Base) -> None:
    for file in old.glob("policies/email/*/*.json"):  # the tests' model lies elsewhere each time
        manifest = json.loads(file.read_text("utf-8"))
        if isinstance(manifest, dict) and "base" in manifest:
            manifest["base"] |= {"name": tiny_base.name, "revision": tiny_base.revision}
            if "options" in manifest:
                manifest["options"] |= {"method": "rl", "solver": "projection"}  # gone since, and served all the same
            file.write_text(json.dumps(manifest), "utf-8")
    standing = [(p["policy"], p["served"], p["reason"]) for p in shell("policies")["policies"]]
    assert standing == [(f"email/{name}@1", False, "never evaluated") for name in ("early", "sft")]
    asked = ("--model", tiny_base.source, "--prompt", "alpha notes", "--max-new-tokens", "12")
    for policy in ("base", "email/early@1"):
        assert shell("generate", "--policy", policy, *asked)["responses"] == [EXPECTED["answers"][policy]]
    best = shell("generate", "--policy", "email/sft", "--best-of", "3", *asked)
    assert best["responses"] == [EXPECTED["answers"]["best"]]
