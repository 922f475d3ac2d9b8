"""``redraft generate``, ``redraft policies`` and ``redraft export policy``: use what was trained."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from shutil import copytree
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.ground import LongestAnswer, Model, Policies, Precision, Temperature, decided
from redraft.cli.output import AsJson, emit, note
from redraft.cli.session import LogUrl, Task, bars, open_log, table
from redraft.errors import ConfigError, DataError, NotFoundError, UnavailableError
from redraft.files import whole
from redraft.policies import BASE, PolicyStore
from redraft.policies.store import DEMOTED, PROMOTED
from redraft.types import Message

if TYPE_CHECKING:
    from rich.console import Console

    from redraft.train.runs import Manifest

__all__ = ["export_policy", "generate", "policies_app"]

policies_app = typer.Typer(help="List the trained policies, and decide which are served by default.")
PolicyName = Annotated[str, typer.Argument(help="TASK/NAME@VERSION, or TASK/NAME for its latest version.")]


class Judged(StrEnum):
    """Who picks the best of several answers."""

    COST = "cost"
    CONSENSUS = "consensus"


def generate(
    *,
    policy: Annotated[str, typer.Option(help="TASK/NAME@VERSION, TASK/NAME for its latest version, or base.")],
    prompt: Annotated[str | None, typer.Option(help="One prompt; standard input when neither this nor --file.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="One prompt as text; or .jsonl with {prompt} or {messages} a line, answered line by line."),
    ] = None,
    max_new_tokens: LongestAnswer = None,
    temperature: Temperature = None,
    seed: Annotated[int, typer.Option(help="Decides what a temperature above 0 draws.")] = 0,
    precision: Annotated[
        Precision | None, typer.Option(help="bfloat16 is faster, and some answers change. Default: the task's.")
    ] = None,
    best_of: Annotated[int, typer.Option(min=1, help="Answer so often and give what should need the least edits.")] = 1,
    by: Annotated[
        Judged, typer.Option(help="Who picks the best: the task's cost model, or the answers' own consensus.")
    ] = Judged.COST,
    policies: Policies = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Answer prompts with a policy."""
    from redraft.config import load_settings
    from redraft.lm.load import load_base

    if by is Judged.CONSENSUS and best_of < 3:
        raise ConfigError("--by consensus needs at least 3 answers: add --best-of 8")
    task, _, name = policy.rpartition("/")
    if name == BASE:  # a gateway's name for it: email/base
        policy = BASE
    if policy == BASE and best_of > 1:
        raise ConfigError("--best-of needs a task: use --policy TASK/NAME")
    settings = load_settings()
    contexts = _contexts(prompt, file)
    store = PolicyStore(policies or settings.policies.root)
    ref = None if policy == BASE else store.resolve(policy)
    base = load_base(model or settings.model.name, settings.cache)
    decoding = decided(
        settings.decoding(ref.task if ref else task), max_new_tokens, temperature, seed, precision and precision.value
    )
    from redraft.policies.adapter import AdapterHost
    from redraft.train.run import counter

    with bars() as progress:
        advance = counter(progress, "answering", len(contexts))
        host = AdapterHost(base, max_prompt=None, on_batch=advance if len(contexts) > 1 else None)
        chosen = host.policy() if ref is None else host.load(str(ref), store.path(ref))
        if best_of > 1 and ref is not None:
            from redraft.policies.best_of import BestOf, task_judge

            judge = task_judge(by, ref.task, settings, store.root, lambda: host)
            kind = "best" if by is Judged.COST else "consensus"
            chosen = BestOf(f"{chosen.name}, {kind} of {best_of}", chosen, best_of, judge)
        responses = chosen.respond(contexts, decoding)
    result = {"policy": chosen.name, "model": base.identity, "decoding": decoding.logged, "responses": responses}
    rows = file is not None and _is_rows(file)
    emit(result, as_json, lambda console: _say(console, responses, rows=rows))


