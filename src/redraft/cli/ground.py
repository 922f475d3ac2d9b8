"""What training commands share: a log's edits, a base model, where policies and caches go, and how a result ends."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.output import note
from redraft.cli.session import LogUrl, open_log, require_task, table
from redraft.errors import ConfigError, DataError, ModelError
from redraft.policies.store import PolicyStore
from redraft.train.options import RL, TrainOptions
from redraft.types import Decoding

if TYPE_CHECKING:
    from rich.console import Console

    from redraft.costs import Cost
    from redraft.lm.load import Base
    from redraft.policies.evaluate import Measure
    from redraft.train.cost_run import Bound, LearntCost
    from redraft.train.dataset import Dataset
    from redraft.train.packing import Triple
    from redraft.train.run import Answering, Progress, Run
    from redraft.types import Interaction, PolicyRef

__all__ = [
    "Ground",
    "Model",
    "Policies",
    "Source",
    "concluded",
    "kept",
    "learn_cost_model",
    "make_ground",
    "read_edits",
]

MANY_CUT = 0.1
"""Share of texts cut at ``max_response`` from which training warns: each of them teaches no end of a turn."""
UNKNOWN = "an unknown model"
"""What ``foreign_policies`` calls the model of rows that name none."""

Limit = Annotated[int | None, typer.Option(min=2, help="Use at most so many edits, the first of the log.")]
Policies = Annotated[Path | None, typer.Option(help="Folder of policies, instead of policies.root in the settings.")]
Model = Annotated[str | None, typer.Option(help="Base model, instead of model.name in the settings.")]
LongestAnswer = Annotated[int | None, typer.Option(min=1, help="Longest answer, in tokens. Default: the task's.")]


class Precision(StrEnum):
    """What answers are computed in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


Temperature = Annotated[float | None, typer.Option(min=0.0, help="0 is greedy. Default: the task's, which is 0.")]


@dataclass(frozen=True)
class Source:
    """Options of every training command: where edits and the model come from, and where policies go."""

    limit: Limit = None
    model: Model = None
    policies: Policies = None
    log: LogUrl = None


@dataclass(frozen=True)
class Edits:
    """The edits of a task and what they are priced with."""

    task: str
    interactions: Sequence[Interaction]
    cost: Cost
    root: Path
    cache: Path
    model: str
    decoding: Decoding


@dataclass(frozen=True)
class Ground:
    """Edits, split and tokenised, with the model to train. ``options.start`` is a policy's full name here, or empty.

    ``measure`` tells how a finished run answers, ``answering`` how one in training does.
    """

    edits: Edits
    base: Base
    data: Dataset
    options: TrainOptions
    progress: Progress
    measure: Measure
    answering: Answering
    start: Path | None = None
    bound: Bound | None = None

    def run(self, folder: Path, policy: PolicyRef) -> Run:
        """A run of these options into a folder."""
        from redraft.train.run import Run

        run = Run(
            self.base, self.data, self.options, folder, str(policy), self.edits.cache, self.progress, start=self.start,
            answering=self.answering,
        )  # fmt: skip
        if self.bound is None:
            return run
        from redraft.train.rl import priced_run

        return priced_run(run, self.edits.interactions, self.bound)

    def measured(self, folder: Path) -> Mapping[str, Any]:
        """How the policy in a folder answers what this run reports on; nothing of a model that cannot answer here."""
        try:
            return self.measure(folder, self.data.reporting) if self.data.reporting else {}
        except ModelError as error:
            note(f"its answers are not measured: {error}")
            return {}

    def with_costs(self, options: TrainOptions, *, learn: bool = False) -> Ground:
        """The same with what eq. 6 asks of the data: prices by the latest cost model, or by one ``learn``t first."""
        from redraft.train.cost_run import read_bound
        from redraft.train.rl import prepare_rl
        from redraft.train.run import counter

        edits, base = self.edits, self.base
        if learn:
            learn_cost_model(
                edits, base, self.progress, max_prompt=options.max_prompt, max_response=options.max_response
            )
        bound = read_bound(edits.root, edits.task, base, edits.cache, edits.cost, pessimism=options.pessimism)
        advance = counter(self.progress, "samples", options.samples * len(edits.interactions))
        data = prepare_rl(edits.interactions, bound, options, edits.cache, start=self.start, on_batch=advance)
        return replace(self, data=data, options=options, bound=bound)


def decided(
    own: Decoding, max_new_tokens: int | None, temperature: float | None, seed: int = 0, precision: str | None = None
) -> Decoding:
    """A task's decoding, where options say nothing else."""
    said: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, "precision": precision}
    return replace(own, seed=seed, **{name: value for name, value in said.items() if value is not None})


def read_edits(task: str, source: Source) -> Edits:
    """Read the edits of a task; raises ``DataError`` without any, ``ConfigError`` where policies cannot be written."""
    from redraft.config import load_settings
    from redraft.data import LeftOut

    settings = load_settings()
    left = LeftOut(settings.cost_of)
    root = source.policies or settings.policies.root
    with open_log(source.log) as edit_log:
        require_task(edit_log, task)
        cost = edit_log.cost_of(task)
        interactions = list(islice(left.of(edit_log.interactions(task, edited_only=True)), source.limit))
    if left.counts:
        note(str(left))
    if not interactions:
        raise DataError(f"task {task!r} has no edits yet: log or import some")
    _require_writable(root)
    model = source.model or settings.model.name
    return Edits(task, interactions, cost, root, settings.cache, model, settings.decoding(task))


