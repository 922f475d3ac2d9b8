"""Make what a cell's arms answer: write logs, learn from them, serve.

Every arm is made from what earlier arms left: the base model writes the first log; an arm that others go on from writes
a second one, on contexts of its own, edited by the same user. Policies, logs and cost models are kept in the cell's
workplace and made once. Only one thing at a time has its layers in the base model, so that there is one in memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from redraft.errors import ConfigError
from redraft.lab.bench.cell import Answers, Setting, answer, log_edits
from redraft.lab.bench.experiment import CANDIDATE, Arm, Experiment
from redraft.lab.bench.folder import CostModelRow, Prediction, RunFolder, TrainedRun, read_lines, write_lines
from redraft.log import EditLog
from redraft.policies.base import BASE
from redraft.policies.best_of import agreed, reranked
from redraft.policies.store import PolicyStore
from redraft.train.options import RL, SHARED, TrainOptions
from redraft.train.run import counter
from redraft.types import Context, Decoding, Interaction, PolicyRef

if TYPE_CHECKING:
    from redraft.costs import Cost
    from redraft.lab.bench.tasks import Split
    from redraft.lab.users import User
    from redraft.lm.load import Base
    from redraft.policies.adapter import AdapterHost, AdapterPolicy
    from redraft.train.cost_run import Bound
    from redraft.train.dataset import Dataset
    from redraft.train.run import Answering, Progress
    from redraft.train.runs import Manifest

__all__ = ["Made", "Maker"]

CHUNK = 256  # contexts answered between two saves
ONLINE = 1_000  # apart from a seed that a log is written with
HOLDOUT = 0.25  # of a log's contexts, to measure its cost model on; then it learns from all


@dataclass(frozen=True)
class Made:
    """An arm's answers, those it chose among by name, and what a cost model predicted of them."""

    answers: Answers
    candidates: Mapping[str, Answers] = field(default_factory=dict[str, Answers])
    predictions: Sequence[Prediction] = ()


