"""All cells of an experiment, as the paper's protocol has it: log, choose hyperparameters, train, serve and price.

What a run needs is derived from the rows it has: a complete cell is passed over, an answer that a row holds is not
made again, and hyperparameters that were chosen stay chosen. What is drawn from π_ref depends on task and seed alone
and is shared by training users. Cells come seed by seed, so that a run that stops early has all settings of the first.
How an arm comes to its answers is ``maker.py``'s. Left out: selectors, which replay on the rows
(``redraft bench report``).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from redraft.costs import get_cost
from redraft.errors import ConfigError
from redraft.lab.bench.cell import Answers, Setting, price
from redraft.lab.bench.experiment import CANDIDATE, AnyExperiment, Experiment
from redraft.lab.bench.folder import RunFolder, TrainedRun
from redraft.lab.bench.matrix import MatrixRow, grouped
from redraft.lab.bench.tasks import Split, lacking, split
from redraft.lab.users.catalogue import Endpoint, get_user
from redraft.types import Context

if TYPE_CHECKING:
    from redraft.train.run import Progress

__all__ = ["Outcome", "Place", "run_experiment"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run stands: its folder, the cache of models, and the data sets of ``$REDRAFT_DATA`` if there are any."""

    out: Path
    cache: Path
    data: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What there is after a run: how many cells it has, those that are left, and mean costs over the rows' seeds.

    ``left_out`` has a sentence for every task that could not run for want of its data.
    """

    cells: int
    left: list[str]
    settings: list[MeanCosts]
    left_out: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class MeanCosts:
    """Mean cost of every policy in one setting under one test user."""

    task: str
    train_user: str
    test_user: str
    mean_cost: Mapping[str, float]


def run_experiment(
    experiment: AnyExperiment, place: Place, *, progress: Progress, command: str, minutes: float | None = None
) -> Outcome:
    """Run what is left of an experiment; after ``minutes`` no further cell is begun.

    A task whose data is not there is left out, unless there is nothing else to do. An ablation or a comparison of costs
    only has its description written: its rows are another run's.

    Raises ``ConfigError`` when the folder holds another run or cannot be written, or a user or a task is not to be
    had, and whatever the steps of a cell raise.
    """
    from redraft.train.runs import versions

    folder = RunFolder(place.out)
    about = {"command": command, "versions": versions()}
    if not isinstance(experiment, Experiment):
        folder.claim(experiment.model_dump(mode="json"), about)
        return Outcome(0, [], [])
    run = _Cells(experiment, folder, place, progress)
    folder.claim(experiment.model_dump(mode="json"), about)
    deadline = time.monotonic() + 60 * minutes if minutes is not None else float("inf")
    with folder.appending():
        left: list[str] = []
        unfinished = [setting for setting in run.settings if run.missing(setting)]
        lacks = {task: lacking(task, place.data) for task in dict.fromkeys(setting.task for setting in unfinished)}
        if len(unfinished) == len(run.settings) and all(lacks.values()):
            raise ConfigError("; ".join(lacks.values()))
        for setting in run.settings:
            if setting in unfinished and not lacks[setting.task] and time.monotonic() < deadline:
                run.cell(setting)
            if run.missing(setting):
                left.append(str(setting))
            else:
                progress("cells", run.settings.index(setting) + 1 - len(left), len(run.settings))
        left_out = [f"left out: {said}" for said in lacks.values() if said]
        return Outcome(len(run.settings), left, _means(folder.rows()), left_out)


class _Cells:
    """The cells of an experiment, made one by one into its folder."""

    def __init__(self, experiment: Experiment, folder: RunFolder, place: Place, progress: Progress) -> None:
        self.experiment, self.folder, self.place, self.progress = experiment, folder, place, progress
        self.cost = get_cost(experiment.cost)
        self.arms = experiment.names
        self.settings = [
            Setting(seed, task, user)
            for seed in experiment.seeds
            for task in experiment.tasks
            for user in experiment.train_users
        ]
        endpoints = {name: Endpoint(**found.model_dump()) for name, found in experiment.endpoints.items()}
        trained = () if experiment.responses_from else experiment.train_users
        self.users = {
            (task, user): get_user(task, user, endpoints, cache=place.cache)
            for task in experiment.tasks
            for user in (*trained, *experiment.test_users)
        }
        self.source = _rows_of(experiment.responses_from)
        self.chosen = _training_of(experiment.options_from)

    def missing(self, setting: Setting) -> list[str]:
        """Arms of which rows are missing."""
        done = {row.cell for row in self.folder.rows()}
        _, _, online = self.experiment.sizes.of(setting.task)
        key = (setting.seed, setting.task, setting.train_user)
        return [
            arm
            for arm in self.arms
            if any((*key, u, t, arm) not in done for u in self.experiment.test_users for t in range(1, online + 1))
        ]

    def cell(self, setting: Setting) -> None:
        """Make the rows of a cell that are missing, without a model where rows hold the answers."""
        contexts = self.contexts(setting)
        for arm in self.missing(setting):
            if (answers := self.known(setting, arm, contexts.online)) is not None:
                self.append(setting, arm, contexts.online, answers)
        if self.experiment.responses_from is None and self.missing(setting):
            self.make(setting, contexts)
            gc.collect()  # a model that had adapters sits in reference cycles

    def contexts(self, setting: Setting) -> Split:
        sizes = self.experiment.sizes
        second = sizes.further(setting.task)
        return split(setting.task, *sizes.of(setting.task), second, seed=setting.seed, data=self.place.data)

    def known(self, setting: Setting, arm: str, online: Sequence[Context]) -> Answers | None:
        """The answers of an arm that rows hold, this run's or those of ``responses_from``, if all are there."""
        wanted = (setting.seed, setting.task, setting.train_user, arm)
        rows = {
            row.t: row
            for row in [*self.source, *self.folder.rows()]
            if (row.seed, row.task, row.train_user, row.policy) == wanted
        }
        if not all(t in rows for t in range(1, len(online) + 1)):
            return None
        for t, context in enumerate(online, 1):
            if rows[t].context_id != context.id:
                raise ConfigError(
                    f"{setting}: row t = {t} is about {rows[t].context_id}, the task gives {context.id}: "
                    "use the sizes that the rows were made with"
                )
        return Answers(tuple(rows[t].response for t in range(1, len(online) + 1)), rows[1].seconds)

    def append(self, setting: Setting, arm: str, online: Sequence[Context], answers: Answers) -> None:
        users = {name: self.users[setting.task, name] for name in self.experiment.test_users}
        done = {row.cell for row in self.folder.rows()}
        rows = price(setting, arm, online, answers, test_users=users, cost=self.cost, threads=self.experiment.threads)
        self.folder.append([row for row in rows if row.cell not in done])

    def make(self, setting: Setting, contexts: Split) -> None:
        """Make the arms that are missing, one after the other, so that an interruption costs one of them."""
        from redraft.lab.bench.maker import Maker
        from redraft.lm.load import load_base

        base = load_base(self.experiment.model, self.place.cache)
        self.folder.identify(base.identity)
        maker = Maker(
            experiment=self.experiment,
            folder=self.folder,
            cache=self.place.cache,
            progress=self.progress,
            cost=self.cost,
            user=self.users[setting.task, setting.train_user],
            chosen=self.chosen,
            setting=setting,
            contexts=contexts,
            base=base,
            known=partial(self.known, setting, online=contexts.online),
        )
        for arm in self.missing(setting):
            made = maker.make(arm)
            self.folder.add_predictions(made.predictions)
            for name, answers in {**made.candidates, arm: made.answers}.items():
                self.append(setting, name, contexts.online, answers)


def _rows_of(path: Path | None) -> list[MatrixRow]:
    rows = [] if path is None else RunFolder(path).rows()
    if path is not None and not rows:
        raise ConfigError(f"responses_from = {path}: there are no rows: run that experiment first")
    return rows


def _training_of(path: Path | None) -> list[TrainedRun]:
    rows = [] if path is None else RunFolder(path).training()
    if path is not None and not rows:
        raise ConfigError(f"options_from = {path}: nothing was trained there: run that experiment first")
    return rows


def _means(rows: Sequence[MatrixRow]) -> list[MeanCosts]:
    arms = [row for row in rows if CANDIDATE not in row.policy]
    by_setting = grouped(arms, lambda row: (row.task, row.train_user, row.test_user))
    return [MeanCosts(*setting, _by_policy(found)) for setting, found in by_setting.items()]


def _by_policy(rows: Sequence[MatrixRow]) -> dict[str, float]:
    return {policy: fmean(row.cost for row in own) for policy, own in grouped(rows, lambda row: row.policy).items()}