@policies_app.callback(invoke_without_command=True)
def policies(
    context: typer.Context,
    task: Task = None,
    *,
    policies: Policies = None,
    as_json: AsJson = False,
    log: LogUrl = None,
) -> None:
    """List the trained policies: which are served by default and why, and which learnt from texts erased since."""
    from redraft.config import load_settings
    from redraft.train.runs import read_manifest

    if context.invoked_subcommand is not None:
        return
    settings = load_settings()
    store = PolicyStore(policies or settings.policies.root)
    found: list[tuple[Path, Manifest]] = []
    for ref in store.list(task):
        try:
            manifest = read_manifest(store.path(ref))
        except DataError as error:
            note(f"left out: {error}")
            continue
        if manifest.policy == str(ref):
            found.append((store.path(ref), manifest))
        else:
            note(f"left out: {store.path(ref)} holds {manifest.policy}: move it back, or train {ref} of its own")
    tasks = sorted({ref.task for ref in store.list(task)})
    rows = [row for name in tasks for row in store.standing(name, settings.task(name).decoding.temperature)]
    standing = {str(row.ref): row for row in rows}
    for name in (name for name in tasks if settings.task(name).policies):
        note(f"tasks.{name}.policies in the settings names what is served there, not this list")
    erased = _learnt_from_erased(store, log)
    columns: dict[str, Sequence[object]] = {
        "policy": [manifest.policy for _, manifest in found],
        "base": [f"{manifest.base.get('name')}:{manifest.base.get('revision')}" for _, manifest in found],
        "edits": [manifest.data.get("train", "–") for _, manifest in found],
        "trained": [manifest.created_at for _, manifest in found],
        "by default": [standing[manifest.policy] for _, manifest in found],
    }
    if erased:
        columns["erased texts"] = ["learnt from" if manifest.policy in erased else "" for _, manifest in found]
    shown = [
        {
            "folder": str(folder),
            **asdict(manifest),
            "served": standing[manifest.policy].served,
            "reason": standing[manifest.policy].reason,
            "learnt_from_erased": manifest.policy in erased,
        }
        for folder, manifest in found
    ]
    emit({"root": str(store.root), "policies": shown}, as_json, table(columns))


@policies_app.command("promote")
def promote(name: PolicyName, *, policies: Policies = None, as_json: AsJson = False) -> None:
    """Serve a policy by default, although it did not surely do better than base on held-out edits."""
    _tell(name, PROMOTED, policies, as_json)


@policies_app.command("demote")
def demote(name: PolicyName, *, policies: Policies = None, as_json: AsJson = False) -> None:
    """Never serve a policy by default."""
    _tell(name, DEMOTED, policies, as_json)


def _tell(name: str, said: str, root: Path | None, as_json: bool) -> None:
    from redraft.config import load_settings

    settings = load_settings()
    store = PolicyStore(root or settings.policies.root)
    ref = store.resolve(name)
    store.tell(ref, said)
    note("running gateways take it over when they are restarted or get SIGHUP")
    if settings.task(ref.task).policies:
        note(f"tasks.{ref.task}.policies in the settings goes before it: name the policy there, or remove that line")
    emit({"policy": str(ref), "served": said == PROMOTED}, as_json, lambda c: c.print(f"{ref} is {said}", markup=False))


def _learnt_from_erased(store: PolicyStore, url: str | None) -> list[str]:
    """Policies that learnt from texts erased since, or continue from one that did; none where there is no log."""
    try:
        with open_log(url) as edit_log:
            erased = edit_log.erased()
    except NotFoundError:
        return []
    except (ConfigError, UnavailableError) as error:  # policies can be listed without their log
        note(f"not known which learnt from erased texts: {error}")
        return []
    return store.trained_on(erased) if erased else []


