"""``redraft train``: one command a method, ``all`` of them, and ``sweep``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.options import options_from
from redraft.cli.output import AsJson, emit, note
from redraft.cli.session import LogUrl, bars, open_log, require_task, table
from redraft.cli.train_cost import train_cost
from redraft.errors import ConfigError, DataError
from redraft.train.options import METHODS, RL, TrainOptions

if TYPE_CHECKING:
    from redraft.lm.load import Base
    from redraft.train.fit import Dataset
    from redraft.train.runs import Manifest
    from redraft.train.sweep import Trial
    from redraft.types import PolicyRef

__all__ = ["train_app"]

UNKNOWN = "an unknown model"
"""What ``foreign_policies`` calls the model of rows that name none."""

train_app = typer.Typer(help="Fine-tune policies on the edits of a task.", no_args_is_help=True)

train_app.command("cost")(train_cost)

TaskName = Annotated[str, typer.Argument(help="The task whose edits to learn from.")]
Limit = Annotated[int | None, typer.Option(min=2, help="Use at most so many edits, the first of the log.")]
Policies = Annotated[Path | None, typer.Option(help="Folder of policies, instead of policies.root in the settings.")]
Model = Annotated[str | None, typer.Option(help="Base model, instead of model.name in the settings.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run that was interrupted.")]


@dataclass(frozen=True)
class Source:
    """Where a command takes its edits and its model from, and where policies go, if not as the settings say."""

    limit: int | None
    model: str | None
    policies: Path | None
    log: str | None


@dataclass(frozen=True)
class _Ground:
    """What every training command stands on: the model, the data set and where things go."""

    base: Base
    data: Dataset
    root: Path
    cache: Path


def _method_command(method: str) -> None:
    @options_from(TrainOptions, method=method)
    def command(
        task: TaskName,
        *,
        options: TrainOptions,
        resume: Resume = False,
        limit: Limit = None,
        model: Model = None,
        policies: Policies = None,
        log: LogUrl = None,
        as_json: AsJson = False,
    ) -> None:
        ground = _ground(task, options, Source(limit, model, policies, log))
        _emit(task, [_train(ground, task, options, resume)], as_json)

    about = {"sft": "the edited texts (SFT, eq. 3)", "dpo": "preferences (DPO, eq. 4)", "early": "both (eq. 7)"}
    about[RL] = "costs that a cost model predicts (pessimistic RL, eq. 6)"
    train_app.command(method, help=f"Learn from {about[method]}.")(command)


for _method in (*METHODS, RL):
    _method_command(_method)


@train_app.command("all")
@options_from(TrainOptions, method="early")
def train_all(
    task: TaskName,
    *,
    options: TrainOptions,
    resume: Resume = False,
    limit: Limit = None,
    model: Model = None,
    policies: Policies = None,
    log: LogUrl = None,
    as_json: AsJson = False,
) -> None:
    """Train sft, dpo and early one after the other, on one split and one reference."""
    ground = _ground(task, options, Source(limit, model, policies, log))
    _emit(task, [_train(ground, task, replace(options, method=m), resume) for m in METHODS], as_json)


@train_app.command("sweep")
@options_from(TrainOptions, method="early")
def train_sweep(
    task: TaskName,
    method: Annotated[str, typer.Argument(help="sft, dpo, early or rl.")],
    *,
    options: TrainOptions,
    over: Annotated[
        list[str] | None, typer.Option(help="Values to try, e.g. --over learning_rate=1e-4,5e-4 --over beta=0.1.")
    ] = None,
    limit: Limit = None,
    model: Model = None,
    policies: Policies = None,
    log: LogUrl = None,
    as_json: AsJson = False,
) -> None:
    """Try hyperparameters, keep the table of trials, and make the best one a policy. Continues where it stopped."""
    from redraft.policies.store import PolicyStore
    from redraft.train.fit import Run
    from redraft.train.sweep import GRIDS, grid, sweep

    options = replace(options, method=method)
    trials = grid(options, _values(over) or GRIDS[method])
    ground = _ground(task, options, Source(limit, model, policies, log))
    reference = PolicyStore(ground.root).next(task, method)
    with bars() as progress:
        folder = ground.root / task / f"{method}.sweep"
        run = Run(ground.base, ground.data, options, folder, str(reference), ground.cache, progress)
        found = sweep(run, trials)
    policy = _publish(ground, reference, found[0])
    note(f"the best trial is {policy}; every trial stands in {folder / 'trials.jsonl'}")
    manifests = [trial.manifest for trial in found]
    tried = {n: [m.options[n] for m in manifests] for n in ("learning_rate", "beta", "nll_weight")}
    columns = {**tried, "held-out score": [f"{trial.score:.4f}" for trial in found]}
    emit({"task": task, "policy": policy, "trials": [asdict(m) for m in manifests]}, as_json, table(columns))


def _publish(ground: _Ground, reference: PolicyRef, best: Trial) -> str:
    """Make a trial a policy, unless it is one already."""
    from redraft.policies.store import PolicyStore
    from redraft.train.runs import COMPLETE, write_card, write_manifest

    if best.manifest.status != COMPLETE:
        raise DataError("every trial diverged: try lower learning rates with --over learning_rate=…")
    if (known := _trained(ground, reference, best.manifest)) is not None:
        return known.policy
    store = PolicyStore(ground.root)
    partial = store.partial_path(reference)
    copytree(best.folder, partial)
    manifest = replace(best.manifest, policy=str(reference))
    write_card(partial, manifest)
    write_manifest(partial, manifest)
    partial.rename(store.path(reference))
    return str(reference)


def _trained(ground: _Ground, reference: PolicyRef, like: Manifest) -> Manifest | None:
    """A complete policy of this name that was trained on the same data and base with the same options."""
    from redraft.policies.store import PolicyStore
    from redraft.train.runs import read_manifest

    store = PolicyStore(ground.root)
    for known in store.list(reference.task):
        if known.name == reference.name:
            manifest = read_manifest(store.path(known))
            if (manifest.options, manifest.data, manifest.base) == (like.options, like.data, like.base):
                return manifest
    return None


def _ground(task: str, options: TrainOptions, source: Source) -> _Ground:
    from redraft.config import load_settings

    settings = load_settings()
    root = source.policies or settings.policies.root
    with open_log(source.log) as edit_log:
        require_task(edit_log, task)
        cost = edit_log.cost_of(task)
        interactions = list(islice(edit_log.interactions(task, edited_only=True), source.limit))
    if not interactions:
        raise DataError(f"task {task!r} has no edits yet: log or import some")
    _require_writable(root)
    from redraft.lm.load import load_base

    base = load_base(source.model or settings.model.name, settings.cache)
    from redraft.train.fit import foreign_policies, prepare  # only now: a wrong name is told before torch is loaded

    if options.preference_weight:
        _warn_of(foreign_policies(interactions, base), base.identity)
    if options.method == RL:
        from redraft.train.cost_run import read_bound
        from redraft.train.rl import prepare_rl

        bound = read_bound(root, task, base, settings.cache, cost, pessimism=options.pessimism)
        with bars() as progress:
            done, total = 0, options.samples * len(interactions)

            def advance(responses: int) -> None:
                nonlocal done
                done += responses
                progress("samples", done, total)

            data = prepare_rl(interactions, bound, options, settings.cache, on_batch=advance)
        return _Ground(base, data, root, settings.cache)
    return _Ground(base, prepare(interactions, base, options), root, settings.cache)


def _require_writable(root: Path) -> None:
    """Raise ``ConfigError`` unless policies can be written below ``root``, which need not exist yet."""
    there = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    try:
        TemporaryFile(dir=there).close()
    except OSError as error:
        remedy = "set [policies] root or use --policies"
        raise ConfigError(f"{root}: policies cannot be written there ({error.strerror}): {remedy}") from error


def _warn_of(foreign: Sequence[str], base: str) -> None:
    """Say whose answers the log holds that ``base`` did not write: it is the reference of dpo and early."""
    if UNKNOWN in foreign:
        note(
            f"warning: rows of this log do not say which model wrote them, and dpo and early take {base} for it: "
            'go on if that is so (to say it, import rows with "model"), else set [model] name to the one that did'
        )
    if known := [name for name in foreign if name != UNKNOWN]:
        note(
            f"warning: this log was written by {', '.join(known)}, not by {base}: "
            "dpo and early measure preferences against the wrong reference; set [model] name to the log's own model"
        )


def _train(ground: _Ground, task: str, options: TrainOptions, resume: bool) -> Manifest:
    from redraft.policies.store import PolicyStore
    from redraft.train.fit import Run, fit
    from redraft.train.runs import DIVERGED, new_manifest

    store, method = PolicyStore(ground.root), options.method
    interrupted = store.partial(task, method) if resume else None
    reference = interrupted or store.next(task, method)
    begun = new_manifest(str(reference), ground.base, ground.data.counts, options)
    if resume and interrupted is None and (known := _trained(ground, reference, begun)) is not None:
        note(f"{known.policy} is complete: nothing to resume")
        return known
    partial = store.partial_path(reference)
    try:
        with bars() as progress:
            run = Run(ground.base, ground.data, options, partial, str(reference), ground.cache, progress, _watch)
            manifest = fit(run, resume=resume)
    except KeyboardInterrupt:
        note(f"stopped; the run is kept in {partial}: repeat the command with --resume to go on")
        raise
    if manifest.status == DIVERGED:
        raise DataError(f"{reference} diverged, no held-out score is a number (see {partial}): lower --learning-rate")
    partial.rename(store.path(reference))
    return manifest


def _watch(line: Mapping[str, float]) -> None:
    """Say after each epoch how far the two texts have moved: DPO's failing must be seen while it happens."""
    if "eval_nll" not in line:
        return
    moved = [
        f"{name} {line[f'eval_{name}_above_reference']:+.1f}"
        for name in ("chosen", "rejected")
        if f"eval_{name}_above_reference" in line
    ]
    parts = [f"epoch {line['epoch']:.2g}", f"nll {line['eval_nll']:.3f}", *moved]
    note(f"held out: {', '.join(parts)}" + (" nats against the base" if moved else ""))


def _values(over: Sequence[str] | None) -> Mapping[str, Sequence[float]]:
    values: dict[str, Sequence[float]] = {}
    for text in over or ():
        name, _, numbers = text.partition("=")
        try:
            values[name] = [float(number) for number in numbers.split(",")]
        except ValueError as error:
            raise DataError(f"--over {text!r}: expected NAME=NUMBER,NUMBER, e.g. learning_rate=1e-4,5e-4") from error
    return values


def _emit(task: str, manifests: Sequence[Manifest], as_json: bool) -> None:
    titles = {
        "nll": "nll",
        "prefers_edit": "prefers edit",
        "chosen_above_reference": "chosen − ref (nats)",
        "rejected_above_reference": "rejected − ref (nats)",
    }
    columns: dict[str, Sequence[object]] = {"policy": [m.policy for m in manifests]}
    columns |= {title: [_shown(m.metrics.get(name)) for m in manifests] for name, title in titles.items()}
    columns["seconds"] = [f"{m.seconds:.0f}" for m in manifests]
    emit({"task": task, "policies": [asdict(m) for m in manifests]}, as_json, table(columns))


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
