"""What the pages say is so: commands exist, settings have these defaults, examples run, the tree is the tree."""

from __future__ import annotations

import doctest
import importlib
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from redraft.cli.app import app, main
from redraft.config import NOT_SETTINGS, Settings, TaskSettings, UpstreamSettings

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "redraft"
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
TABLES: dict[str, type[BaseModel]] = {"tasks": TaskSettings, "upstreams": UpstreamSettings}
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@cache
def generator() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "gen_cli.py"))


@cache
def commands() -> Mapping[str, Any]:
    return dict(generator()["commands"](typer.main.get_command(app)))


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    """Heading line and content of the fenced blocks in these languages."""
    found = BLOCK.findall(page.read_text("utf-8"))
    return [(rest.strip(), content) for language, rest, content in found if language in languages]


def name(page: object) -> str:
    return str(page.relative_to(ROOT)) if isinstance(page, Path) else str(page)


def test_the_command_line_page_is_the_generated_one() -> None:
    committed = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert committed == generator()["page"](), "run: python docs/gen_cli.py"


def test_every_command_and_option_has_help() -> None:
    without = [command for command, found in commands().items() if not (found.help or "").strip()]
    without += [
        f"{command} {parameter.opts[0]}"
        for command, found in commands().items()
        for parameter in found.params
        if not (parameter.help or "").strip()
    ]
    assert without == []


def test_every_command_takes_json() -> None:
    leaves = {command: found for command, found in commands().items() if not hasattr(found, "commands")}
    assert [c for c, found in leaves.items() if not any("--json" in p.opts for p in found.params)] == []


def keys(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, str, str]]:
    """Dotted key, default and description of every setting."""
    for key, field in model.model_fields.items():
        section = field.annotation
        if key in TABLES:
            yield from keys(TABLES[key], f"{path}{key}.{key.upper().removesuffix('S')}.")
        elif isinstance(section, type) and issubclass(section, BaseModel):
            yield from keys(section, f"{path}{key}.")
        else:
            default = "required" if field.is_required() else field.get_default(call_default_factory=True)
            yield f"{path}{key}", str(default), field.description or ""


def test_every_setting_stands_on_its_page() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    rows = [f"| `{key}` | `{default}` | {about} |" for key, default, about in keys(Settings)]
    rows += [f"| `{variable}` | {about} |" for variable, about in NOT_SETTINGS.items()]
    assert len(rows) >= 10
    assert [row for row in rows if row not in page] == []


def test_the_tree_is_the_generated_one() -> None:
    generated = runpy.run_path(str(ROOT / "docs" / "gen_tree.py"))
    committed = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    assert committed == generated["page"](), "run: python docs/gen_tree.py"


def test_every_file_says_what_it_is() -> None:
    generated = runpy.run_path(str(ROOT / "docs" / "gen_tree.py"))
    assert [name(file) for file in SOURCE.rglob("*.py") if not generated["summary"](file)] == []


def test_links_of_the_readme_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text("utf-8"))
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_findings_are_listed_and_linked() -> None:
    text = (ROOT / "results" / "LOG.md").read_text("utf-8")
    entries = [
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^## (.+)$", text, re.M)
    ]
    assert sorted(re.findall(r"\[read\]\(#([^)]+)\)", text)) == sorted(entries)


def shown() -> list[tuple[str, str]]:
    """Page and command line of every ``redraft …`` in a block that is meant to be typed."""
    lines = (
        (name(page), line.removeprefix("$ "))
        for page in PAGES
        for _, content in blocks(page, "bash", "console")
        for line in content.splitlines()
    )
    return [(page, line) for page, line in lines if line.startswith("redraft ")]


@pytest.mark.parametrize(("page", "line"), shown())
def test_commands_on_the_pages_exist(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    size = max(size for size in range(1, len(words) + 1) if " ".join(words[:size]) in commands())
    command, rest = commands()[" ".join(words[:size])], words[size:]
    runs_itself = getattr(command, "invoke_without_command", True)
    assert runs_itself or not hasattr(command, "commands"), f"{page}: {line}: there is no such command"
    options = {option: p for p in command.params if p.param_type_name == "option" for option in p.opts}
    positional: list[str] = []
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            positional.append(word)
            continue
        assert word in options, f"{page}: {line}: {word} is no option of it"
        if not options[word].is_flag:
            rest.pop(0)
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    assert len([p for p in arguments if p.required]) <= len(positional) <= len(arguments)


def write_files(page: Path, folder: Path) -> None:
    for heading, content in blocks(page, "json"):
        (folder / heading.removeprefix('title="').removesuffix('"')).write_text(content, "utf-8")


def typed(page: Path) -> list[tuple[str, str]]:
    """Commands of the console blocks, each with the output that the page shows, if any."""
    parts = [part for _, content in blocks(page, "console") for part in content.removeprefix("$ ").split("\n$ ")]
    assert len(parts) >= 3
    return [(command, output) for command, _, output in (part.strip().partition("\n") for part in parts)]


def test_console_blocks_of_the_readme_run(tmp_path: Path) -> None:
    write_files(ROOT / "README.md", tmp_path)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("REDRAFT_")}
    environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "80"}
    for command, output in typed(ROOT / "README.md"):
        words = shlex.split(command)
        done = subprocess.run(words, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert output in done.stdout, command


def test_console_blocks_of_the_quickstart_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = ROOT / "docs" / "quickstart.md"
    write_files(page, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for variable in [variable for variable in os.environ if variable.startswith("REDRAFT_")]:
        monkeypatch.delenv(variable)
    for command, output in typed(page):
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as caught:
            main()
        assert not caught.value.code, command
        assert output in capsys.readouterr().out, command


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name)
def test_python_blocks_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for _, content in blocks(page, "python"):
        exec(compile(content, name(page), "exec"), {"__name__": "example"})
        printed = capsys.readouterr().out.splitlines()
        expected = re.findall(r"^ *print\(.*\)  # (.+)$", content, re.MULTILINE)
        assert [line for line in expected if line not in printed] == []


def with_examples() -> list[str]:
    """Modules whose docstrings hold examples."""
    files = [file for file in SOURCE.rglob("*.py") if ">>> " in file.read_text("utf-8")]
    return sorted(".".join(file.relative_to(SOURCE.parent).with_suffix("").parts) for file in files)


@pytest.mark.parametrize("module", with_examples())
def test_docstring_examples(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0
