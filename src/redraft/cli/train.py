"""``redraft train``: one command a method, ``all`` of them, and ``sweep``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from shutil import copytree
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.ground import Ground, Limit, Model, Policies, Source, make_ground
from redraft.cli.options import options_from
from redraft.cli.output import AsJson, emit, note
from redraft.cli.session import LogUrl, bars, table
from redraft.cli.train_cost import train_cost
from redraft.errors import DataError
from redraft.train.options import METHODS, RL, TrainOptions

if TYPE_CHECKING:
    from redraft.train.runs import Manifest
    from redraft.train.sweep import Trial
    from redraft.types import PolicyRef

__all__ = ["train_app"]

train_app = typer.Typer(help="Fine-tune policies on the edits of a task.", no_args_is_help=True)

train_app.command("cost")(train_cost)

TaskName = Annotated[str, typer.Argument(help="The task whose edits to learn from.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run that was interrupted.")]


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
        ground = make_ground(task, options, Source(limit, model, policies, log))
        _emit(task, [_train(ground, ground.options, resume)], as_json)

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
    """Train sft, dpo, early and rl one after the other, on one split and one reference; rl has a cost model learnt.

    A log with too few contexts for a cost model gives no rl, and says so.
    """
    ground = make_ground(task, options, Source(limit, model, policies, log))
    trained = [_train(ground, replace(ground.options, method=m), resume) for m in METHODS]
    known = any((ground.root / ground.task).glob("cost@*/cost_model.json"))
    try:
        priced = ground.with_costs(replace(ground.options, method=RL), learn=not (resume and known))
    except DataError as error:
        note(f"rl is left out: {error}")
    else:
        trained.append(_train(priced, priced.options, resume))
    _emit(task, trained, as_json)


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
    from redraft.train.sweep import GRIDS, grid, sweep

    options = replace(options, method=method)
    trials = grid(options, _values(over) or GRIDS[method])
    ground = make_ground(task, options, Source(limit, model, policies, log))
    trials = [replace(trial, start=ground.options.start) for trial in trials]
    reference = PolicyStore(ground.root).next(task, method)
    with bars() as progress:
        folder = ground.root / task / f"{method}.sweep"
        run = replace(ground.run(folder, reference, progress), options=options)
        found = sweep(run, trials)
    policy = _publish(ground, reference, found[0])
    note(f"the best trial is {policy}; every trial stands in {folder / 'trials.jsonl'}")
    manifests = [trial.manifest for trial in found]
    tried = {n: [m.options[n] for m in manifests] for n in ("learning_rate", "beta", "nll_weight")}
    columns = {**tried, "held-out score": [f"{trial.score:.4f}" for trial in found]}
    emit({"task": task, "policy": policy, "trials": [asdict(m) for m in manifests]}, as_json, table(columns))


def _publish(ground: Ground, reference: PolicyRef, best: Trial) -> str:
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


def _trained(ground: Ground, reference: PolicyRef, like: Manifest) -> Manifest | None:
    """A complete policy of this name that was trained on the same data and base with the same options."""
    from redraft.policies.store import PolicyStore
    from redraft.train.runs import read_manifest

    store = PolicyStore(ground.root)
    for known in store.list(reference.task):
        if known.name == reference.name:
            manifest = read_manifest(store.path(known))
            if all(manifest.alike(like).values()):
                return manifest
    return None


def _train(ground: Ground, options: TrainOptions, resume: bool) -> Manifest:
    from redraft.policies.store import PolicyStore
    from redraft.train.fit import fit
    from redraft.train.runs import DIVERGED, new_manifest

    store, task, method = PolicyStore(ground.root), ground.task, options.method
    interrupted = store.partial(task, method) if resume else None
    reference = interrupted or store.next(task, method)
    begun = new_manifest(str(reference), ground.base, ground.data.counts, options)
    if resume and interrupted is None and (known := _trained(ground, reference, begun)) is not None:
        note(f"{known.policy} is complete: nothing to resume")
        return known
    partial = store.partial_path(reference)
    try:
        with bars() as progress:
            run = replace(ground.run(partial, reference, progress), options=options, on_log=_on_log)
            manifest = fit(run, resume=resume)
    except KeyboardInterrupt:
        note(f"stopped; the run is kept in {partial}: repeat the command with --resume to go on")
        raise
    if manifest.status == DIVERGED:
        raise DataError(f"{reference} diverged, its held-out score is no number (see {partial}): lower --learning-rate")
    partial.rename(store.path(reference))
    return manifest


def _on_log(line: Mapping[str, float]) -> None:
    """Say after each epoch how far the two texts have moved: DPO's failing must be seen while it happens."""
    if "eval_nll" not in line:
        return
    moved = [
        f"{name} {line[f'eval_{name}_above_reference']:+.1f}"
        for name in ("chosen", "rejected")
        if f"eval_{name}_above_reference" in line
    ]
    parts = [f"epoch {line['epoch']:.2g}", f"nll {line['eval_nll']:.3f}", *moved]
    note(f"held out: {', '.join(parts)}" + (" nats against the reference" if moved else ""))
    if "eval_own_cost" in line:
        kl, cost = line["eval_own_kl"], line["eval_own_cost"]
        note(f"its own answers: predicted to cost {cost:.3f} at most, KL {kl:.2f} nats; only edits tell the real cost")


_IN_WORDS = {name for name, default in TrainOptions().as_dict().items() if isinstance(default, str)}


def _values(over: Sequence[str] | None) -> Mapping[str, Sequence[float | str]]:
    values: dict[str, Sequence[float | str]] = {}
    for text in over or ():
        name, _, tried = text.partition("=")
        if name in _IN_WORDS:
            values[name] = tried.split(",")
            continue
        try:
            values[name] = [float(number) for number in tried.split(",")]
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
