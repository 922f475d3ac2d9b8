"""``redraft forget``, and what ``redraft policies`` says afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner, Result

from redraft.cli.app import app
from redraft.errors import NotFoundError
from redraft.log import EditLog
from redraft.train.runs import MANIFEST, write_sources
from redraft.types import Completion, Edit, Message


def run(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, arguments, input=answer)


def learnt(name: str, source: str, start: str = "") -> None:
    folder = Path("policies", "email", name)
    folder.mkdir(parents=True)
    write_sources(folder, [source])
    parts = {"policy": f"email/{name}", "status": "complete", "base": {}, "data": {}, "limits": {}}
    (folder / MANIFEST).write_text(json.dumps({**parts, "options": {"start": start}}))


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of two people and three policies: one of Ann's texts, one that continues from it, one of Bob's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REDRAFT_CONFIG", raising=False)
    Path("redraft.toml").write_text('[log]\nurl = "sqlite:///redraft.db"\n[policies]\nroot = "policies"\n')
    with EditLog("sqlite:///redraft.db") as log:
        for user in ("ann", "bob"):
            log.record(Completion(user, "email", (Message("user", "x"),), "Dear you", user_id=user))
            log.edit(Edit(user, "Hi you", user_id=user))
    learnt("sft@1", "ann")
    learnt("dpo@1", "bob", start="email/sft@1")
    learnt("sft@2", "bob")


def flagged() -> dict[str, bool]:
    rows = json.loads(run("policies", "--json").stdout)["policies"]
    return {row["policy"]: row["learnt_from_erased"] for row in rows}


def test_texts_go_numbers_stay_and_policies_are_named() -> None:
    assert not any(flagged().values())
    assert "erased" not in run("policies").stdout
    found = json.loads(run("forget", "ann", "--json").stdout)
    assert found == {"user_id": "ann", "texts": 2, "policies": ["email/dpo@1", "email/sft@1"]}
    with EditLog("sqlite:///redraft.db") as log:
        assert [found.completion.id for found in log.interactions()] == ["bob"]
        assert (log.counts().edited, log.verify()) == (2, [])
    assert flagged() == {"email/dpo@1": True, "email/sft@1": True, "email/sft@2": False}
    assert run("policies").stdout.count("learnt from") == 2


def test_a_person_at_a_terminal_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("redraft.cli.forget.sys", terminal)
    refused = run("forget", "ann", answer="n\n")
    assert refused.exit_code == 1
    assert "Erase the texts of ann in 1 completions?" in refused.stderr
    assert not any(flagged().values())
    assert "2 texts of ann erased" in run("forget", "ann", answer="y\n").stdout
    assert "No policy learnt from them." not in run("forget", "ann", "--yes").stdout
    again = json.loads(run("forget", "ann", "--yes", "--json").stdout)
    assert (again["texts"], again["policies"]) == (0, ["email/dpo@1", "email/sft@1"])


def test_an_unknown_user_is_an_error() -> None:
    refused = run("forget", "anne").exception
    assert isinstance(refused, NotFoundError)
    assert str(refused).startswith("user 'anne' is not in the log")


def test_policies_need_no_log() -> None:
    Path("redraft.db").unlink()
    assert not any(flagged().values())
    assert not Path("redraft.db").exists()
