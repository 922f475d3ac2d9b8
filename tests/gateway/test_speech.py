"""A stream's text is in the log before its last word is sent, and before that as far as it was said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import ARMS, WORDS, Scripted, request, task, with_gateway

from redraft.errors import ConflictError, NotFoundError, UnavailableError
from redraft.gateway import speech
from redraft.gateway.engine import EngineError, Piece
from redraft.gateway.journal import Journal
from redraft.gateway.openai import ChatRequest
from redraft.gateway.service import Gateway, Reply
from redraft.log import EditLog
from redraft.log.events import Finished
from redraft.select import Fixed
from redraft.types import Edit

CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "send", "arguments": '{"to": "Ann"}'}}
CALLED = '<tool_call>\n{"name": "send", "arguments": {"to": "Ann"}}\n</tool_call>'


class Stepwise(Scripted):
    """Says one word for each step that a test lets it take."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = asyncio.Semaphore(0)
        self.closed = False

    async def stream(self, policy: str, request: ChatRequest) -> AsyncIterator[Piece]:
        try:
            async for piece in super().stream(policy, request):
                await self.steps.acquire()
                yield piece
        finally:
            self.closed = True


class Deltas(Scripted):
    """Says these deltas."""

    def __init__(self, deltas: Sequence[dict[str, Any]], reason: str = "stop") -> None:
        super().__init__()
        self.deltas, self.reason = deltas, reason

    async def stream(self, policy: str, request: ChatRequest) -> AsyncIterator[Piece]:
        for delta in self.deltas:
            yield Piece.of(delta, None)
        yield Piece.of({}, self.reason)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EditLog]:
    with EditLog(f"sqlite:///{tmp_path / 'log.db'}", max_text_chars=1000) as opened:
        yield opened


async def begun(gateway: Gateway, engine: Stepwise, words: int) -> tuple[Reply, AsyncIterator[Piece], str]:
    """A stream that has said so many words."""
    engine.steps.release()
    reply = await gateway.complete(request(stream=True), "default")
    assert reply.pieces is not None
    said = (await anext(reply.pieces)).text
    for _ in range(words - 1):
        engine.steps.release()
        said += (await anext(reply.pieces)).text
    return reply, reply.pieces, said


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_tool_calls_arguments_count_towards_an_answers_length(log: EditLog) -> None:
    call = {"index": 0, "function": {"name": "f", "arguments": "x" * 300}}

    async def use(gateway: Gateway) -> None:
        with pytest.raises(EngineError, match="1,000 characters"):
            await heard(gateway, stream=True)

    with_gateway(log, [task(Deltas([{"tool_calls": [call]}] * 9))], use)
    (logged,) = [found.completion.response for found in log.interactions()]
    assert 900 < len(logged) < 1000