def make_ground(task: str, options: TrainOptions, source: Source, progress: Progress) -> Ground:
    """Read, load and prepare what a run of ``options`` needs; warns where π_ref did not write the log."""
    edits = read_edits(task, source)
    start: Path | None = None
    if options.start:
        store = PolicyStore(edits.root)
        reference = store.resolve(options.start, task)
        options, start = replace(options, start=str(reference)), store.path(reference)
    from redraft.lm.load import load_base

    base = load_base(edits.model, edits.cache)
    from redraft.lm.probe import reading_of
    from redraft.lm.reading import PACKED
    from redraft.policies.evaluate import Measure  # only now: a wrong name is reported before torch loads
    from redraft.train.dataset import foreign_policies, prepare
    from redraft.train.run import Answering

    if (way := reading_of(base.model).way) != PACKED:
        note(f"{base.name} reads pairs in another way than one packed pass: {way}")
    if options.preference_weight:
        foreign = foreign_policies(edits.interactions, base, options.start)
        _warn_of(foreign, options.start or base.identity)
    prompt, response = kept(base, options.max_prompt, options.max_response)
    options = replace(options, max_prompt=prompt, max_response=response)
    measure = Measure(base, edits.cost, edits.decoding, progress, None if start is None else (options.start, start))
    data = prepare(edits.interactions, base, options)
    _warn_of_cut([*data.train, *data.heldout], options)
    ground = Ground(edits, base, data, options, progress, measure, Answering(edits.cost, edits.decoding), start)
    return ground.with_costs(options) if options.method == RL else ground


def learn_cost_model(
    edits: Edits,
    base: Base,
    progress: Progress,
    *,
    max_prompt: int,
    max_response: int,
    holdout: float = 0.2,
    seed: int = 0,
) -> tuple[Path, LearntCost, dict[str, Any]]:
    """Learn the task's next cost model, and return its folder, how it did and its manifest."""
    from redraft.train.cost_run import Features, learn_cost, write_cost
    from redraft.train.run import counter

    store = PolicyStore(edits.root)
    folder = store.path(store.next(edits.task, "cost"))
    advance = counter(progress, "reading", len(edits.interactions))
    features = Features(base, edits.cache, *kept(base, max_prompt, max_response), advance)
    learnt = learn_cost(edits.interactions, features, edits.cost, holdout=holdout, seed=seed)
    return folder, learnt, write_cost(folder, learnt, features, edits.cost)


def kept(base: Base, prompt: int, response: int) -> tuple[int, int]:
    """How many tokens of prompt and response a model's context leaves of those asked for; says so where it is less."""
    from redraft.lm.limits import context_of, kept_within

    context = context_of(base.model)
    found = kept_within(context, prompt, response)
    if found != (prompt, response):
        note(f"{base.name} reads {context} tokens: --max-prompt {found[0]} and --max-response {found[1]} are used")
    return found


def concluded(
    rows: Mapping[str, Sequence[object]], verdicts: Mapping[str, str], then: str, alarms: Collection[str] = ()
) -> Callable[[Console], None]:
    """Draw a table, a sentence on each policy below it (red for those in ``alarms``), and the next command."""

    def render(console: Console) -> None:
        table(rows)(console)
        for name, said in verdicts.items():
            console.print(f"{name}: {said}", markup=False, style="red" if name in alarms else None)
        console.print(f"next: {then}", markup=False)

    return render


def _require_writable(root: Path) -> None:
    """Raise ``ConfigError`` unless policies can be written below ``root``, which need not exist yet."""
    there = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    try:
        TemporaryFile(dir=there).close()
    except OSError as error:
        remedy = "set [policies] root or use --policies"
        raise ConfigError(f"{root}: policies cannot be written there ({error.strerror}): {remedy}") from error


def _warn_of_cut(triples: Sequence[Triple], options: TrainOptions) -> None:
    """Warn where many edited texts are longer than what is kept of them."""
    cut = sum(triple.cut and len(triple.chosen) >= options.max_response for triple in triples)
    if cut >= max(1, MANY_CUT * len(triples)):
        lost = "no end of a turn is learnt" if cut == len(triples) else "these teach no end of a turn"
        note(
            f"warning: {cut} of {len(triples)} edited texts are longer than --max-response {options.max_response} "
            f"tokens and were cut, so {lost} and answers may not stop: raise --max-response"
        )


def _warn_of(foreign: Sequence[str], reference: str) -> None:
    """Warn of answers in the log that the reference of dpo, early and rl did not write."""
    if UNKNOWN in foreign:
        note(
            f"warning: rows of this log do not say which model wrote them, and the reference is {reference}. "
            'If it did, import rows with "model" to record that; if not, set [model] name to the one that wrote them'
        )
    if known := [name for name in foreign if name != UNKNOWN]:
        note(
            f"warning: this log was written by {', '.join(known)}, not by {reference}: preferences are measured "
            "against the wrong reference. Set [model] name to the log's own model, or use --start with its policy"
        )
