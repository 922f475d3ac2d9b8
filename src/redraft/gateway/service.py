"""What a gateway does, without HTTP: choose a policy, let it answer, log both, and learn from the edit.

Guaranteed: a decision is durable before the first byte of its answer is sent, and an edit before it is acknowledged. An
answer by the fallback, because the chosen policy failed, is logged as such and the selector learns nothing from it.
When a client goes away in the middle of a stream, the log keeps what it had been sent.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeVar

from redraft.errors import NotFoundError, RedraftError
from redraft.gateway.board import Board
from redraft.gateway.engine import Answer, Breaker, Engine, EngineError, Piece
from redraft.gateway.ledger import Ledger
from redraft.gateway.metrics import Metrics
from redraft.gateway.openai import ChatRequest
from redraft.gateway.traces import Traces
from redraft.log import EditLog, Erased
from redraft.log.canonical import canonical, check_text
from redraft.log.events import Answered, Event, Feedback, Finished, Pinned, Revised, Started, checked
from redraft.select import Selector
from redraft.types import COST_UNIT, Completion, Count, Decision, Edit, Interaction

__all__ = ["Gateway", "Reply", "Task"]

T = TypeVar("T")

REFRESH_SECONDS = 1.0
"""How often statistics are read again, for what other processes wrote."""

_log = logging.getLogger("redraft.gateway")


@dataclass(frozen=True)
class Task:
    """A task as it is served: the selector chooses among its arms, and ``fallback`` answers where they fail.

    ``engines`` answer for the arms and the fallback, by the policies' names in the log.
    """

    name: str
    project: str
    selector: Selector
    engines: Mapping[str, Engine]
    fallback: str | None = None
    model: str = ""

    def full(self, policy: str) -> str:
        """A policy's full name, by which clients pin it: ``email/base``, ``email/sft@3``."""
        return policy if policy.startswith(f"{self.name}/") else f"{self.name}/{policy}"

    @cached_property
    def pins(self) -> Mapping[str, str]:
        """Every policy that can be pinned, by its full name."""
        return {self.full(policy): policy for policy in self.engines}


@dataclass(slots=True)
class Reply:
    """An answer on its way to a client: whole, or as ``pieces`` that end when the log has all of them."""

    completion_id: str
    task: Task
    policy: str
    decision: Decision | None
    answer: Answer | None = None
    pieces: AsyncIterator[Piece] | None = None

    @property
    def model(self) -> str:
        """Full name of the policy that answered."""
        return self.task.full(self.policy)


@dataclass(slots=True)
class _Turn:
    """One request while it is answered."""

    task: Task
    request: ChatRequest
    decision: Decision | None
    policies: list[str]
    completion: Completion  # without policy and response

    def answered(self, policy: str, response: str) -> Completion:
        """The completion as it is logged. No log can hold half a surrogate pair, but models can write one."""
        return replace(self.completion, policy=policy, response=response.encode(errors="replace").decode())


