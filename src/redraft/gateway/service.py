"""What a gateway does, without HTTP: choose a policy, let it answer, log both, and learn from the edit.

Guaranteed: a decision is durable before the first byte of its answer leaves, and an edit before it is acknowledged. An
answer by another policy than the one chosen, because that one failed, is logged as such and teaches the selector
nothing. A client that goes away in the middle of a stream leaves what it had been sent by then.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from redraft.errors import NotFoundError, RedraftError
from redraft.gateway.board import Board
from redraft.gateway.engine import Answer, Breaker, Engine, EngineError, Piece
from redraft.gateway.ledger import Ledger
from redraft.gateway.metrics import Metrics
from redraft.gateway.openai import ChatRequest
from redraft.gateway.traces import Traces
from redraft.log import EditLog
from redraft.log.canonical import canonical, check_text
from redraft.log.events import Answered, Event, Feedback, Finished, Pinned, Revised, Started, checked
from redraft.log.statistics import Tally
from redraft.select import Count, Selector
from redraft.select.base import UNITS
from redraft.types import Completion, Decision, Edit, Interaction

__all__ = ["Gateway", "Reply", "Task"]

T = TypeVar("T")

REFRESH_SECONDS = 1.0
"""How old what other processes wrote may be."""

_log = logging.getLogger("redraft.gateway")


@dataclass(frozen=True)
class Task:
    """A task as it is served. ``arms`` are what the selector chooses among; ``fallback`` answers where they fail."""

    name: str
    project: str
    selector: Selector
    engines: Mapping[str, Engine]
    fallback: str | None = None
    model: str = ""

    @property
    def policies(self) -> Sequence[str]:
        """Every policy that can be pinned."""
        return list(self.engines)


@dataclass(slots=True)
class Reply:
    """An answer on its way to a client: whole, or as ``pieces`` that end when the log has it all."""

    completion_id: str
    policy: str
    decision: Decision | None
    answer: Answer | None = None
    pieces: AsyncIterator[Piece] | None = None


@dataclass(slots=True)
class _Turn:
    """One request while it is answered."""

    task: Task
    request: ChatRequest
    decision: Decision | None
    policies: list[str]
    completion: Completion  # without policy and response

    def answered(self, policy: str, response: str) -> Completion:
        """The completion as it is logged. No log can hold half a surrogate pair, and some models say one."""
        return replace(self.completion, policy=policy, response=response.encode(errors="replace").decode())


class Gateway:
    """The tasks of a configuration over one log. Use as ``async with``; for one event loop.

    ``trained_on`` names the policies that learnt from any of some completions; ``traces`` are told of every request.
    """

    def __init__(
        self,
        log: EditLog,
        tasks: Sequence[Task],
        metrics: Metrics | None = None,
        *,
        trained_on: Callable[[Collection[str]], list[str]] = lambda _: [],
        traces: Traces | None = None,
    ) -> None:
        self.log, self.metrics, self._trained_on, self._traces = log, metrics or Metrics(), trained_on, traces
        self.tasks = {task.name: task for task in tasks}
        self._boards = {task.name: Board(task.selector) for task in tasks}
        self._breakers: dict[tuple[str, str], Breaker] = {}
        self._ledger: Ledger | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._warming: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Gateway:
        await self.refresh()
        try:
            for engine, policies in self._engines().items():
                await engine.start(policies)
        except BaseException:
            await self._close_engines()
            raise
        self._ledger = Ledger(self.log, self._settled)
        self._refreshing = asyncio.create_task(self._keep_fresh())
        self._warming = asyncio.create_task(self._warm())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
        if self._warming is not None:
            self._warming.cancel()
        if self._ledger is not None:
            await self._ledger.close()
        await self._close_engines()
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)

    def of(self, projects: str) -> list[Task]:
        """The tasks of a project."""
        return [task for task in self.tasks.values() if task.project == projects]

    async def complete(self, request: ChatRequest, project: str, user_id: str | None = None) -> Reply:
        """Answer a request, whole or streamed as it asks.

        Raises ``NotFoundError`` for a model that the project does not have, ``DataError`` for what cannot be logged,
        and ``EngineError`` when no policy answers.
        """
        turn = await self._turn(request, project, user_id)
        try:
            return await (self._streamed(turn) if request.stream else self._whole(turn))
        except RedraftError as error:
            self._traced(turn, error=error)
            raise
        finally:
            self._boards[turn.task.name].close(turn.completion.id)

    async def edit(self, edit: Edit, project: str, *, key: str | None = None) -> Revised:
        """Log what a person made of a completion. A revision below 0 asks for the next one.

        Raises ``NotFoundError``, ``ConflictError`` and ``DataError`` as the log does.
        """
        tasks = frozenset(task.name for task in self.of(project))
        outcome = await self._write(checked(Feedback(edit, project, tasks, key), self.log.max_text_chars))
        assert isinstance(outcome, Revised)
        self.metrics.edited(outcome)
        return outcome

    def erase(self, user_id: str, tasks: Sequence[str]) -> tuple[int, list[str]]:
        """Erase a person's texts in these tasks, and tell how many and which policies were trained on them."""
        policies = self._trained_on(self.log.written_by(user_id, tasks))
        return self.log.erase(user_id, tasks=tasks, policies=policies), policies

    def standing(self, task: str) -> list[dict[str, Any]]:
        """What is known of each policy of a task, and whether it answers."""
        found = self._boards[task].counts()
        return [
            {
                "policy": policy,
                "state": "active" if policy in found else "pinned only",
                "failing": not self._breaker(task, policy).closed,
                **_numbers(found.get(policy, Count())),
            }
            for policy in self.tasks[task].policies
        ]

    def board(self, task: str) -> Board:
        """The selector of a task with what it knows."""
        return self._boards[task]

    async def refresh(self) -> None:
        """Take over what other processes wrote."""
        for name, board in self._boards.items():
            board.settle(await asyncio.to_thread(self.log.statistics, name))

    async def _warm(self) -> None:
        """Load what edits are priced with before the first one waits for it, and after the server listens."""
        await asyncio.sleep(1)
        for task in self.tasks:
            with suppress(Exception):  # a Δ of one's own may not take these texts
                await asyncio.to_thread(self.log.cost_of(task).raw, "a", "b")

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                await self.refresh()
            except RedraftError as error:  # the next one may reach the log again; requests fail by themselves
                _log.warning("statistics could not be read", extra={"error": str(error)})

    async def _turn(self, request: ChatRequest, project: str, user_id: str | None) -> _Turn:
        task, pinned = self._named(request.model, project)
        board = self._boards[task.name]
        completion = canonical(Interaction(_asked(request, task, user_id)), self.log.max_text_chars).completion
        if pinned is not None:
            return _Turn(task, request, None, [pinned], completion)
        decision = board.choose(completion.id)
        if request.conversation is not None:
            decision = await self._pinned(board, task, decision, request.conversation)
        others = [task.fallback] if task.fallback not in (None, decision.chosen) else []
        return _Turn(task, request, decision, [decision.chosen, *filter(None, others)], completion)

    async def _pinned(self, board: Board, task: Task, decision: Decision, conversation: str) -> Decision:
        """The decision for a conversation: the first one made holds for all of it."""
        pin = Pinned(task.name, conversation, decision.chosen, datetime.now(UTC))
        try:
            policy = await self._write(pin)
        except BaseException:
            board.close(decision.completion_id)
            raise
        if policy == decision.chosen or policy not in board.arms:  # a retired policy ends its conversations
            return decision
        board.close(decision.completion_id)
        return board.keep(decision.completion_id, str(policy))

    async def _whole(self, turn: _Turn) -> Reply:
        async def whole(engine: Engine, policy: str) -> Answer:
            return await engine.complete(policy, turn.request)

        policy, answer = await self._ask(turn, whole)
        completion = turn.answered(policy, answer.text)
        check_text("response", completion.response, self.log.max_text_chars)
        await self._write(Answered(completion, turn.decision))
        self._traced(turn, policy, answer.usage)
        return Reply(turn.completion.id, policy, turn.decision, answer=answer)

    async def _streamed(self, turn: _Turn) -> Reply:
        async def begin(engine: Engine, policy: str) -> tuple[Piece, AsyncIterator[Piece]]:
            pieces = engine.stream(policy, turn.request)
            try:
                return await anext(pieces), pieces
            except StopAsyncIteration:
                raise EngineError(f"policy {policy} ended before it began") from None

        policy, (first, pieces) = await self._ask(turn, begin)
        await self._write(Started(turn.answered(policy, ""), turn.decision))
        return Reply(turn.completion.id, policy, turn.decision, pieces=self._logged(turn, policy, first, pieces))

    async def _logged(
        self, turn: _Turn, policy: str, first: Piece, pieces: AsyncIterator[Piece]
    ) -> AsyncIterator[Piece]:
        """Pass pieces on and log what was passed on, however it ends; the last piece follows that."""
        said, held, broken = [first.text], first, None
        try:
            async for piece in pieces:
                yield held
                held = piece
                said.append(piece.text)
        except EngineError as error:
            broken = error
        finally:
            await asyncio.shield(
                self._write(Finished(turn.completion.id, turn.answered(policy, "".join(said)).response))
            )
            self._traced(turn, policy, held.usage, broken)
        yield held
        if broken is not None:
            raise broken

    async def _ask(self, turn: _Turn, ask: Callable[[Engine, str], Awaitable[T]]) -> tuple[str, T]:
        """Let the chosen policy answer, or the fallback where it fails; raises ``EngineError`` when neither does."""
        problem = EngineError(f"task {turn.task.name}: no policy is ready", status=503)
        for policy in turn.policies:
            breaker = self._breaker(turn.task.name, policy)
            if not breaker.allows():
                problem = EngineError(f"policy {policy} has failed several times and is left alone", status=503)
                continue
            started = time.perf_counter()
            try:
                found = await ask(turn.task.engines[policy], policy)
            except EngineError as error:
                self.metrics.failed(turn.task.name, policy)
                if not error.retry:
                    raise
                breaker.failed()
                _log.warning("policy failed", extra={"policy": policy, "completion_id": turn.completion.id})
                problem = error
            else:
                breaker.succeeded()
                self.metrics.answered(turn.task.name, policy, time.perf_counter() - started)
                return policy, found
        raise problem

    def _traced(
        self,
        turn: _Turn,
        policy: str | None = None,
        usage: Mapping[str, Any] | None = None,
        error: RedraftError | None = None,
    ) -> None:
        if self._traces is not None:
            self._traces.chat(
                turn.completion.id,
                turn.request.model,
                turn.completion.created_at or datetime.now(UTC),
                policy=policy,
                chosen=turn.decision and turn.decision.chosen,
                usage=usage,
                error=error,
            )

    def _breaker(self, task: str, policy: str) -> Breaker:
        return self._breakers.setdefault((task, policy), Breaker())

    def _named(self, model: str, project: str) -> tuple[Task, str | None]:
        """The task that ``model`` names, and the policy if it pins one."""
        for task in self.of(project):
            if model == task.name:
                return task, None
            for policy in (model, model.removeprefix(f"{task.name}/")):
                if model.startswith(f"{task.name}/") and policy in task.engines:
                    return task, policy
        known = [name for task in self.of(project) for name in (task.name, *task.policies)]
        raise NotFoundError(
            f"model {model!r} does not exist: use one of {', '.join(known) or 'none, there is no task'}"
        )

    async def _write(self, event: Event) -> Any:
        assert self._ledger is not None, "a gateway is entered before it is used"
        return await self._ledger.write(event)

    def _settled(self, statistics: Mapping[str, Mapping[str, Tally]]) -> None:
        for task, found in statistics.items():
            if task in self._boards:
                self._boards[task].settle(found)

    async def _close_engines(self) -> None:
        for engine in self._engines():
            await engine.close()

    def _engines(self) -> dict[Engine, list[str]]:
        found: dict[Engine, list[str]] = {}
        for task in self.tasks.values():
            for policy, engine in task.engines.items():
                policies = found.setdefault(engine, [])
                if policy not in policies:
                    policies.append(policy)
        return found


def _asked(request: ChatRequest, task: Task, user_id: str | None) -> Completion:
    return Completion(
        id=_new_id(),
        task=task.name,
        messages=request.logged(),
        response="",
        policy="",
        model=task.model,
        user_id=user_id or request.user,
        created_at=datetime.now(UTC),
        decoding=request.decoding(),
        metadata=dict(request.metadata or {}),
    )


def _numbers(count: Count) -> dict[str, Any]:
    """Counts as JSON; the interval is the mean ± 1.96 standard errors, from the second edit on."""
    mean = count.mean if count.resolved else None
    interval = None
    if mean is not None and count.resolved > 1:
        variance = max(count.squares / UNITS**2 / count.resolved - mean**2, 0) * count.resolved / (count.resolved - 1)
        half = 1.96 * math.sqrt(variance / count.resolved)
        interval = [mean - half, mean + half]
    return {"decisions": count.decisions, "edits": count.resolved, "mean_cost": mean, "interval": interval}


def _new_id() -> str:
    """A completion id: in the order of time, so that indexes stay compact, and not to be guessed."""
    return f"chatcmpl-{time.time_ns():016x}{secrets.token_hex(8)}"
