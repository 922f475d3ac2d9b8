"""The command line as a whole: mistakes, help, and what fits on a screen."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import typer

from redraft.cli.app import app
from redraft.train.runs import Manifest, write_manifest

Typed = Callable[..., CompletedProcess[str]]
CUT = re.compile(r"\w…")
"""A cut word. A help text may say ``context=…``."""


def leaves(command: Any, *names: str) -> Iterator[tuple[str, ...]]:
    """Every command, its groups too."""
    yield names
    for name, child in getattr(command, "commands", {}).items():
        yield from leaves(child, *names, name)


def require_fits(text: str) -> None:
    """No word cut, no line longer than the screen but for a single long word, such as a path."""
    assert not CUT.search(text), text
    assert [line for line in text.splitlines() if len(line) > 80 and len(line.split()) > 1] == []


@pytest.mark.parametrize("command", list(leaves(typer.main.get_command(app))), ids=" ".join)
def test_help_fits_the_screen(typed: Typed, command: tuple[str, ...]) -> None:
    shown = typed(*command, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    require_fits(shown.stdout)


def row(number: int, **more: object) -> str:
    return json.dumps({"prompt": f"x {number}", "response": "a b", "edited": "a c", **more})


def test_what_commands_print_fits_the_screen(typed: Typed) -> None:
    rows = [row(0, user_id="a-user-with-a-rather-long-name@example.com"), row(1), row(2, policy="email/sft@1")]
    Path("rows.jsonl").write_text("\n".join(rows))
    Path("more.jsonl").write_text(row(3))
    known = {"name": "smollm2", "source": "here", "revision": "0" * 12}
    for policy in ("email/sft@1", "email/early@1"):
        folder = Path("policies", policy)
        folder.mkdir(parents=True)
        write_manifest(folder, Manifest(policy, "complete", known, {"train": 8}, {}, {"method": "sft"}))
    long = "a-rather-long-name-of-a-file-that-makes-a-table-wider-than-any-screen-should-be.jsonl"
    for line in (
        "",
        "init",
        "policies --policies nowhere",
        "import rows.jsonl --task email",
        "keys list",
        "import more.jsonl --task translation-of-letters",
        "",
        "log stats",
        "log stats --task email",
        "log verify",
        "diagnose email",
        "export sft out.jsonl --task email",
        f"export native {long}",
        "policies",
        "keys add app",
        "keys add an-application-with-a-longer-name --scope client --scope feedback --scope admin",
        "keys list",
        "keys add third",
        "keys add fourth",
        "keys list",
    ):
        done = typed(*line.split())
        assert done.returncode == 0, (line, done.stderr)
        require_fits(done.stdout + done.stderr)


@pytest.mark.parametrize(
    ("line", "near"),
    [
        ("trian", "Did you mean 'train'?"),
        ("log stat", "Did you mean 'stats'?"),
        ("log stats --tsk x", "--task"),
        ("log stats --task emial", "redraft: task 'emial' is not in the log: did you mean 'email'?"),
        ("log stats --task x", "redraft: task 'x' is not in the log: use one of email"),
    ],
)
def test_a_typo_suggests_the_near_one(typed: Typed, line: str, near: str) -> None:
    Path("rows.jsonl").write_text(row(0))
    typed("import", "rows.jsonl", "--task", "email")
    wrong = typed(*line.split())
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert near in wrong.stderr


def test_a_missing_package_names_its_extra(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks() -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("redraft.cli.app.app", lacks)
    lacking = typed()
    assert lacking.returncode == 2
    assert lacking.stderr == "redraft: this needs torch, which is not installed: pip install 'redraft[train]'\n"
