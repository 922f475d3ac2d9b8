"""``redraft train``: one command a method, ``all`` of them, and ``sweep``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.ground import Ground, Source, concluded, make_ground
from redraft.cli.options import options_from
from redraft.cli.output import AsJson, emit, note
from redraft.cli.session import bars
from redraft.cli.train_cost import number, train_cost
from redraft.errors import ConfigError, DataError, ModelError
from redraft.policies.store import PolicyStore
from redraft.train.options import METHODS, RL, TrainOptions
from redraft.train.runs import (
    Manifest,
    alarm,
    checkpoints,
    damaged,
    new_manifest,
    partial_of,
    read_manifest,
    recommended,
    verdict,
)

if TYPE_CHECKING:
    from redraft.types import PolicyRef

__all__ = ["train_app"]

train_app = typer.Typer(help="Fine-tune policies on the edits of a task.", no_args_is_help=True)

train_app.command("cost")(train_cost)

TaskName = Annotated[str, typer.Argument(help="The task whose edits to learn from.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run, if there is one.")]


def _method_command(method: str) -> None:
    @options_from(Source, "source")
    @options_from(TrainOptions, method=method)
    def command(
        task: TaskName, *, options: TrainOptions, source: Source, resume: Resume = False, as_json: AsJson = False
    ) -> None:
        with bars() as progress:
            trained = _train(make_ground(task, options, source, progress), resume)
        _emit(task, [trained], {}, as_json)

    about = {"sft": "the edited texts (SFT, eq. 3)", "dpo": "preferences (DPO, eq. 4)", "early": "both (eq. 7)"}
    about[RL] = "costs that a cost model predicts (pessimistic RL, eq. 6)"
    train_app.command(method, help=f"Learn from {about[method]}.")(command)


for _method in (*METHODS, RL):
    _method_command(_method)


@train_app.command("all")
@options_from(Source, "source")
@options_from(TrainOptions, method="early")
def train_all(
    task: TaskName, *, options: TrainOptions, source: Source, resume: Resume = False, as_json: AsJson = False
) -> None:
    """Train sft, dpo, early and rl, in this order, on one split and one reference; a cost model is learnt for rl.

    What the log cannot teach is left out with the reason. Fails only where no policy was trained.
    """
    methods, left = (*METHODS, RL), dict[str, str]()
    with bars() as progress:
        try:
            ground = make_ground(task, options, source, progress)
        except DataError as error:
            trained, left = [], dict.fromkeys(methods, str(error))
        else:
            trained = list(_all(ground, resume, left))
    _emit(task, trained, left, as_json)
    if not trained:
        said = "; ".join(f"{why} ({methods})" for methods, why in _by_reason(left).items())
        raise DataError(f"task {task!r}: nothing was trained: {said}")


def _all(ground: Ground, resume: bool, left: dict[str, str]) -> Iterator[Manifest]:
    """Train one method after the other; ``left`` gains the reason of each that cannot be."""
    methods = (*METHODS, RL)
    known = any((ground.edits.root / ground.edits.task).glob("cost@*/cost_model.json"))
    for place, method in enumerate(methods, 1):
        note(f"policy {place} of {len(methods)}: {method}")
        options = replace(ground.options, method=method)
        try:
            own = replace(ground, options=options)
            own = own.with_costs(options, learn=not (resume and known)) if method == RL else own
            yield _train(own, resume)
        except (DataError, ModelError) as error:
            left[method] = str(error)
            note(f"{method} is left out: {error}")
        ground.progress("policies", place, len(methods))


@train_app.command("sweep")
@options_from(Source, "source")
@options_from(TrainOptions, method="early")
def train_sweep(
    task: TaskName,
    method: Annotated[str, typer.Argument(help="sft, dpo, early or rl.")],
    *,
    options: TrainOptions,
    source: Source,
    over: Annotated[
        list[str] | None, typer.Option(help="Values to try, e.g. --over learning_rate=1e-4,5e-4 --over beta=0.1.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Try hyperparameters, keep the table of trials, and make the best one a policy. Continues where it stopped."""
    from redraft.train.publish import publish_trial
    from redraft.train.sweep import GRIDS, grid, sweep

    options = replace(options, method=method)
    if not options.holdout:
        raise ConfigError("--holdout 0: a sweep chooses by held-out scores, so hold some edits out, e.g. 0.15")
    trials = grid(options, _values(over) or GRIDS[method])
    with bars() as progress:
        ground = make_ground(task, options, source, progress)
        store = PolicyStore(ground.edits.root)
        reference = store.next(task, method)
        folder = store.root / task / f"{method}.sweep"
        shared = {name: getattr(ground.options, name) for name in ("start", "max_prompt", "max_response")}
        tried = sweep(ground.run(folder, reference), [replace(trial, **shared) for trial in trials])
    policy = _known(store, reference, tried[0].manifest)
    policy = policy or publish_trial(tried[0], store.path(reference), str(reference), ground.measured)
    note(f"the best trial is {policy.policy}; all trials are listed in {folder / 'trials.jsonl'}")
    manifests = [trial.manifest for trial in tried]
    columns = {n: [m.options[n] for m in manifests] for n in ("learning_rate", "beta", "nll_weight")}
    columns["held-out score"] = [f"{trial.score:.4f}" for trial in tried]
    said = verdict(policy)
    data = {"task": task, "policy": policy.policy, "verdict": said, "trials": [asdict(m) for m in manifests]}
    emit(data, as_json, concluded(columns, {method: said}, _then(task), [method] if alarm(policy) else []))