@dataclass
class Maker:
    """One cell in the making. ``known`` gives an earlier arm's answers to the online contexts."""

    experiment: Experiment
    folder: RunFolder
    cache: Path
    progress: Progress
    cost: Cost
    user: User
    chosen: Sequence[TrainedRun]
    setting: Setting
    contexts: Split
    base: Base
    known: Callable[[str], Answers | None]
    _bounds: dict[str, Bound] = field(default_factory=dict[str, "Bound"])

    def make(self, name: str) -> Made:
        """Make what an arm answers to the online contexts."""
        online, arm = self.contexts.online, self.arm(name)
        if name == BASE:
            return Made(self.shared("base", online))
        if arm.method is None:
            return self.rerank(name, arm) if arm.best_of else self.sample(name, arm)
        with self.serving(name, f"serve {name}", len(online)) as (policy, _):
            answers = answer(policy, online, self.decoding())
        if arm.method != RL:
            return Made(answers)
        bound = self.bound(arm.writer, self.options(name).pessimism)
        before = self.known(arm.start)
        told = {name: answers} | ({} if before is None else {arm.start: before})
        return Made(answers, predictions=self.predicted(name, told, bound))

    def sample(self, name: str, arm: Arm) -> Made:
        """Let another arm's policy answer at a temperature of its own."""
        online = self.contexts.online
        with self.serving(arm.of, f"serve {name}", len(online)) as (policy, _):
            return Made(answer(policy, online, self.served(arm)))

    def served(self, arm: Arm) -> Decoding:
        """How an arm that is another one's policy answers; its samples are not those of a log."""
        return self.decoding(self.setting.seed + ONLINE if arm.temperature else 0, temperature=arm.temperature or 0.0)

    def rerank(self, name: str, arm: Arm) -> Made:
        """Choose among N answers of another arm: by consensus, or a cost model of its own log, else of its start's."""
        assert arm.best_of is not None
        messages = [context.messages for context in self.contexts.online]
        bound = None if arm.by == "consensus" else self.bound(self.writer(arm.of), arm.pessimism)
        with self.serving(arm.of, f"serve {name}", arm.best_of * len(messages)) as (policy, host):
            if bound is None:
                best = agreed(policy, arm.best_of, self.cost)
            else:
                best = reranked(host, policy, arm.best_of, bound)
            started = time.perf_counter()
            drawn = best.candidates(messages, self.served(arm))
            chosen = best.choose(messages, drawn)
        seconds = round((time.perf_counter() - started) / max(1, len(messages)), 4)
        candidates = {f"{name}{CANDIDATE}{k}": Answers(tuple(texts), seconds) for k, texts in enumerate(drawn)}
        predictions = () if bound is None else self.predicted(name, candidates, bound)
        return Made(Answers(tuple(chosen), seconds), candidates, predictions)

    def arm(self, name: str) -> Arm:
        """An arm as the experiment describes it; a method's name stands for itself."""
        return self.experiment.arms.get(name) or Arm(method=None if name == BASE else name)

    def writer(self, name: str) -> str:
        """Whose log tells best what this arm's answers cost: its own, where others go on from it, or its start's."""
        if name == BASE or any(arm.writer == name for arm in self.experiment.arms.values()):
            return name
        return self.writer(self.arm(name).writer)

    def policy(self, name: str) -> Path:
        """The folder of an arm's policy, trained if it is not there; its trials are rows of ``training.jsonl``."""
        from redraft.train.run import Run

        reference = PolicyRef(self.setting.task, name, 1)
        folder = PolicyStore(self.place / "policies").path(reference)
        arm, candidates = self.arm(name), self.candidates(name)
        start = None if arm.start == BASE else self.policy(arm.start)
        options = candidates[0]
        interactions = self.log(arm.writer)
        run = Run(
            self.base, self.data(interactions, arm, options, start), options, folder, str(reference), self.cache,
            self.progress, start=start, answering=self.answering, keep_epochs=self.experiment.keep_epochs,
        )  # fmt: skip
        if arm.method == RL:
            from redraft.train.rl import priced_run

            run = priced_run(run, interactions, self.bound(arm.writer, options.pessimism))
        from redraft.lab.bench.learn import learn

        manifests = learn(run, candidates, folder)
        self.folder.add_training([_row(self.setting, name, m, chosen=m is manifests[0]) for m in manifests])
        return folder

    @cached_property
    def answering(self) -> Answering:
        """How all of the cell's policies answer: what they start from is asked once."""
        from redraft.train.run import Answering

        return Answering(self.cost, self.decoding())

    def data(self, interactions: Sequence[Interaction], arm: Arm, options: TrainOptions, start: Path | None) -> Dataset:
        """The split and tokenised log, with what eq. 6 needs where it is to be solved."""
        from redraft.train.dataset import prepare

        if arm.method != RL:
            return prepare(interactions, self.base, options)
        from redraft.train.rl import prepare_rl

        bound = self.bound(arm.writer, options.pessimism)
        advance = counter(self.progress, "samples", options.samples * len(interactions))
        return prepare_rl(interactions, bound, options, self.cache, start=start, on_batch=advance)

    def options(self, name: str) -> TrainOptions:
        """What an arm is trained with where nothing is swept."""
        arm = self.arm(name)
        assert arm.method is not None
        given = self.experiment.options(self.setting.task, arm.method, self.setting.seed)
        return replace(given, start="" if arm.start == BASE else arm.start, **self.experiment.typed(arm.options))

    def candidates(self, name: str) -> list[TrainOptions]:
        """What to train: as chosen before for this setting, by this run or another, else the grid to choose from.

        An arm has its method's options but for those that it names.
        """
        from redraft.train.sweep import grid

        options, experiment, arm = self.options(name), self.experiment, self.arm(name)
        assert arm.method is not None
        own = _chosen(self.folder.training(), self.setting, arm.method)
        chosen = own if own is not None else _chosen(self.chosen, self.setting, arm.method)
        if chosen is not None:
            known = TrainOptions().as_dict() | dict(chosen)  # an option younger than the row had its default
            return [replace(options, **{k: v for k, v in known.items() if k not in SHARED.union(arm.options)})]
        if name in experiment.arms:
            return [options]
        if experiment.options_from is not None:
            raise ConfigError(f"{experiment.options_from}: no options for {name} on {self.setting.task}: train there")
        return grid(options, experiment.sweep.get(name, {}))

    def log(self, writer: str) -> list[Interaction]:
        """The edits of what an arm wrote: the base model on the contexts to learn on, others on the second ones."""
        first = writer == BASE
        contexts = [*self.contexts.train, *self.contexts.validation] if first else self.contexts.second
        sampled = self.decoding(self.setting.seed, temperature=1.0)

        def respond(missing: Sequence[Context]) -> Sequence[str]:
            if first:
                answers = self.shared("log", contexts).responses
                by_id = {context.id: response for context, response in zip(contexts, answers, strict=True)}
                return [by_id[context.id] for context in missing]
            with self.serving(writer, "log", len(missing)) as (policy, _):
                return answer(policy, missing, sampled).responses

        self.place.mkdir(parents=True, exist_ok=True)
        file = self.place / ("redraft.db" if first else f"redraft-{writer}.db")
        with EditLog(f"sqlite:///{file}", cost_of=lambda _: self.cost) as log:
            return log_edits(
                log, contexts, respond, self.user, task=self.setting.task, model=self.base.identity, policy=writer,
                decoding=sampled, threads=self.experiment.threads,
            )  # fmt: skip

    def bound(self, writer: str, pessimism: float) -> Bound:
        """What answers like those of a log cost, predicted and bounded; how well is a row of ``cost_models.jsonl``."""
        from redraft.train.cost_run import Bound, Features, learn_cost

        if writer not in self._bounds:
            limits, cell = self.experiment.decoding, self.setting
            log = self.log(writer)
            advance = counter(self.progress, "reading", len(log))
            features = Features(self.base, self.cache, limits.max_prompt, limits.max_new_tokens + 1, advance)
            run = learn_cost(log, features, self.cost, holdout=HOLDOUT, seed=cell.seed)
            kappa, choice = run.model.kappa, asdict(run.model.choice)  # pyright: ignore[reportAttributeAccessIssue]
            row = CostModelRow(
                **asdict(cell), writer=writer, kappa=kappa, choice=choice, heldout=asdict(run.heldout),
                seconds=run.seconds,
            )  # fmt: skip
            self.folder.add_cost_models([row])
            self._bounds[writer] = Bound(run.model, replace(features, on_batch=None))
        return replace(self._bounds[writer], pessimism=pessimism)

    def predicted(self, name: str, told: Mapping[str, Answers], bound: Bound) -> list[Prediction]:
        """What the cost model that made an arm predicts of answers: f̂, and f̄ − f̂ as ``bonus``."""
        messages, cell = [context.messages for context in self.contexts.online], self.setting
        rows: list[Prediction] = []
        for policy, answers in told.items():
            mean, bonus = bound.predict(messages, answers.responses)
            for t, (m, b) in enumerate(zip(mean.tolist(), bonus.tolist(), strict=True), 1):
                told_so = (name, policy, t, round(m, 5), round(b, 5), bound.pessimism)
                rows.append(Prediction(cell.seed, cell.task, cell.train_user, *told_so))
        return rows

    def shared(self, what: str, contexts: Sequence[Context]) -> Answers:
        """What π_ref answers: ``log`` sampled (coverage), ``base`` greedily; made once for a seed and a task."""
        file = self.folder.shared(self.setting) / f"{what}.jsonl"
        done = read_lines(file)
        decoding = self.decoding(self.setting.seed, temperature=1.0) if what == "log" else self.decoding()
        with self.serving(BASE, what, len(contexts) - len(done)) as (policy, _):
            for start in range(len(done), len(contexts), CHUNK):
                part = contexts[start : start + CHUNK]
                made = answer(policy, part, decoding)
                for context, response in zip(part, made.responses, strict=True):
                    done.append({"context_id": context.id, "response": response, "seconds": made.seconds})
                write_lines(file, done)
        return Answers(tuple(row["response"] for row in done), round(fmean(row["seconds"] for row in done), 4))

    @contextmanager
    def serving(self, name: str, what: str, total: int) -> Generator[tuple[AdapterPolicy, AdapterHost]]:
        """An arm's policy and its host, which answer within the context; then the base model is free again."""
        from redraft.policies.adapter import AdapterHost

        folder = None if name == BASE else self.policy(name)
        decoding = self.experiment.decoding
        on_batch = counter(self.progress, what, total)
        host = AdapterHost(self.base, batch_size=decoding.batch_size, max_prompt=decoding.max_prompt, on_batch=on_batch)
        try:
            yield host.policy() if folder is None else host.load(name, folder), host
        finally:
            host.close()

    @property
    def place(self) -> Path:
        """Where this cell keeps what it makes."""
        return self.folder.workplace(self.setting)

    def decoding(self, seed: int = 0, *, temperature: float = 0.0) -> Decoding:
        """As the experiment says; rounds are answered greedily."""
        given = self.experiment.decoding
        return Decoding(given.max_new_tokens, temperature, seed, given.precision)


def _chosen(training: Sequence[TrainedRun], setting: Setting, arm: str) -> Mapping[str, object] | None:
    """Options chosen for this training user, or else for one that it is made of (``strong+noise=0.3``, a mixture)."""
    parts = [part.strip().split()[-1].partition("+")[0] for part in setting.train_user.split(";")]
    for user in dict.fromkeys((setting.train_user, *parts)):
        wanted = (setting.task, user, arm, True)
        for row in training:
            if (row.task, row.train_user, row.arm or row.method, row.chosen) == wanted:
                return row.options
    return None


def _row(setting: Setting, arm: str, manifest: Manifest, *, chosen: bool) -> TrainedRun:
    """A row of ``training.jsonl``."""
    return TrainedRun(
        **asdict(setting), arm=arm, method=manifest.options["method"], chosen=chosen, status=manifest.status,
        options=manifest.options, metrics=manifest.metrics, history=manifest.history, seconds=manifest.seconds,
        data=manifest.data,
    )  # fmt: skip
