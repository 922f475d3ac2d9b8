"""From settings to a gateway: its tasks, their selectors, and what answers for each policy."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from redraft.config import Settings, TaskSettings, UpstreamSettings
from redraft.errors import ConfigError, NotFoundError
from redraft.gateway.embedded import Embedded, Precise
from redraft.gateway.engine import Engine
from redraft.gateway.journal import Journal
from redraft.gateway.reranked import Prices, Reranked
from redraft.gateway.service import Gateway
from redraft.gateway.traces import make_traces
from redraft.gateway.turn import Task
from redraft.gateway.upstream import Upstream
from redraft.log import EditLog
from redraft.policies.base import BASE
from redraft.policies.best_of import best_of
from redraft.policies.store import DEMOTED, PolicyStore
from redraft.select import SELECTORS, Selector

if TYPE_CHECKING:
    from redraft.policies.adapter import AdapterHost

__all__ = ["Engines", "make_gateway", "reload_gateway"]

_log = logging.getLogger("redraft.gateway")


def make_gateway(settings: Settings, log: EditLog, engines: Engines | None = None) -> Gateway:
    """The gateway that ``redraft.toml`` describes; nothing is loaded before it is entered.

    Raises ``ConfigError`` naming the key, the value and the remedy.
    """
    store = PolicyStore(settings.policies.root)
    tasks, journal = _tasks(settings, engines or Engines()), Journal(log.beside("streams", settings.cache))
    return Gateway(log, tasks, trained_on=store.trained_on, traces=make_traces(), journal=journal)


async def reload_gateway(gateway: Gateway, settings: Settings, engines: Engines) -> None:
    """Let a running gateway serve what the settings and the folder of policies say now.

    Taken over are tasks, policies, upstreams and decoding; the rest of ``serve``, the log and the model wait for a
    restart. Raises a ``RedraftError`` and leaves all as it was where the tasks cannot be served, and ``ConfigError``
    for another cost of a task, which the edits of this process would not follow.
    """
    for name in settings.tasks:
        if (now := gateway.log.cost_of(name).name) != settings.cost_of(name).name:
            raise ConfigError(f"tasks.{name}: edits are priced by {now!r} while this gateway runs: restart it")
    await gateway.reload(_tasks(settings, engines))


def _tasks(settings: Settings, engines: Engines) -> list[Task]:
    if not settings.tasks:
        raise ConfigError("no task to serve: name one in redraft.toml, e.g. [tasks.email]")
    store = PolicyStore(settings.policies.root)
    engine = engines.of(settings, store)
    tasks: list[Task] = []
    for name, task in settings.tasks.items():
        full = partial(_full_name, settings, store, name)
        arms = [full(policy) for policy in task.policies] or _default_arms(store, name, task.decoding.temperature)
        fallback = full(task.fallback) if task.fallback else BASE if BASE in arms else None
        answering = {policy: engine(name, policy) for policy in (*arms, fallback) if policy is not None}
        selector, model = _selector(name, task, arms), settings.model.name
        tasks.append(Task(name, task.project, selector, answering, fallback, model, task.decoding))
        if len(tasks[-1].pins) < len(answering):
            raise ConfigError(f"tasks.{name}: two policies have one full name, {', '.join(answering)}: rename one")
    return tasks


def _default_arms(store: PolicyStore, task: str, temperature: float) -> list[str]:
    """Base, and what did better on held-out edits or was promoted; the log of the process names the candidates."""
    standing = store.standing(task, temperature)
    if left := [row for row in standing if row.latest and not row.served and row.reason != DEMOTED]:
        said = ", ".join(f"{row.ref} ({row.reason})" for row in left)
        _log.info("not served: %s; redraft policies promote NAME serves one all the same", said)
    return [BASE, *(str(row.ref) for row in standing if row.served)]


def _full_name(settings: Settings, store: PolicyStore, task: str, policy: str) -> str:
    """A configured policy's name as the log keeps it: ``sft`` is the latest ``email/sft@N`` of its task ``email``."""
    reranked = best_of(policy)
    of = policy if reranked is None else reranked[0]
    if of == f"{task}/{BASE}":
        return policy.removeprefix(f"{task}/")
    if of != BASE and not any({policy, of} & set(found.models) for found in settings.serve.upstreams.values()):
        with suppress(NotFoundError):
            return f"{store.resolve(of, task)}{policy.removeprefix(of)}"
    return policy