def test_a_log_that_is_back_gets_what_is_unwritten_before_the_gateway_ends(
    log: EditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(speech, "PAUSES", (600.0, 600.0))
    away = without_ends(log, monkeypatch)

    async def use(gateway: Gateway) -> str:
        reply = await gateway.complete(request(stream=True), "default")
        assert reply.pieces is not None
        assert "".join([piece.text async for piece in reply.pieces]) == "".join(WORDS)
        away[0] = False
        monkeypatch.setattr(speech, "PATIENCE_SECONDS", 5.0)
        return reply.completion_id

    assert said_in(log, with_gateway(log, [task(Scripted())], use)) == "".join(WORDS)


def test_what_a_process_said_that_is_gone_is_in_the_log_after_the_next_start(
    log: EditLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(speech, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(speech, "PAUSES", (600.0, 600.0))
    away = without_ends(log, monkeypatch)
    folder = tmp_path / ".log.db-streams"
    assert log.beside("streams", tmp_path / "cache") == folder

    async def use(gateway: Gateway) -> str:
        reply = await gateway.complete(request(stream=True), "default")
        assert reply.pieces is not None
        assert len([piece async for piece in reply.pieces]) == 3
        assert [*Journal(folder).left()] == []
        other = Journal(folder)
        other.open()
        assert [*other.left()] == []  # it belongs to one that lives
        other.close()
        return reply.completion_id

    deltas = Deltas([{"content": "Sure."}, {"tool_calls": [CALL]}], "tool_calls")
    completion_id = with_gateway(log, [task(deltas)], use, journal=Journal(folder))
    assert "could not be written" in caplog.text
    away[0] = False
    (place,) = folder.iterdir()
    assert (place.stat().st_mode, (place / completion_id).stat().st_mode) == (0o40700, 0o100600)
    with (place / completion_id).open("ab") as file:
        file.write(b'[{"index": 0, "del')  # the disk was full

    async def edit(gateway: Gateway) -> None:
        assert (await gateway.edit(Edit(completion_id, f"Sure.\n{CALLED}", -1), "default")).unchanged

    with_gateway(log, [task(Scripted())], edit, journal=Journal(folder))
    logged = log.interaction(completion_id).completion
    assert (logged.response, logged.answer["finish_reason"]) == (f"Sure.\n{CALLED}", "tool_calls")
    assert [*folder.iterdir()] == []


def test_a_folder_that_cannot_be_written_costs_no_answer(
    log: EditLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")

    async def use(gateway: Gateway) -> str:
        await heard(gateway, stream=True)
        return "heard"

    journal = Journal(tmp_path / "file" / "streams")
    assert with_gateway(log, [task(Scripted())], use, journal=journal) == "heard"
    assert "not kept in files" in caplog.text


def without_ends(log: EditLog, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Let the log refuse the ends of streams while the one item of the list that this gives is true."""
    away, write = [True], log.write

    def sometimes(events: Any) -> Any:
        if away[0] and any(isinstance(event, Finished) for event in events):
            raise UnavailableError("away")
        return write(events)

    monkeypatch.setattr(log, "write", sometimes)
    return away


async def heard(gateway: Gateway, stream: bool) -> None:
    reply = await gateway.complete(request(stream=stream), "default")
    assert reply.pieces is not None
    async for piece in reply.pieces:
        assert piece.says


def said_in(log: EditLog, completion_id: str) -> str:
    try:
        return log.interaction(completion_id).completion.response
    except NotFoundError:  # nothing of it yet
        return ""


def test_pieces_pass_at_once_and_the_last_one_follows_the_log(log: EditLog) -> None:
    engine = Stepwise()

    async def use(gateway: Gateway) -> None:
        reply, pieces, said = await begun(gateway, engine, len(WORDS))  # each came before the next was there
        assert said == "".join(WORDS) == said_in(log, reply.completion_id)
        revised = await gateway.edit(Edit(reply.completion_id, said + " Bye.", -1), "default")
        assert revised.new
        engine.steps.release()
        assert [piece.usage is not None async for piece in pieces] == [True]

    with_gateway(log, [task(engine)], use)
    assert log.verify() == []


def test_what_was_said_can_be_edited_when_the_process_is_gone(log: EditLog) -> None:
    engine = Stepwise()

    async def use(gateway: Gateway) -> None:
        reply, _, said = await begun(gateway, engine, 3)
        await until(lambda: said_in(log, reply.completion_id) == said)
        with pytest.raises(ConflictError, match="still being written"):
            await gateway.edit(Edit(reply.completion_id, "early", -1), "default")

        async with Gateway(log, [task(Scripted())]) as other:  # what a restart finds
            revised = await other.edit(Edit(reply.completion_id, "Dear Bob, all", -1), "default")
        assert (revised.new, revised.raw) == (True, 1)
        await gateway._write(Finished(reply.completion_id, "more"))  # pyright: ignore[reportPrivateUsage]
        assert said_in(log, reply.completion_id) == said  # the text that the edit was priced against

    with_gateway(log, [task(engine)], use)
    assert log.verify() == []


def test_a_gateway_that_stops_says_so_and_keeps_what_was_said(log: EditLog) -> None:
    engine = Stepwise()

    async def use(gateway: Gateway) -> str:
        reply, pieces, said = await begun(gateway, engine, 2)
        waiting = asyncio.ensure_future(gateway.complete(request(), "default"))
        asyncio.get_running_loop().call_later(0.05, gateway.cut)
        with pytest.raises(EngineError, match="shutting down") as caught:
            await anext(pieces)
        assert caught.value.status == 503
        with pytest.raises(EngineError, match="shutting down"):
            await waiting
        assert said_in(log, reply.completion_id) == said
        assert (await gateway.edit(Edit(reply.completion_id, None, -1), "default")).unchanged
        return reply.completion_id

    with_gateway(log, [task(engine)], use)
    assert log.counts().completions == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_before_the_first_word_leaves_no_trace(log: EditLog, stream: bool) -> None:
    engine = Stepwise()

    async def use(gateway: Gateway) -> None:
        asking = asyncio.ensure_future(gateway.complete(request(stream=stream), "default"))
        await until(lambda: engine.asked)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert engine.closed
        assert {count.decisions for count in gateway.board("email").counts().values()} == {0}

    with_gateway(log, [task(engine)], use)
    assert log.counts().completions == 0


def test_a_client_that_leaves_later_leaves_what_it_was_sent(log: EditLog) -> None:
    engine = Stepwise()

    async def use(gateway: Gateway) -> None:
        reply, pieces, said = await begun(gateway, engine, 2)
        reading = asyncio.ensure_future(anext(pieces))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert engine.closed
        assert said_in(log, reply.completion_id) == said

    with_gateway(log, [task(engine)], use)
    assert log.verify() == []


def test_a_log_that_is_away_at_the_end_is_asked_until_it_answers(log: EditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "PAUSES", (0.05, 0.05))
    away = without_ends(log, monkeypatch)

    async def use(gateway: Gateway) -> None:
        reply = await gateway.complete(request(stream=True), "default")
        assert reply.pieces is not None
        monkeypatch.setattr(speech, "PATIENCE_SECONDS", 0.1)
        assert "".join([piece.text async for piece in reply.pieces]) == "".join(WORDS)
        with pytest.raises(UnavailableError):
            await gateway.edit(Edit(reply.completion_id, "all anew", -1), "default")
        away[0] = False
        revised = await gateway.edit(Edit(reply.completion_id, "".join(WORDS), -1), "default")
        assert revised.unchanged

    with_gateway(log, [task(Scripted())], use)
    assert log.verify() == []


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_the_log_does_not_take_is_no_fault_of_the_client(log: EditLog, stream: bool) -> None:
    engine = Scripted({arm: ["x " * 300] * 3 for arm in ARMS})

    async def use(gateway: Gateway) -> None:
        with pytest.raises(EngineError, match="1,000 characters") as caught:
            await heard(gateway, stream)
        assert (caught.value.status, caught.value.code) == (502, "answer_too_long")

    with_gateway(log, [task(engine)], use)


@pytest.mark.parametrize(
    ("deltas", "reason", "text", "untaught"),
    [
        ([{"role": "assistant", "content": None, "tool_calls": [CALL]}], "tool_calls", CALLED, ""),
        ([{"content": "Sure."}, {"tool_calls": [CALL]}], "tool_calls", f"Sure.\n{CALLED}", ""),
        ([{"refusal": "I can"}, {"refusal": "not."}], "stop", "I cannot.", "refusal"),
        ([{"role": "assistant"}], "stop", "", "empty"),
    ],
)
def test_an_answer_that_is_no_text_has_one_in_the_log(
    log: EditLog, deltas: Sequence[dict[str, Any]], reason: str, text: str, untaught: str
) -> None:
    async def use(gateway: Gateway) -> str:
        reply = await gateway.complete(request(stream=True), "default")
        assert reply.pieces is not None
        async for _ in reply.pieces:
            pass
        await gateway.edit(Edit(reply.completion_id, None, -1), "default")
        return reply.completion_id

    completion_id = with_gateway(log, [task(Deltas(deltas, reason), Fixed(ARMS))], use)
    logged = log.interaction(completion_id).completion
    assert (logged.response, logged.untaught) == (text, untaught)
    assert logged.answer["finish_reason"] == reason
    learnt = log.statistics("email")["base"]
    assert (learnt.decisions, learnt.resolved) == (1, 0 if untaught else 1)
    assert log.verify() == []


@pytest.mark.parametrize("stream", [False, True])
def test_a_policy_that_only_refuses_gets_its_share_and_no_more(log: EditLog, stream: bool) -> None:
    refusing = Deltas([{"role": "assistant", "refusal": "I cannot."}])

    async def use(gateway: Gateway) -> None:
        for _ in range(10):
            reply = await gateway.complete(request(stream=stream), "default")
            if reply.pieces is not None:
                assert [piece async for piece in reply.pieces]
            await gateway.edit(Edit(reply.completion_id, "Dear Ann.", -1), "default")

    email = task(Scripted())
    with_gateway(log, [replace(email, engines={**email.engines, ARMS[1]: refusing})], use)
    counts = log.statistics("email")
    assert [(counts[arm].decisions, counts[arm].resolved) for arm in ARMS] == [(5, 5), (5, 0)]
    assert log.verify() == []
