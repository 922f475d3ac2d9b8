"""``redraft`` alone and ``redraft init``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from redraft.cli.init import explained_settings
from redraft.config import Settings, TaskSettings, UpstreamSettings, load_settings

Typed = Callable[..., CompletedProcess[str]]


def steps(text: str) -> list[str]:
    """The commands that are said to come next."""
    return [line.strip().split("  ")[0] for line in text.partition("Next:\n")[2].splitlines()[:3]]


def test_the_welcome_says_what_is_here_and_what_comes_next(typed: Typed, tmp_path: Path) -> None:
    empty = typed()
    assert (empty.returncode, empty.stderr) == (0, "")
    assert "no redraft.toml here" in empty.stdout
    assert empty.stdout.count("none yet") == 2
    start = ["redraft init --task email", "redraft import edits.jsonl --task email", "redraft demo"]
    assert steps(empty.stdout) == start
    assert not list(tmp_path.iterdir()), "looking changes nothing"
    Path("rows.jsonl").write_text('{"prompt": "x", "response": "a", "edited": "b"}\n')
    typed("import", "rows.jsonl", "--task", "notes")
    filled = typed().stdout
    assert "redraft.db, notes" in filled
    assert steps(filled)[:2] == ["redraft diagnose notes", "redraft train sft notes"]
    (tmp_path / "policies" / "notes" / "sft@2").mkdir(parents=True)
    (tmp_path / "policies" / "notes" / "sft@2" / "redraft.json").touch()
    trained = typed().stdout
    assert "notes/sft@2" in trained
    assert steps(trained)[1:] == ["redraft evaluate notes --holdout FILE", "redraft serve"]


def test_init_writes_a_file_once(typed: Typed) -> None:
    done = typed("init", "--task", "notes")
    assert (done.returncode, done.stderr) == (0, "")
    assert steps(done.stdout) == ["redraft serve", "redraft import edits.jsonl --task notes", "redraft demo"]
    file = Path("redraft.toml")
    written = file.read_text("utf-8")
    assert load_settings() == Settings(tasks={"notes": TaskSettings()})
    file.write_text("# mine")
    refused = typed("init")
    assert (refused.returncode, refused.stdout, file.read_text("utf-8")) == (2, "", "# mine")
    assert refused.stderr == "redraft: redraft.toml exists already: edit it, or replace it with --force\n"
    assert typed("init", "--task", "notes", "--force").returncode == 0
    assert file.read_text("utf-8") == written


@pytest.mark.parametrize("task", ["email", "über.1"])
def test_uncommented_it_parses_to_the_defaults(task: str) -> None:
    text = explained_settings(task)
    values = tomllib.loads(re.sub(r"^#(?=\S)", "", text, flags=re.MULTILINE))
    assert Settings.model_validate(values) == Settings(tasks={task: TaskSettings()})
    for name in ("log", "model", "policies", "serve"):
        assert set(values[name]) == set(type(getattr(Settings(), name)).model_fields) - {
            "upstreams",
            "socket",
            "max_prompt_tokens",
        }
    assert set(values["tasks"][task]) == set(TaskSettings.model_fields) - {"alpha", "fallback"}
    assert all(f"\n# {key} =" in text for key in ("alpha", "fallback", *UpstreamSettings.model_fields))
    assert max(map(len, text.splitlines())) <= 80


def test_a_task_must_be_a_name(typed: Typed, tmp_path: Path) -> None:
    refused = typed("init", "--task", "a b")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert not list(tmp_path.iterdir())