def _selector(name: str, task: TaskSettings, arms: list[str]) -> Selector:
    options = {} if task.alpha is None else {"alpha": task.alpha}
    try:
        return SELECTORS[task.selector](arms, **options)
    except TypeError:
        raise ConfigError(f"tasks.{name}.alpha: selector {task.selector!r} has no alpha: remove it") from None


class Engines:
    """What answers, kept when the settings change: the model stays in memory, an upstream's connections stay open."""

    def __init__(self) -> None:
        self._kept: dict[str, Engine] = {}
        self._folders: dict[str, Path] = {}

    def of(self, settings: Settings, store: PolicyStore) -> Callable[[str, str], Engine]:
        """What answers for a task's policy: an upstream that names it, the one for adapters, or this process.

        A policy that is the best of several answers has an engine of its own over that one.
        """
        upstreams = settings.serve.upstreams
        self._folders.update((str(ref), store.path(ref)) for ref in store.list())
        by_policy = {policy: name for name, found in upstreams.items() for policy in found.models}
        loader = next((name for name, found in upstreams.items() if found.adapters), None)

        def engine(task: str, policy: str) -> Engine:
            if policy not in by_policy and (found := best_of(policy)) is not None:
                of, n, by = found
                embedded = self._embedded(settings)
                ready = partial(_prices, settings, task, by, embedded)
                over = engine(task, of)
                key = f"{task} {policy} {id(over)}"  # a changed upstream is another engine
                reranked = Reranked(over, of, n, ready, None if by == "consensus" else embedded)
                return self._kept.setdefault(key, reranked)
            if policy in by_policy:
                return self._upstream(by_policy[policy], upstreams[by_policy[policy]])
            if policy in self._folders and loader is not None:
                return self._upstream(loader, upstreams[loader])
            if policy == BASE or policy in self._folders:
                return self._precise(settings, settings.task(task).precision)
            known = ", ".join([BASE, *by_policy, *self._folders])
            raise ConfigError(
                f"tasks.{task}: policy {policy!r} is neither trained nor a model of an upstream: use {known}"
            )

        return engine

    def _upstream(self, name: str, found: UpstreamSettings) -> Engine:
        key = f"{name} {found.model_dump_json()}"
        if key not in self._kept:
            self._kept[key] = Upstream.of(name, found, self._folders if found.adapters else {})
        return self._kept[key]

    def _precise(self, settings: Settings, precision: str) -> Engine:
        embedded = self._embedded(settings)
        return embedded if precision == "float32" else self._kept.setdefault(precision, Precise(embedded, precision))

    def _embedded(self, settings: Settings) -> Embedded:
        """One for all: a change of the model's own settings waits for a restart."""
        serve = settings.serve
        longest = max(serve.max_new_tokens, *(settings.decoding(task).max_new_tokens for task in settings.tasks))
        embedded = self._kept.setdefault(
            "embedded",
            Embedded(
                lambda: _host(settings),
                self._folders,
                max_new_tokens=serve.max_new_tokens,
                most_new_tokens=longest,
                max_prompt_tokens=serve.max_prompt_tokens,
            ),
        )
        assert isinstance(embedded, Embedded)
        return embedded


def _prices(settings: Settings, task: str, by: str, embedded: Embedded) -> Prices:
    """What an answer should cost: by the task's latest cost model, or by the other answers."""
    from redraft.policies.best_of import task_judge

    judge = task_judge(by, task, settings, settings.policies.root, lambda: embedded.host)
    return lambda messages, texts: judge([messages], [[text] for text in texts])[:, 0].tolist()


def _host(settings: Settings) -> AdapterHost:
    from redraft.lm.load import load_base
    from redraft.policies.adapter import AdapterHost

    return AdapterHost(load_base(settings.model.name, settings.cache))
