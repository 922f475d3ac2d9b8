"""What a gateway does, without HTTP: choose a policy, let it answer, log both, and learn from the edit.

Guaranteed: a decision is durable before the first byte of its answer is sent, and an edit before it is acknowledged. A
policy that fails gives way to another one, and where any can answer the request is answered. An answer by the
fallback, because the chosen policy failed, is logged as such and the selector learns nothing from it. An answer that
nobody was there to receive is not logged; of a stream that ends too early the log keeps what was sent.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from redraft.errors import ConflictError, NotFoundError, RedraftError
from redraft.gateway.board import Board
from redraft.gateway.engine import Answer, Breaker, Engine, EngineError, Piece
from redraft.gateway.journal import Journal
from redraft.gateway.ledger import Ledger
from redraft.gateway.metrics import Metrics
from redraft.gateway.openai import ChatRequest
from redraft.gateway.speech import Speech, Streams
from redraft.gateway.traces import Traces
from redraft.gateway.turn import Task, Turn, make_turn
from redraft.log import EditLog, Erased
from redraft.log.events import Answered, Event, Feedback, Pinned, Revised, Started, checked
from redraft.types import Count, Decision, Edit

__all__ = ["Gateway", "Reply", "Task"]

T = TypeVar("T")

REFRESH_SECONDS = 1.0
"""How often statistics are read again, for what other processes wrote."""
_UNFIT = frozenset({400, 422})  # the request is wrong, or not for this policy, which has no tools or a short context
_BLAMELESS = frozenset({409, 413})  # says something about the request, not about the policy

_log = logging.getLogger("redraft.gateway")


@dataclass(slots=True)
class Reply:
    """An answer on its way to a client: whole, or as ``pieces`` that end when the log has all of them."""

    completion_id: str
    task: Task
    policy: str
    decision: Decision | None
    answer: Answer | None = None
    pieces: AsyncIterator[Piece] | None = None
    request_id: str = ""

    @property
    def model(self) -> str:
        """Full name of the policy that answered."""
        return self.task.full(self.policy)


class Gateway:
    """The tasks of a configuration over one log. Use as ``async with``; for one event loop.

    ``trained_on`` lists the policies that learnt from any of some completions; ``traces`` gets every request;
    ``journal`` keeps what streams say, should the process be killed.
    """

    def __init__(
        self,
        log: EditLog,
        tasks: Sequence[Task],
        *,
        trained_on: Callable[[Collection[str]], list[str]] = lambda _: [],
        traces: Traces | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.log, self.metrics, self._trained_on, self._traces = log, Metrics(), trained_on, traces
        self.tasks = {task.name: task for task in tasks}
        self._boards = {task.name: Board(task.selector) for task in tasks}
        self._breakers: dict[tuple[str, str], Breaker] = {}
        self._troubled = set[tuple[str, str]]()  # policies whose last answer failed
        self._ledger: Ledger | None = None
        self._streams = Streams(self._write, journal or Journal())
        self._running = set[asyncio.Task[Any]]()
        self._ending = False
        self._engines = set[Engine]()
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Gateway:
        await self.refresh()
        async with AsyncExitStack() as stack:
            if self._traces is not None:
                stack.push_async_callback(asyncio.to_thread, self._traces.close)
            stack.push_async_callback(self._close_engines)
            await self._start(self.tasks.values())
            self._ledger = Ledger(self.log, self._settled)
            stack.push_async_callback(self._ledger.close)
            stack.push_async_callback(self._streams.close)
            await self._streams.open()
            for work in (self._keep_fresh(), self._warm()):
                stack.callback(asyncio.create_task(work).cancel)
            self._open = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def reload(self, tasks: Sequence[Task]) -> None:
        """Serve these tasks from now on; running answers end as they began. An error leaves all as it was."""
        boards = {task.name: Board(task.selector) for task in tasks}
        for name, board in boards.items():
            board.settle(await asyncio.to_thread(self.log.statistics, name))
        await self._start(tasks)
        self.tasks, self._boards = {task.name: task for task in tasks}, boards

    def cut(self) -> None:
        """End all running answers: streams with an error that says why, after what they said was logged."""
        self._ending = True
        for task in self._running:
            task.cancel()

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
        turn = self._turn(request, project)
        try:
            with self._cuttable():
                if turn.decision is not None and request.conversation is not None:
                    await self._follow(turn, turn.decision, request.conversation)
                return await (self._streamed(turn) if request.stream else self._whole(turn))
        except RedraftError as error:
            self._traced(turn, error=error)
            raise
        finally:
            turn.board.close(turn.completion.id)

    async def edit(self, edit: Edit, project: str, *, key: str | None = None) -> Revised:
        """Log what a person made of a completion. A revision below 0 asks for the next one.

        Raises ``NotFoundError``, ``ConflictError`` and ``DataError`` as the log does.
        """
        feedback = checked(Feedback(edit, project, frozenset(self.of(project)), key), self.log.max_text_chars)
        if self._streams.running(edit.completion_id):
            raise ConflictError(f"completion {edit.completion_id!r} is still being written: send its edit when it ends")
        await self._streams.settle(edit.completion_id)
        outcome = await self._write(feedback)
        assert isinstance(outcome, Revised)
        self.metrics.edited(outcome)
        return outcome

    def erase(self, user_id: str, tasks: Sequence[str]) -> Erased:
        """Erase a person's texts in these tasks; returns how many, and the policies that were trained on them."""
        return self.log.erase(user_id, tasks=tasks, trained_on=self._trained_on)

    def standing(self, task: str) -> list[dict[str, Any]]:
        """What is known about each policy of a task, and whether it answers."""
        board = self._boards[task]
        return [
            {
                "policy": name,
                "state": "active" if policy in board.selector.arms else "pinned only",
                "failing": not self._breaker(task, policy).closed,
                **board.numbers(policy),
            }
            for name, policy in self.tasks[task].pins.items()
        ]

    def board(self, task: str) -> Board:
        """The selector of a task and what it knows."""
        return self._boards[task]

    async def refresh(self) -> None:
        """Take over what other processes wrote."""
        for name, board in list(self._boards.items()):
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
            except Exception:  # the next one may go well; requests fail by themselves
                _log.warning("statistics could not be read")

    def _turn(self, request: ChatRequest, project: str) -> Turn:
        """The turn of a request with the policy to ask first."""
        task, pinned = self._named(request.model, project)
        board = self._boards[task.name]
        turn = make_turn(task, board, request, pinned, self.log.max_text_chars)
        turn.chosen = pinned or self._chosen(turn, self._able(task))
        return turn

    def _chosen(self, turn: Turn, among: Sequence[str] | None) -> str:
        """What the selector chooses; what a policy costs at temperature 1 is not what it costs as it is served."""
        decision = turn.board.choose(turn.completion.id, among)
        if turn.explored:
            turn.board.close(turn.completion.id)
        else:
            turn.decision = decision
        return decision.chosen

    async def _follow(self, turn: Turn, decision: Decision, conversation: str) -> None:
        """Let the policy answer that answered this conversation first, unless it cannot now."""
        pin = Pinned(turn.task.name, conversation, decision.chosen, datetime.now(UTC))
        policy = str(await self._write(checked(pin, self.log.max_text_chars)))
        if policy != decision.chosen and policy in decision.candidates:  # a retired policy ends its conversations
            turn.decision, turn.chosen = turn.board.keep(turn.completion.id, policy), policy

    async def _whole(self, turn: Turn) -> Reply:
        async def whole(engine: Engine, policy: str) -> Answer:
            return await engine.complete(policy, turn.request)

        policy, answer = await self._ask(turn, whole)
        message, text = answer.choice["message"], answer.text
        self._require_short(len(text), turn.task.full(policy))
        completion = turn.answered(policy, message, text, answer.choice.get("finish_reason"))
        await self._write(Answered(completion, turn.decision))
        self._traced(turn, policy, answer.usage)
        reply = Reply(turn.completion.id, turn.task, policy, turn.decision, answer=answer)
        reply.request_id = answer.request_id
        return reply

    async def _streamed(self, turn: Turn) -> Reply:
        async def begin(engine: Engine, policy: str) -> tuple[list[Piece], AsyncIterator[Piece]]:
            pieces, held = engine.stream(policy, turn.request), list[Piece]()
            async for piece in pieces:
                held.append(piece)
                if piece.says:  # until then another policy may answer
                    return held, pieces
            raise EngineError(f"policy {turn.task.full(policy)} ended without a word")

        policy, (held, pieces) = await self._ask(turn, begin)
        try:
            await self._write(Started(turn.by(policy), turn.decision))
        except BaseException:
            await _closed(pieces)
            raise
        reply = Reply(turn.completion.id, turn.task, policy, turn.decision, request_id=held[0].request_id)
        reply.pieces = self._logged(turn, policy, held, pieces)
        return reply

    async def _logged(
        self, turn: Turn, policy: str, held: list[Piece], rest: AsyncIterator[Piece]
    ) -> AsyncIterator[Piece]:
        """Pass pieces on at once and log what was said, however it ends; the finish reason follows the log."""
        speech, usage, broken = Speech(turn.completion.id), None, None
        self._streams.begin(speech)
        try:
            with self._cuttable():
                while (piece := held.pop(0) if held else await anext(rest, None)) is not None:
                    usage = piece.usage or usage
                    if not speech.finished:
                        self._require_short(speech.draft.size + piece.size, turn.task.full(policy))
                        self._streams.say(speech, piece)
                        if speech.draft.finish_reason is not None:
                            await self._streams.finish(speech)
                        yield piece
                    elif piece.usage is not None:  # what a policy says after its end is not in the log
                        yield replace(piece, choices=())
        except EngineError as error:
            broken = error
        finally:
            await self._streams.finish(speech)
            await _closed(rest)
            self._traced(turn, policy, usage, broken)
        if broken is not None:
            raise broken

    def _require_short(self, size: int, policy: str) -> None:
        """Raise ``EngineError`` for an answer that the log does not take: it could never be edited or exported."""
        if size > (most := self.log.max_text_chars):
            raise EngineError(
                f"policy {policy} wrote more than {most:,} characters: ask for a shorter answer",
                code="answer_too_long",
                retry=False,
                final=True,
            )

    @contextmanager
    def _cuttable(self) -> Generator[None]:
        """What ``cut`` ends: the running task gets an ``EngineError`` in place of a cancellation."""
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._ending:
                raise
            task.uncancel()
            raise EngineError("the gateway is shutting down: try again", status=503, retry=False) from None
        finally:
            self._running.discard(task)

    async def _ask(self, turn: Turn, ask: Callable[[Engine, str], Awaitable[T]]) -> tuple[str, T]:
        """Let the chosen policy answer, or another one where it fails; raises ``EngineError`` when none does."""
        problem: EngineError | None = None
        for policy in self._in_turn(turn):
            breaker = self._breaker(turn.task.name, policy)
            if not breaker.allows():
                name = turn.task.full(policy)
                said = f"policy {name} failed several times in a row: try again later"
                problem = problem or EngineError(said, status=503, retry_after=breaker.pause)
                continue
            started = time.perf_counter()
            try:
                answer = await ask(turn.task.engines[policy], policy)
            except EngineError as error:
                self.metrics.failed(turn.task.name, policy)
                if not (error.retry or error.status in _UNFIT):
                    raise
                if error.retry and error.status not in _BLAMELESS:
                    breaker.failed()
                    self._troubled.add((turn.task.name, policy))
                _log.warning("policy failed", extra={"policy": policy, "completion_id": turn.completion.id})
                problem = error if problem is None or problem.status not in _UNFIT else problem
            else:
                breaker.succeeded()
                self._troubled.discard((turn.task.name, policy))
                self.metrics.answered(turn.task.name, policy, time.perf_counter() - started)
                return policy, answer
        assert problem is not None
        raise problem

    def _in_turn(self, turn: Turn) -> Iterator[str]:
        """Whom to ask, one after the other: who was chosen, the fallback, then whoever is chosen among the rest."""
        tried = [turn.chosen]
        yield turn.chosen
        if turn.pinned is not None:
            return
        if (fallback := turn.task.fallback) is not None and fallback not in tried:
            tried.append(fallback)
            yield fallback
        while rest := [arm for arm in turn.board.selector.arms if arm not in tried and self._ready(turn.task, arm)]:
            tried.append(self._chosen(turn, rest))
            yield tried[-1]

    def _able(self, task: Task) -> Sequence[str] | None:
        """The arms that can answer now; ``None``, as nearly always, where all of them can."""
        if not self._troubled:
            return None
        arms = [arm for arm in task.selector.arms if self._ready(task, arm)]
        return None if len(arms) == len(task.selector.arms) else arms

    def _ready(self, task: Task, policy: str) -> bool:
        breaker = self._breakers.get((task.name, policy))
        return breaker is None or breaker.ready

    def _traced(
        self,
        turn: Turn,
        policy: str | None = None,
        usage: Mapping[str, Any] | None = None,
        error: RedraftError | None = None,
    ) -> None:
        if self._traces is not None:
            self._traces.chat(turn.completion, turn.request.model, policy, turn.chosen, usage=usage, error=error)

    def _breaker(self, task: str, policy: str) -> Breaker:
        return self._breakers.setdefault((task, policy), Breaker())

    def _named(self, model: str, project: str) -> tuple[Task, str | None]:
        """The task that ``model`` names, and the policy if it pins one."""
        for task in self.tasks.values():
            if task.project == project and (model == task.name or model in task.pins):
                return task, task.pins.get(model)
        known = ", ".join(self.models(project))
        remedy = f"use one of {known}" if known else f"project {project!r} has no task"
        raise NotFoundError(f"model {model!r} does not exist: {remedy}")

    async def _write(self, event: Event) -> Any:
        assert self._ledger is not None, "a gateway is entered before it is used"
        return await self._ledger.write(event)

    def _settled(self, statistics: Mapping[str, Mapping[str, Count]]) -> None:
        for task, counts in statistics.items():
            if task in self._boards:
                self._boards[task].settle(counts)

    async def _start(self, tasks: Iterable[Task]) -> None:
        """Make the policies of these tasks ready."""
        wanted: dict[Engine, dict[str, None]] = {}
        for task in tasks:
            for policy, engine in task.engines.items():
                wanted.setdefault(engine, {})[policy] = None
        for engine, policies in wanted.items():
            self._engines.add(engine)
            await engine.start(list(policies))

    async def _close_engines(self) -> None:
        for engine in self._engines:
            await engine.close()


async def _closed(pieces: AsyncIterator[Piece]) -> None:
    """Let an engine go that nobody listens to any more."""
    if isinstance(pieces, AsyncGenerator):
        await pieces.aclose()