def _known(store: PolicyStore, wanted: PolicyRef, like: Manifest) -> Manifest | None:
    """A version of the policy that was trained on the same data and base with the same options, if there is one."""
    manifests = (read_manifest(store.path(ref)) for ref in store.versions(wanted.task, wanted.name))
    return next((known for known in manifests if all(known.alike(like).values())), None)


def _train(ground: Ground, resume: bool) -> Manifest:
    from redraft.train.publish import train_version

    store, task, method = PolicyStore(ground.edits.root), ground.edits.task, ground.options.method
    interrupted = store.partial(task, method) if resume else None
    if interrupted and (broken := damaged(partial_of(store.path(interrupted)))):
        usable = checkpoints(partial_of(store.path(interrupted)))
        names, further = ", ".join(path.name for path in broken), usable[-1].name if usable else "the start"
        note(f"{names} of {interrupted} cannot be read: going on from {further}")
    reference = interrupted or store.next(task, method)
    if resume and interrupted is None:
        begun = new_manifest(str(reference), ground.base, ground.data.counts, ground.options)
        if (known := _known(store, reference, begun)) is not None:
            note(f"{known.policy} is complete: nothing to resume")
            return known
        note(f"nothing to resume: {task}/{method} has no interrupted run; training {reference} from the start")
    try:
        run = replace(ground.run(store.path(reference), reference), on_log=_on_log)
        return train_version(run, store.path(reference), resume=resume, measured=ground.measured)
    except KeyboardInterrupt:
        partial = partial_of(store.path(reference))
        note(f"stopped; the run is kept in {partial}: repeat the command with --resume to go on")
        raise


def _on_log(line: Mapping[str, float]) -> None:
    """Say after each epoch how far the two texts have moved: DPO's failure must be seen while it happens."""
    if "eval_nll" not in line:
        return
    moved = [
        f"{name} {line[f'eval_{name}_above_reference']:+.1f}"
        for name in ("chosen", "rejected")
        if f"eval_{name}_above_reference" in line
    ]
    priced = [f"edit cost {line['eval_edit_cost']:.3f}"] if "eval_edit_cost" in line else []
    parts = [f"epoch {line['epoch']:.2g}", *priced, f"nll {line['eval_nll']:.3f}", *moved]
    note(f"held out: {', '.join(parts)}" + (" nats against the reference" if moved else ""))
    if "eval_own_cost" in line:
        kl, cost, below = line["eval_own_kl"], line["eval_own_cost"], line.get("eval_own_below_zero", 0.0)
        clamped = f" ({below:.0%} predicted below 0, counted as 0)" if below else ""
        note(
            f"its own answers: predicted to cost at most {cost:.3f}{clamped}, KL {kl:.2f} nats; "
            "only edits tell the real cost"
        )


_IN_WORDS = {name for name, default in TrainOptions().as_dict().items() if isinstance(default, str)}


def _values(over: Sequence[str] | None) -> Mapping[str, Sequence[float | str]]:
    values: dict[str, Sequence[float | str]] = {}
    for text in over or ():
        name, _, tried = text.partition("=")
        try:
            values[name] = tried.split(",") if name in _IN_WORDS else [float(value) for value in tried.split(",")]
        except ValueError as error:
            raise DataError(f"--over {text!r}: expected NAME=NUMBER,NUMBER, e.g. learning_rate=1e-4,5e-4") from error
    return values


def _emit(task: str, manifests: Sequence[Manifest], left: Mapping[str, str], as_json: bool) -> None:
    """Show a row and a sentence for each policy, and for each method that was ``left`` out.

    The edit cost there chose the epoch; the sentence has what was measured on other edits.
    """
    titles = {
        "edit_cost": "edit cost",
        "nll": "nll",
        "prefers_edit": "prefers edit",
        "chosen_above_reference": "chosen (nats)",
        "rejected_above_reference": "rejected (nats)",
    }
    columns: dict[str, Sequence[object]] = {"policy": [*(m.policy.removeprefix(f"{task}/") for m in manifests), *left]}
    none = [number(None)] * len(left)
    columns |= {title: [*(number(m.metrics.get(name)) for m in manifests), *none] for name, title in titles.items()}
    columns["seconds"] = [*(f"{m.seconds:.0f}" for m in manifests), *none]
    verdicts = {m.options["method"]: verdict(m) for m in manifests}
    policies = [asdict(m) | {"verdict": verdicts[m.options["method"]]} for m in manifests]
    refused = [{"method": method, "reason": reason} for method, reason in left.items()]
    said = verdicts | {methods: f"not trained: {reason}" for methods, reason in _by_reason(left).items()}
    best, why = recommended(manifests) or (None, "")
    then = _then(task) if manifests else f"redraft diagnose {task}, to see what this log lacks"
    alarms = [m.options["method"] for m in manifests if alarm(m)]
    if len(manifests) > 1 and why:
        said["recommended"] = why
    data = {"task": task, "policies": policies, "left_out": refused, "recommended": best}
    emit(data, as_json, concluded(columns, said, then, alarms))


def _by_reason(left: Mapping[str, str]) -> dict[str, str]:
    """Methods left out for the same reason, named together → that reason."""
    return {", ".join(method for method in left if left[method] == why): why for why in left.values()}


def _then(task: str) -> str:
    return f"redraft evaluate {task} --holdout FILE, to see how near each policy writes to later edits"
