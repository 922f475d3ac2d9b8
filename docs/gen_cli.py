"""Write docs/cli.md from the commands themselves: ``python docs/gen_cli.py``. A test compares the two."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

INTRO = """# Command line

This page is generated from the commands by `python docs/gen_cli.py`; `redraft COMMAND --help` shows the same.

Every command takes `--json`: one JSON object on standard output. Progress and notes go to standard error.

`redraft` alone says what it finds in the working folder and which commands make sense next. A mistyped command, option
or setting is refused with the nearest one that exists. `redraft --install-completion` lets your shell complete commands
and options with the Tab key (bash, zsh, fish and PowerShell); `redraft --show-completion` prints the script instead.

| exit status | meaning |
|---|---|
| 0 | done; an import may have reported bad rows |
| 1 | `redraft log verify` found a contradiction |
| 2 | the input, a setting or an option cannot be used: one line says which and what to do |
| 130 | interrupted by Ctrl-C |
"""
NAMES = {"str": "TEXT", "Path": "PATH", "int": "INTEGER", "float": "NUMBER"}


def commands(command: Any, name: str = "redraft") -> Iterator[tuple[str, Any]]:
    """Every command with its full name, parents first."""
    yield name, command
    for child_name, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{name} {child_name}")


def page() -> str:
    """The whole page."""
    import typer

    from redraft.cli.app import app

    sections = (_section(name, command) for name, command in commands(typer.main.get_command(app)))
    return "\n".join([INTRO, *sections])


def _section(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    words = [name, *(p.name.upper() if p.required else f"[{p.name.upper()}]" for p in arguments)]
    words += ["[OPTIONS]"] if options else []
    words += ["COMMAND …"] if hasattr(command, "commands") else []
    lines = [f"## {name}", "", " ".join((command.help or "").split()), "", "```text", " ".join(words), "```", ""]
    if arguments or options:
        lines += ["| | takes | default | |", "|---|---|---|---|"]
        lines += [_row(p.name.upper(), p) for p in arguments]
        lines += [_row(", ".join([*p.opts, *p.secondary_opts]), p) for p in options]
        lines.append("")
    return "\n".join(lines)


def _row(name: str, parameter: Any) -> str:
    cells = (f"`{name}`", _takes(parameter), _default(parameter), " ".join((parameter.help or "").split()))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _takes(parameter: Any) -> str:
    kind = parameter.type_descriptor.annotation
    kind = get_args(kind)[0] if parameter.multiple else kind
    if getattr(parameter, "is_flag", False):
        return "" if not parameter.secondary_opts else "flag"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{choice.value}`" for choice in kind)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    name = NAMES.get(getattr(kind, "__name__", ""), str(kind))
    return f"{name}, repeatable" if parameter.multiple else name


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if value is None or value is False or value in ("", ()):
        return ""
    return f"`{value.value if isinstance(value, Enum) else value}`"


if __name__ == "__main__":
    Path(__file__).with_name("cli.md").write_text(page(), "utf-8")
