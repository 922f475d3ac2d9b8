"""All cells of an experiment, as the paper's protocol has it: log, choose hyperparameters, train, serve and price.

What a run needs is derived from the rows it has: a complete cell is passed over, an answer that a row holds is not
made again, and hyperparameters that were chosen stay chosen. What is drawn from π_ref depends on task and seed alone
and is shared by training users. Cells come seed by seed, so that a run that stops early has all settings of the first.
Left out: selectors, which replay on the rows (``redraft bench report``).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from redraft.bench.cell import Answers, Setting, answer, counter, learn, log_edits, price
from redraft.bench.experiment import AnyExperiment, Experiment
from redraft.bench.folder import RunFolder, read_lines, write_lines
from redraft.bench.tasks import Split, split
from redraft.costs import get_cost
from redraft.errors import ConfigError
from redraft.log import EditLog
from redraft.policies.base import BASE
from redraft.policies.store import PolicyStore
from redraft.train.options import TrainOptions
from redraft.types import Context, Decoding, Interaction, PolicyRef
from redraft.users.catalogue import Endpoint, get_user

if TYPE_CHECKING:
    from redraft.bench.matrix import MatrixRow
    from redraft.lm.load import Base
    from redraft.policies.base import Policy
    from redraft.train.fit import Progress
    from redraft.train.runs import Manifest

__all__ = ["Outcome", "Place", "run_experiment"]

CHUNK = 256  # contexts answered between two saves
_GIVEN = {"method", "holdout", "seed", "max_prompt", "max_response"}  # not for another run to choose


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run stands: its folder, the cache of models, and the data sets of ``$REDRAFT_DATA`` if there are any."""

    out: Path
    cache: Path
    data: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What there is after a run. ``settings`` has the mean cost of every policy in the rows, over all seeds."""

    cells: int
    left: list[str]
    settings: list[dict[str, Any]]


def run_experiment(
    experiment: AnyExperiment, place: Place, *, progress: Progress, command: str, minutes: float | None = None
) -> Outcome:
    """Run what is left of an experiment; after ``minutes`` no further cell is begun.

    An ablation or a comparison of costs only has its description written: its rows are another run's.

    Raises ``ConfigError`` when the folder holds another run or cannot be written, or a user or a task is not to be
    had, and whatever the steps of a cell raise.
    """
    from redraft.train.runs import versions

    folder = RunFolder(place.out)
    about = {"command": command, "versions": versions()}
    if not isinstance(experiment, Experiment):
        folder.claim(experiment.model_dump(mode="json"), about)
        return Outcome(0, [], [])
    run = _Run(experiment, folder, place, progress)
    folder.claim(experiment.model_dump(mode="json"), about)
    deadline = time.monotonic() + 60 * minutes if minutes is not None else float("inf")
    with folder.appending():
        left: list[str] = []
        for setting in run.settings:
            if run.missing(setting) and time.monotonic() < deadline:
                run.cell(setting)
            if run.missing(setting):
                left.append(str(setting))
            else:
                progress("cells", run.settings.index(setting) + 1 - len(left), len(run.settings))
        return Outcome(len(run.settings), left, _means(folder.rows()))


class _Run:
    def __init__(self, experiment: Experiment, folder: RunFolder, place: Place, progress: Progress) -> None:
        self.experiment, self.folder, self.place, self.progress = experiment, folder, place, progress
        self.cost = get_cost(experiment.cost)
        self.arms = (BASE, *experiment.methods)
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
            gc.collect()  # a host's base model sits in reference cycles

    def contexts(self, setting: Setting) -> Split:
        sizes = self.experiment.sizes.of(setting.task)
        return split(setting.task, *sizes, seed=setting.seed, data=self.place.data)

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
        """Log, train and serve. Every cell loads the base model anew: a host takes it over for good."""
        from redraft.lm.load import load_base

        base = load_base(self.experiment.model, self.place.cache)
        self.folder.identify(base.identity)
        if BASE in self.missing(setting):
            self.append(setting, BASE, contexts.online, self.shared(base, setting, "base", contexts.online))
        methods = self.missing(setting)
        folders = self.train(base, setting, contexts, methods) if methods else {}
        host = self.host(base, "serve", len(folders) * len(contexts.online))
        for method, folder in folders.items():
            answers = answer(host.load(method, folder), contexts.online, self.decoding())
            self.append(setting, method, contexts.online, answers)

    def train(self, base: Base, setting: Setting, contexts: Split, methods: Sequence[str]) -> dict[str, Path]:
        """One policy per method, from the same split and the same reference: folders by method."""
        from redraft.train.fit import Run, prepare

        interactions = self.log(base, setting, [*contexts.train, *contexts.validation])
        store = PolicyStore(self.folder.workplace(setting) / "policies")
        data = prepare(interactions, base, self.experiment.options(setting.task, "early", setting.seed))
        folders: dict[str, Path] = {}
        for method in methods:
            reference, candidates = PolicyRef(setting.task, method, 1), self.candidates(setting, method)
            folders[method] = store.path(reference)
            run = Run(base, data, candidates[0], folders[method], str(reference), self.place.cache, self.progress)
            manifests = learn(run, candidates, folders[method])
            self.folder.add_training([_row(setting, m, chosen=m is manifests[0]) for m in manifests])
        return folders

    def candidates(self, setting: Setting, method: str) -> list[TrainOptions]:
        """What to train: as chosen before for this setting, by this run or another, else the grid to choose from."""
        from redraft.train.sweep import grid

        options = self.experiment.options(setting.task, method, setting.seed)
        chosen = _chosen(self.folder.training(), setting, method) or _chosen(self.chosen, setting, method)
        if chosen is not None:
            return [replace(options, **{k: v for k, v in chosen.items() if k not in _GIVEN})]
        if self.experiment.options_from is not None:
            raise ConfigError(f"{self.experiment.options_from}: no options for {method} on {setting.task}: train there")
        return grid(options, self.experiment.sweep.get(method, {}))

    def log(self, base: Base, setting: Setting, contexts: Sequence[Context]) -> list[Interaction]:
        def respond(missing: Sequence[Context]) -> list[str]:
            answers = self.shared(base, setting, "log", contexts).responses
            by_id = {context.id: response for context, response in zip(contexts, answers, strict=True)}
            return [by_id[context.id] for context in missing]

        place = self.folder.workplace(setting)
        place.mkdir(parents=True, exist_ok=True)
        with EditLog(f"sqlite:///{place / 'redraft.db'}", cost_of=lambda _: self.cost) as log:
            return log_edits(
                log,
                contexts,
                respond,
                self.users[setting.task, setting.train_user],
                task=setting.task,
                model=base.identity,
                decoding=self.decoding(setting.seed, temperature=1.0),
                threads=self.experiment.threads,
            )

    def shared(self, base: Base, setting: Setting, what: str, contexts: Sequence[Context]) -> Answers:
        """What π_ref answers: ``log`` sampled (coverage), ``base`` greedily; made once for a seed and a task."""
        file = self.folder.shared(setting) / f"{what}.jsonl"
        done = read_lines(file)
        decoding = self.decoding(setting.seed, temperature=1.0) if what == "log" else self.decoding()
        policy: Policy = self.host(base, what, len(contexts) - len(done)).policy()
        for start in range(len(done), len(contexts), CHUNK):
            part = contexts[start : start + CHUNK]
            made = answer(policy, part, decoding)
            for context, response in zip(part, made.responses, strict=True):
                done.append({"context_id": context.id, "response": response, "seconds": made.seconds})
            write_lines(file, done)
        return Answers(tuple(row["response"] for row in done), round(fmean(row["seconds"] for row in done), 4))

    def host(self, base: Base, what: str, total: int) -> Any:
        from redraft.policies.adapter import AdapterHost

        decoding = self.experiment.decoding
        return AdapterHost(
            base,
            batch_size=decoding.batch_size,
            max_prompt=decoding.max_prompt,
            on_batch=counter(self.progress, what, total),
        )

    def decoding(self, seed: int = 0, *, temperature: float = 0.0) -> Decoding:
        return Decoding(self.experiment.decoding.max_new_tokens, temperature, seed)


def _rows_of(path: Path | None) -> list[MatrixRow]:
    rows = [] if path is None else RunFolder(path).rows()
    if path is not None and not rows:
        raise ConfigError(f"responses_from = {path}: there are no rows: run that experiment first")
    return rows


def _training_of(path: Path | None) -> list[dict[str, Any]]:
    rows = [] if path is None else RunFolder(path).training()
    if path is not None and not rows:
        raise ConfigError(f"options_from = {path}: nothing was trained there: run that experiment first")
    return rows


def _chosen(training: Sequence[Mapping[str, Any]], setting: Setting, method: str) -> Mapping[str, Any] | None:
    """Options chosen for this training user, or else for one that it is made of (``strong+noise=0.3``, a mixture)."""
    parts = [part.strip().split()[-1].partition("+")[0] for part in setting.train_user.split(";")]
    for user in dict.fromkeys((setting.train_user, *parts)):
        wanted = (setting.task, user, method, True)
        for row in training:
            if (row["task"], row["train_user"], row["method"], row["chosen"]) == wanted:
                return row["options"]
    return None


def _row(setting: Setting, manifest: Manifest, *, chosen: bool) -> dict[str, Any]:
    """A row of ``training.jsonl``."""
    return {
        **asdict(setting),
        "method": manifest.options["method"],
        "chosen": chosen,
        "status": manifest.status,
        "options": manifest.options,
        "metrics": manifest.metrics,
        "history": manifest.history,
        "seconds": manifest.seconds,
        "data": manifest.data,
    }


def _means(rows: Sequence[MatrixRow]) -> list[dict[str, Any]]:
    costs: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for row in rows:
        setting = costs.setdefault((row.task, row.train_user, row.test_user), {})
        setting.setdefault(row.policy, []).append(row.cost)
    return [
        {"task": task, "train_user": train, "test_user": test, "mean_cost": {p: fmean(c) for p, c in found.items()}}
        for (task, train, test), found in costs.items()
    ]