class Gateway:
    """The tasks of a configuration over one log. Use as ``async with``; for one event loop.

    ``trained_on`` lists the policies that learnt from any of some completions; ``traces`` gets every request.
    """

    def __init__(
        self,
        log: EditLog,
        tasks: Sequence[Task],
        *,
        trained_on: Callable[[Collection[str]], list[str]] = lambda _: [],
        traces: Traces | None = None,
    ) -> None:
        self.log, self.metrics, self._trained_on, self._traces = log, Metrics(), trained_on, traces
        self.tasks = {task.name: task for task in tasks}
        self._boards = {task.name: Board(task.selector) for task in tasks}
        self._breakers: dict[tuple[str, str], Breaker] = {}
        self._ledger: Ledger | None = None
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Gateway:
        await self.refresh()
        async with AsyncExitStack() as stack:
            if self._traces is not None:
                stack.push_async_callback(asyncio.to_thread, self._traces.close)
            for engine, policies in self._engines().items():
                stack.push_async_callback(engine.close)
                await engine.start(policies)
            self._ledger = Ledger(self.log, self._settled)
            stack.push_async_callback(self._ledger.close)
            for work in (self._keep_fresh(), self._warm()):
                stack.callback(asyncio.create_task(work).cancel)
            self._open = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    def of(self, project: str) -> dict[str, Task]:
        """The tasks of a project, by name."""
        return {name: task for name, task in self.tasks.items() if task.project == project}

    def models(self, project: str) -> list[str]:
        """What a request's ``model`` can be: each task, followed by its policies' full names."""
        return [name for task in self.of(project).values() for name in (task.name, *task.pins)]

    async def complete(self, request: ChatRequest, project: str) -> Reply:
        """Answer a request, whole or streamed as it asks.

        Raises ``NotFoundError`` for a model that the project does not have, ``DataError`` for what cannot be logged,
        and ``EngineError`` when no policy answers.
        """
        turn = await self._turn(request, project)
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
        feedback = Feedback(edit, project, frozenset(self.of(project)), key)
        outcome = await self._write(checked(feedback, self.log.max_text_chars))
        assert isinstance(outcome, Revised)
        self.metrics.edited(outcome)
        return outcome

    def erase(self, user_id: str, tasks: Sequence[str]) -> Erased:
        """Erase a person's texts in these tasks; returns how many, and the policies that were trained on them."""
        return self.log.erase(user_id, tasks=tasks, trained_on=self._trained_on)

    def standing(self, task: str) -> list[dict[str, Any]]:
        """What is known about each policy of a task, and whether it answers."""
        counts = self._boards[task].counts()
        return [
            {
                "policy": name,
                "state": "active" if policy in counts else "pinned only",
                "failing": not self._breaker(task, policy).closed,
                **_numbers(counts.get(policy, Count())),
            }
            for name, policy in self.tasks[task].pins.items()
        ]

    def board(self, task: str) -> Board:
        """The selector of a task and what it knows."""
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

    async def _turn(self, request: ChatRequest, project: str) -> _Turn:
        task, pinned = self._named(request.model, project)
        board = self._boards[task.name]
        completion = canonical(Interaction(_asked(request, task)), self.log.max_text_chars).completion
        if pinned is not None:
            return _Turn(task, request, None, [pinned], completion)
        decision = board.choose(completion.id)
        if request.conversation is not None:
            decision = await self._pinned(board, task, decision, request.conversation)
        policies = dict.fromkeys(filter(None, (decision.chosen, task.fallback)))
        return _Turn(task, request, decision, list(policies), completion)

    async def _pinned(self, board: Board, task: Task, decision: Decision, conversation: str) -> Decision:
        """The decision for a conversation: its first one holds for all of it."""
        pin = Pinned(task.name, conversation, decision.chosen, datetime.now(UTC))
        try:
            policy = await self._write(pin)
        except BaseException:
            board.close(decision.completion_id)
            raise
        if policy == decision.chosen or policy not in board.selector.arms:  # a retired policy ends its conversations
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
        return Reply(turn.completion.id, turn.task, policy, turn.decision, answer=answer)

    async def _streamed(self, turn: _Turn) -> Reply:
        async def begin(engine: Engine, policy: str) -> tuple[Piece, AsyncIterator[Piece]]:
            pieces = engine.stream(policy, turn.request)
            try:
                return await anext(pieces), pieces
            except StopAsyncIteration:
                raise EngineError(f"policy {turn.task.full(policy)} ended without a word") from None

        policy, (first, pieces) = await self._ask(turn, begin)
        await self._write(Started(turn.answered(policy, ""), turn.decision))
        logged = self._logged(turn, policy, first, pieces)
        return Reply(turn.completion.id, turn.task, policy, turn.decision, pieces=logged)

    async def _logged(self, turn: _Turn, policy: str, first: Piece, rest: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
        """Pass pieces on and log what was sent, however it ends; the last piece follows the log."""
        said, held, broken = [first.text], first, None
        try:
            async for piece in rest:
                yield held
                held = piece
                said.append(piece.text)
        except EngineError as error:
            broken = error
        finally:
            sent = turn.answered(policy, "".join(said)).response
            await asyncio.shield(self._write(Finished(turn.completion.id, sent)))
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
                name = turn.task.full(policy)
                problem = EngineError(f"policy {name} failed several times in a row: try again later", status=503)
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
            chosen = turn.decision and turn.decision.chosen
            self._traces.chat(turn.completion, turn.request.model, policy, chosen, usage=usage, error=error)

    def _breaker(self, task: str, policy: str) -> Breaker:
        return self._breakers.setdefault((task, policy), Breaker())

    def _named(self, model: str, project: str) -> tuple[Task, str | None]:
        """The task that ``model`` names, and the policy if it pins one."""
        for task in self.of(project).values():
            if model == task.name or model in task.pins:
                return task, task.pins.get(model)
        known = ", ".join(self.models(project))
        remedy = f"use one of {known}" if known else f"project {project!r} has no task"
        raise NotFoundError(f"model {model!r} does not exist: {remedy}")

    async def _write(self, event: Event) -> Any:
        assert self._ledger is not None, "a gateway is entered before it is used"
        return await self._ledger.write(event)

    def _settled(self, statistics: Mapping[str, Mapping[str, Count]]) -> None:
        for task, found in statistics.items():
            if task in self._boards:
                self._boards[task].settle(found)

    def _engines(self) -> dict[Engine, list[str]]:
        found: dict[Engine, dict[str, None]] = {}
        for task in self.tasks.values():
            for policy, engine in task.engines.items():
                found.setdefault(engine, {})[policy] = None
        return {engine: list(policies) for engine, policies in found.items()}


def _asked(request: ChatRequest, task: Task) -> Completion:
    return Completion(
        # in the order of time, so that indexes stay compact, and impossible to guess
        id=f"chatcmpl-{time.time_ns():016x}{secrets.token_hex(8)}",
        task=task.name,
        messages=request.logged(),
        response="",
        policy="",
        model=task.model,
        user_id=request.user,
        created_at=datetime.now(UTC),
        decoding=request.decoding(),
        metadata=dict(request.metadata or {}),
    )


def _numbers(count: Count) -> dict[str, Any]:
    """Counts as JSON; the interval is the mean ± 1.96 standard errors, from the second edit on."""
    mean = count.mean if count.resolved else None
    interval = None
    if mean is not None and count.resolved > 1:
        biased = max(count.squares / COST_UNIT**2 / count.resolved - mean**2, 0)
        variance = biased * count.resolved / (count.resolved - 1)
        half = 1.96 * math.sqrt(variance / count.resolved)
        interval = [mean - half, mean + half]
    return {"decisions": count.decisions, "edits": count.resolved, "mean_cost": mean, "interval": interval}