def export_policy(
    name: PolicyName,
    out: Annotated[Path, typer.Argument(help="Folder to write; it must not exist, and appears when it is complete.")],
    *,
    merged: Annotated[
        bool, typer.Option("--merged", help="A plain model: the adapter added into its base's weights.")
    ] = False,
    policies: Policies = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Write a policy as a folder for other programs: a PEFT adapter, or with --merged a whole model."""
    from redraft.config import load_settings

    settings = load_settings()
    store = PolicyStore(policies or settings.policies.root)
    ref = store.resolve(name)
    if out.exists() or out.is_symlink():
        raise ConfigError(f"{out} exists already: remove it or name another folder")
    with whole(out) as scratch:
        if merged:
            _write_merged(model or settings.model.name, settings.cache, store.path(ref), scratch)
        else:
            copytree(store.path(ref), scratch)
    kind = "model" if merged else "adapter"
    emit({"policy": str(ref), "kind": kind, "out": str(out)}, as_json, table({"policy": [ref], kind: [out]}))


def _write_merged(model: str, cache: Path, folder: Path, out: Path) -> None:
    from redraft.lm.load import load_base
    from redraft.policies.adapter import merged_model
    from redraft.train.runs import read_manifest, write_merged_card

    base, manifest = load_base(model, cache), read_manifest(folder)
    merged_model(base, folder).save_pretrained(out)
    base.tokenizer.save_pretrained(out)
    write_merged_card(out, manifest)


def _is_rows(file: Path) -> bool:
    return file.suffix == ".jsonl"


def _contexts(prompt: str | None, file: Path | None) -> list[tuple[Message, ...]]:
    if prompt is not None and file is not None:
        raise ConfigError("--prompt and --file: give one of them")
    if file is not None and _is_rows(file):
        return _rows(file)
    text = _text(file).rstrip("\r\n") if prompt is None else prompt
    if not text.strip():
        raise DataError("the prompt is empty: give one with --prompt, --file or on standard input")
    return [(Message("user", text),)]


def _text(file: Path | None) -> str:
    where = "standard input" if file is None else str(file)
    if file is None and sys.stdin.isatty():
        note("reading a prompt from the terminal: end it with Ctrl-D")
    try:
        return (sys.stdin.buffer.read() if file is None else file.read_bytes()).decode("utf-8")
    except OSError as error:
        raise DataError(f"{where}: cannot be read ({error.strerror}): check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 at byte {error.start}: convert it") from error


def _rows(file: Path) -> list[tuple[Message, ...]]:
    """Read the contexts of a JSONL file; keys other than ``prompt`` and ``messages`` are ignored, blank lines are none.

    Raises ``DataError`` at the first bad row: to answer some rows would shift the others' answers.
    """
    from pydantic import BaseModel, ConfigDict, ValidationError

    from redraft.log.formats.rows import BadRow, TooLong, describe, lines

    class Row(BaseModel):
        model_config = ConfigDict(strict=True)
        prompt: str | None = None
        messages: tuple[Message, ...] | None = None

    contexts: list[tuple[Message, ...]] = []
    for number, line in lines(file, 1_000_000):
        if isinstance(line, TooLong):
            raise DataError(str(BadRow(file, number, "the line is too long: shorten its texts")))
        if not line.strip():
            continue
        try:
            row = Row.model_validate_json(line)
        except ValidationError as error:
            raise DataError(str(BadRow(file, number, describe(error)))) from error
        if bool(row.prompt) == bool(row.messages):
            raise DataError(str(BadRow(file, number, "give either prompt or messages, not empty")))
        contexts.append(row.messages or (Message("user", row.prompt or ""),))
    if not contexts:
        raise DataError(f'{file}: holds no rows: write {{"prompt": …}} or {{"messages": …}} on each line')
    return contexts


def _say(console: Console, responses: Sequence[str], *, rows: bool) -> None:
    """Answers as they are: no wrapping, no markup, no emoji codes; one JSON object a line where rows were asked."""
    import json

    for response in responses:
        console.out(json.dumps({"response": response}, ensure_ascii=False) if rows else response, highlight=False)
