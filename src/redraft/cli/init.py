"""``redraft`` alone and ``redraft init``: what is here, and what to do next."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from redraft import __version__
from redraft.cli.output import AsJson, emit
from redraft.cli.session import open_log
from redraft.errors import ConfigError, NotFoundError

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["explained_settings", "init", "welcome"]

WIDTH = 60  # of a value: a longer list has a line for each of its parts
INTRO = """\
# Settings of redraft. A line that begins with # and no space is a setting with
# its default: delete the # and change it. "# name =" has no default."""


def init(
    task: Annotated[str, typer.Option(help="Name of a task that redraft serve serves.")] = "email",
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a redraft.toml that explains every setting and gives its default."""
    from redraft.config import settings_file
    from redraft.files import write_text
    from redraft.log.canonical import check_task

    check_task(task)
    file = settings_file()
    if file.exists() and not force:
        raise ConfigError(f"{file} exists already: edit it, or replace it with --force")
    write_text(file, explained_settings(task))
    _, steps = _here()
    emit(
        {"file": str(file), "next": list(steps)},
        as_json,
        lambda _: typer.echo(f"wrote {file}\n\nNext:\n{_aligned(steps)}"),
    )


def welcome() -> None:
    """Say what redraft is, what it finds in this folder, and which commands make sense now."""
    state, steps = _here()
    typer.echo(f"redraft {__version__}: learn from how people edit what a model wrote.\n")
    typer.echo(f"{_aligned(state)}\n\nNext:\n{_aligned(steps)}\n\nAll commands: redraft --help")


def _here() -> tuple[Mapping[str, str], Mapping[str, str]]:
    """What there is, and the next three commands with what each is for."""
    from redraft.config import load_settings, settings_file
    from redraft.policies.store import PolicyStore

    file, settings = settings_file(), load_settings()
    policies = [str(ref) for ref in PolicyStore(settings.policies.root).list()]
    try:
        with open_log() as edit_log:
            tasks = edit_log.tasks()
        log = f"{settings.log.url.rpartition('@')[2]}, {', '.join(tasks) or 'empty'}"
    except NotFoundError:
        tasks, log = [], "none yet"
    state = {
        "settings": str(file) if file.exists() else f"no {file} here: defaults hold",
        "log": log,
        "policies": ", ".join(policies) or "none yet",
    }
    task = next(iter((*settings.tasks, *tasks)), "email")
    start = {} if file.exists() else {f"redraft init --task {task}": "write a redraft.toml"}
    if policies:
        steps = start or {"redraft policies": "list what is trained"}
        steps |= {
            f"redraft evaluate {task} --holdout FILE": "compare the policies",
            "redraft serve": "serve them, and log every edit",
        }
    elif tasks:
        steps = {
            f"redraft diagnose {task}": "what its edits can teach",
            f"redraft train sft {task}": "train a policy on them",
            f"redraft export sft {task}.jsonl --task {task}": "or train elsewhere",
        }
    else:
        steps = start or {"redraft serve": "log edits as people make them"}
        steps |= {
            f"redraft import edits.jsonl --task {task}": "log the edits you have",
            "redraft demo": "see the whole loop, simulated",
        }
    return state, steps


def _aligned(pairs: Mapping[str, str]) -> str:
    width = max(map(len, pairs)) + 2
    return "\n".join(f"  {name:<{width}}{what}" for name, what in pairs.items())


def explained_settings(task: str) -> str:
    """The text of a ``redraft.toml`` with every setting described and its default, commented out.

    Where a line begins with ``#`` and no space, deleting the ``#`` leaves the settings as they are.
    """
    from redraft.config import Settings, TaskSettings

    lines = [INTRO]
    for name, field in Settings.model_fields.items():
        if name != "tasks":
            lines += _section(name, cast("type[BaseModel]", field.annotation))
    name = task if re.fullmatch(r"[A-Za-z0-9_-]+", task) else json.dumps(task, ensure_ascii=False)
    lines += _section(f"tasks.{name}", TaskSettings)
    return "\n".join(lines) + "\n"


def _section(name: str, model: type[BaseModel], header: str = "", mark: str = "#") -> Iterator[str]:
    yield from ("", f"# {(model.__doc__ or '').replace('``', '`')}", f"{header}[{name}]")
    for key, field in model.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            yield from _section(f"{name}.{key}", cast("type[BaseModel]", field.annotation), header, mark)
            continue
        if below := [kind for kind in get_args(field.annotation) if hasattr(kind, "model_fields")]:
            yield from _section(f"{name}.{key}.NAME", below[0], "# ", "# ")  # only an example: its name is free
            continue
        default = field.get_default(call_default_factory=True)
        yield f"# {field.description}"
        if field.is_required() or default is None:
            yield f"# {key} ="
        else:
            text = json.dumps(default, default=str, ensure_ascii=False)
            if len(text) > WIDTH:
                text = json.dumps(default, indent=0, ensure_ascii=False).replace("\n", f"\n{mark}")
            yield f"{mark}{key} = {text}"
