from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from redraft.cli.diagnose import diagnose
from redraft.errors import ConfigError, DataError, NotFoundError
from redraft.log.store import EditLog
from redraft.train.runs import Manifest, read_manifest, write_manifest
from redraft.types import Completion, Decision, Edit, Interaction, Message

app = typer.Typer()
app.command()(diagnose)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REDRAFT_CONFIG", raising=False)
    monkeypatch.setenv("COLUMNS", "200")


def interaction(i: int, edited: str | None, *, silent: bool = False) -> Interaction:
    policy = "email/sft[b]@1" if i % 2 else "base"
    made = datetime.now(UTC)
    return Interaction(
        Completion(f"c{i}", "email", (Message("user", f"x {i}"),), "a b c d", policy=policy, created_at=made),
        None if silent else Edit(f"c{i}", edited, user_id=f"user {i % 13}"),
        Decision(f"c{i}", (policy,), policy, 1, "fixed"),
    )


@pytest.fixture
def url() -> str:
    with EditLog("sqlite:///edits.db") as log:
        log.add_many([interaction(i, None if i % 4 == 0 else "a b c x") for i in range(200)])
        log.add_many([interaction(200, "", silent=True)])
    return "sqlite:///edits.db"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_json_is_one_object_and_nothing_else(url: str) -> None:
    result = run("email", "--log", url, "--json", "--figure", "costs.png")
    found = json.loads(result.stdout)
    assert (found["task"], found["cost"], found["prefer"]) == (
        "email",
        "word",
        "base",
    )  # of its two policies, base got the cheaper edits
    assert (found["completions"], found["edits"], found["unchanged"], found["awaiting"]) == (201, 200, 50, 1)
    assert found["whitespace_distance"]["mean"] == 0.75
    assert {item["method"] for item in found["advice"]} == {"sft", "dpo", "early", "rl", "late"}
    assert len(found["users"]) == 13
    assert Path("costs.png").read_bytes().startswith(b"\x89PNG")
    assert result.stderr == "figure: costs.png\n"


def test_tables_for_a_person(url: str) -> None:
    text = run("email", "--log", url).stdout
    assert text.endswith(f"\nNext: redraft import FILE --task email --log {url}\n")
    assert "email: 201 completions, 200 with an edit (150 changed, 50 unchanged), 1 awaited, 0 censored" in text
    assert "cost (word)" in text
    assert "and 3 more" in text  # of 13 users
    assert "email/sft[b]@1" in text  # square brackets are not markup
    assert "Prefer base." in text
    assert "Caution: 201 completions do not name their model" in text


def test_what_was_trained_and_measured_comes_next(tmp_path: Path) -> None:
    with EditLog("sqlite:///plain.db") as log:
        rows = [replace(interaction(i, "a b c x"), decision=None) for i in range(64)]
        log.add_many(replace(row, completion=replace(row.completion, model="smollm2:1")) for row in rows)
    said = run("email", "--log", "sqlite:///plain.db").stdout
    assert said.endswith("Next: redraft train sft email --log sqlite:///plain.db\n")
    with EditLog("sqlite:///few.db") as log:
        log.add_many([replace(row, completion=replace(row.completion, model="smollm2:1")) for row in rows[:8]])
    said = run("email", "--log", "sqlite:///few.db").stdout
    assert said.endswith("Next: redraft train all email --log sqlite:///few.db\n")  # sft is not sure to do best
    evaluation = {"distance": 0.2, "base_distance": 0.9, "edits": 10, "decoding": {"temperature": 0.0}}
    counts = {"train": 54, "heldout": 10}
    folder = tmp_path / "policies" / "email" / "early@1"
    write_manifest(
        folder, Manifest("email/early@1", "complete", {}, counts, {}, {"method": "early"}, evaluation=evaluation)
    )
    said = run("email", "--log", "sqlite:///plain.db").stdout
    assert "Prefer email/early@1." in said
    assert said.endswith("Next: redraft serve\n")
    known = read_manifest(folder)
    write_manifest(folder, replace(known, evaluation=evaluation | {"against_base": [-1.4, 0.1]}))
    said = run("email", "--log", "sqlite:///plain.db").stdout
    assert "the best, email/early@1, is 0.20 from 10 held-out edits, base's 0.90" in said
    unsure = {"distance": 0.95, "base_distance": 0.9, "against_base": [-0.1, 0.2], "edits": 3}
    write_manifest(folder, replace(known, options={"method": "sft"}, evaluation=unsure))
    assert run("email", "--log", "sqlite:///plain.db").stdout.endswith(
        "Next: redraft import FILE --task email --log sqlite:///plain.db\n"
    )


def test_at_80_columns_no_word_is_cut(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = run("email", "--log", url).stdout
    assert "…" not in text
    for word in ("white-space words", "median", "> 1", "mean cost", "std/mean", "email/sft[b]@1"):
        assert word in text


def test_the_settings_name_the_log_and_the_cost(url: str) -> None:
    Path("redraft.toml").write_text(f'log.url = "{url}"\ntasks.email.cost = "character"')
    assert json.loads(run("email", "--json").stdout)["cost"] == "character"
    assert json.loads(run("email", "--json", "--cost", "survival").stdout)["cost"] == "survival"


def test_a_log_without_edits_is_not_an_error() -> None:
    with EditLog("sqlite:///silent.db") as log:
        log.add_many([interaction(0, None, silent=True)])
    text = run("email", "--log", "sqlite:///silent.db").stdout
    assert "1 completion, 0 with an edit" in text
    assert "Prefer base." in text
    assert text.endswith("\nNext: redraft import FILE --task email --log sqlite:///silent.db\n")


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["emial", "--log", "sqlite:///edits.db"], NotFoundError, "task 'emial'"),
        (["email", "--log", "sqlite:///empty.db"], NotFoundError, "task 'email'"),
        (["email", "--log", "sqlite:///absent.db"], NotFoundError, "absent.db"),
        (["email", "--log", "sqlite:///edits.db", "--cost", "wrod"], ConfigError, "cost 'wrod' is unknown"),
        (["email", "--log", "sqlite:///edits.db", "--figure", "a.docx"], DataError, "name it .png, .svg or .pdf"),
        (["email", "--log", "sqlite:///edits.db", "--figure", "edits.db/a.png"], ConfigError, "check the folder"),
    ],
)
def test_invalid(url: str, arguments: list[str], kind: type[Exception], message: str) -> None:
    EditLog("sqlite:///empty.db").close()
    result = run(*arguments)
    assert isinstance(result.exception, kind)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert result.stdout == ""


def test_help_is_light() -> None:
    heavy = {"matplotlib", "numpy", "sqlalchemy", "torch", "nltk"}
    code = f"import redraft.cli.diagnose, sys; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_edits_of_several_people_are_told(url: str) -> None:
    with EditLog(url) as log:
        for name, said in (("c1", "a b c x"), ("c2", "a"), ("c3", "b")):
            log.edit(Edit(name, said, user_id="kim"))
    result = run("email", "--log", url, "--json")
    found = json.loads(result.stdout)
    assert (found["edited_by_several"], found["differing"]) == (3, 2)
    assert "3 completions have edits of several people, 2 differ: the latest one counts" in result.stderr
