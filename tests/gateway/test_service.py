"""The gateway without HTTP: what is chosen, what is logged, what is learnt."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import ARMS, WORDS, Scripted, request, task, with_gateway

from redraft.errors import ConflictError, DataError, NotFoundError
from redraft.gateway import service
from redraft.gateway.engine import Breaker, EngineError
from redraft.gateway.service import Gateway, Reply
from redraft.log import EditLog
from redraft.select import Fixed, LateEnsemble, rebuild
from redraft.types import Edit

TEXT = "".join(WORDS)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EditLog]:
    with EditLog(f"sqlite:///{tmp_path / 'log.db'}") as opened:
        yield opened


async def said(reply: Reply) -> str:
    if reply.answer is not None:
        return reply.answer.text
    assert reply.pieces is not None
    return "".join([piece.text async for piece in reply.pieces])


def edit(completion_id: str, edited: str | None, revision: int = -1) -> Edit:
    return Edit(completion_id, edited, revision)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_in_the_log_with_what_chose_it(log: EditLog, stream: bool) -> None:
    async def use(gateway: Gateway) -> Reply:
        reply = await gateway.complete(request(stream=stream, user="ann", temperature=0.5), "default")
        assert await said(reply) == TEXT
        return reply

    reply = with_gateway(log, [task(Scripted(), model="smollm2")], use)
    found = log.interaction(reply.completion_id)
    assert found.decision == reply.decision
    assert (found.completion.response, found.completion.policy) == (TEXT, reply.policy)
    assert (found.completion.user_id, found.completion.decoding) == ("ann", {"temperature": 0.5})
    assert log.verify() == []


def test_a_decision_is_durable_before_the_first_piece(log: EditLog) -> None:
    async def use(gateway: Gateway) -> None:
        reply = await gateway.complete(request(stream=True), "default")
        assert log.counts().completions == 1
        assert sum(found.decisions for found in log.statistics("email").values()) == 1
        await said(reply)

    with_gateway(log, [task(Scripted())], use)


def test_it_learns_what_a_replay_of_the_log_gives(log: EditLog) -> None:
    async def use(gateway: Gateway) -> Any:
        for number in range(12):
            reply = await gateway.complete(request(), "default")
            await gateway.edit(edit(reply.completion_id, TEXT + " more" * (number % 4)), "default")
            if number % 3 == 0:
                await gateway.edit(edit(reply.completion_id, "all anew"), "default")
        return gateway.board("email").selector.state()

    state = with_gateway(log, [task(Scripted())], use)
    assert rebuild(LateEnsemble(ARMS), log.resolved("email")).state() == state
    again = with_gateway(
        log, [task(Scripted())], lambda gateway: asyncio.sleep(0, gateway.board("email").selector.state())
    )
    assert again == state


def test_requests_at_once_are_spread_and_counted_once(log: EditLog) -> None:
    async def use(gateway: Gateway) -> dict[str, int]:
        await asyncio.gather(*(gateway.complete(request(), "default") for _ in range(40)))
        return {arm: count.decisions for arm, count in gateway.board("email").counts().items()}

    assert with_gateway(log, [task(Scripted())], use) == dict.fromkeys(ARMS, 20)
    assert {arm: found.decisions for arm, found in log.statistics("email").items()} == dict.fromkeys(ARMS, 20)


def test_where_a_policy_fails_the_fallback_answers_and_nothing_is_learnt(log: EditLog) -> None:
    engine = Scripted()
    engine.fails["email/sft@1"] = 1

    async def use(gateway: Gateway) -> Reply:
        reply = await gateway.complete(request(), "default")
        await gateway.edit(edit(reply.completion_id, "another text"), "default")
        return reply

    only = task(engine, Fixed(ARMS, "email/sft@1"), fallback="base")
    reply = with_gateway(log, [only], use)
    assert reply.decision is not None
    assert (reply.decision.chosen, reply.policy) == ("email/sft@1", "base")
    assert log.statistics("email") == {}
    assert log.verify() == []


def test_where_all_fail_nothing_is_logged_and_the_decision_is_withdrawn(log: EditLog) -> None:
    engine = Scripted()
    engine.fails = {"base": 9, "email/sft@1": 9}

    async def use(gateway: Gateway) -> Any:
        with pytest.raises(EngineError, match="out of order"):
            await gateway.complete(request(), "default")
        return gateway.board("email").counts()

    counts = with_gateway(log, [task(engine, fallback="base")], use)
    assert {count.decisions for count in counts.values()} == {0}
    assert log.counts().completions == 0


def test_a_clients_mistake_is_told_once_no_policy_takes_it_and_closes_none(log: EditLog) -> None:
    engine = Scripted()
    engine.refuses = EngineError("no such parameter", status=400, retry=False)

    async def use(gateway: Gateway) -> None:
        for _ in range(10):
            with pytest.raises(EngineError, match="no such parameter"):
                await gateway.complete(request(), "default")

        assert not any(row["failing"] for row in gateway.standing("email"))

    with_gateway(log, [task(engine, Fixed(ARMS, "email/sft@1"), fallback="base")], use)
    assert engine.asked == ["email/sft@1", "base"] * 10
    assert log.counts().completions == 0


def test_a_policy_that_keeps_failing_is_left_alone_for_a_while() -> None:
    now = [0.0]
    breaker = Breaker(failures=3, pause=10, clock=lambda: now[0])
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    assert not breaker.allows()
    now[0] = 10.0
    assert breaker.allows()  # one tries again …
    assert not breaker.allows()  # … and keeps the others away
    breaker.succeeded()
    assert breaker.allows()
    assert breaker.allows()


def test_a_stream_that_breaks_leaves_what_was_sent(log: EditLog) -> None:
    engine = Scripted()
    engine.breaks_after["base"] = 2

    async def use(gateway: Gateway) -> str:
        reply = await gateway.complete(request(stream=True), "default")
        assert reply.pieces is not None
        assert [(await anext(reply.pieces)).text for _ in range(2)] == ["Dear", " Ann,"]
        with pytest.raises(EngineError, match="broke off"):
            await anext(reply.pieces)
        return reply.completion_id

    found = with_gateway(log, [task(engine, Fixed(ARMS, "base"))], use)
    assert log.interaction(found).completion.response == "Dear Ann,"


def test_a_client_that_goes_away_leaves_what_it_was_sent(log: EditLog) -> None:
    async def use(gateway: Gateway) -> str:
        reply = await gateway.complete(request(stream=True), "default")
        assert reply.pieces is not None
        await anext(reply.pieces)
        await reply.pieces.aclose()  # pyright: ignore[reportAttributeAccessIssue]
        return reply.completion_id

    found = with_gateway(log, [task(Scripted())], use)
    assert TEXT.startswith(log.interaction(found).completion.response)
    assert log.interaction(found).completion.response


def test_one_conversation_has_one_policy(log: EditLog) -> None:
    said_so = {"metadata": {"conversation_id": "c1"}}

    async def use(gateway: Gateway) -> list[Reply]:
        first = await gateway.complete(request(**said_so), "default")
        await gateway.edit(edit(first.completion_id, "all else " * 20), "default")
        rest = await asyncio.gather(*(gateway.complete(request(**said_so), "default") for _ in range(6)))
        other = await gateway.complete(request(metadata={"conversation_id": "c2"}), "default")
        return [first, *rest, other]

    *same, other = with_gateway(log, [task(Scripted())], use)
    assert len({reply.policy for reply in same}) == 1
    assert other.policy != same[0].policy
    assert sum(found.decisions for found in log.statistics("email").values()) == 8
    assert log.verify() == []


def test_a_pinned_policy_answers_without_a_decision(log: EditLog) -> None:
    async def use(gateway: Gateway) -> list[str]:
        names = ("email/sft@1", "email/base")
        return [(await gateway.complete(request(model=name), "default")).policy for name in names]

    assert with_gateway(log, [task(Scripted())], use) == ["email/sft@1", "base"]
    assert log.statistics("email") == {}


@pytest.mark.parametrize("model", ["letters", "email/none", "base", "email/", "default", "notes", "notes/base"])
def test_a_model_that_is_none_of_the_projects(log: EditLog, model: str) -> None:
    async def use(gateway: Gateway) -> None:
        with pytest.raises(NotFoundError, match="use one of email, email/base, email/sft@1"):
            await gateway.complete(request(model=model), "default")

    engine = Scripted()
    with_gateway(log, [task(engine), task(engine, name="notes", project="other")], use)
    assert engine.asked == []


def test_edits_come_late_twice_revised_out_of_order_and_from_elsewhere(log: EditLog) -> None:
    async def use(gateway: Gateway) -> str:
        reply = await gateway.complete(request(), "default")
        name = reply.completion_id
        late = Edit(name, "third", 2, created_at=datetime.now(UTC) + timedelta(days=9))
        assert (await gateway.edit(late, "default")).new
        for _ in range(10):
            assert not (await gateway.edit(edit(name, "third", 2), "default")).new
        assert (await gateway.edit(edit(name, "first", 0), "default")).new
        with pytest.raises(ConflictError):
            await gateway.edit(edit(name, "another first", 0), "default")
        for project, completion_id in (("other", name), ("default", "unknown")):
            with pytest.raises(NotFoundError):
                await gateway.edit(edit(completion_id, "x"), project)
        return name

    found = with_gateway(log, [task(Scripted()), task(Scripted(), name="notes", project="other")], use)
    assert log.interaction(found).edited == "third"
    (statistics,) = [found for found in log.statistics("email").values() if found.resolved]
    assert statistics.resolved == 1
    assert log.verify() == []


def test_what_cannot_be_logged_costs_no_answer(log: EditLog) -> None:
    log.max_text_chars = 100
    engine = Scripted()

    async def use(gateway: Gateway) -> None:
        with pytest.raises(DataError, match="more than 100"):
            await gateway.complete(request(messages=[{"role": "user", "content": "x" * 101}]), "default")

    with_gateway(log, [task(engine)], use)
    assert engine.asked == []


def test_erasing_a_person_names_the_policies_that_learnt_from_them(log: EditLog) -> None:
    async def use(gateway: Gateway) -> Any:
        mine = await gateway.complete(request(user="ann"), "default")
        other = await gateway.complete(request(user="bob"), "default")
        await gateway.edit(Edit(other.completion_id, "ann was here", -1, "ann"), "default")
        return mine.completion_id, other.completion_id, gateway.erase("ann", ["email"])

    asked: list[set[str]] = []

    def trained_on(ids: Any) -> list[str]:
        asked.append(set(ids))
        return ["email/sft@1"]

    mine, other, erased = with_gateway(log, [task(Scripted())], use, trained_on=trained_on)
    assert asked == [{mine, other}]
    assert erased == (2, ["email/sft@1"])
    assert log.verify() == []
    assert log.counts().completions == 2


def test_standing_has_means_and_intervals(log: EditLog) -> None:
    async def use(gateway: Gateway) -> Any:
        for text in ("Dear Ann, all is fine.", None):
            reply = await gateway.complete(request(model="email"), "default")
            await gateway.edit(edit(reply.completion_id, text), "default")
        return gateway.standing("email")

    base, sft = with_gateway(log, [task(Scripted(), Fixed(ARMS, "base"))], use)
    assert (base["policy"], base["decisions"], base["edits"], sft["mean_cost"]) == ("email/base", 2, 2, None)
    low, high = base["interval"]
    assert low < base["mean_cost"] < high


@pytest.mark.parametrize("stream", [False, True])
def test_half_a_surrogate_pair_spoils_nobodys_transaction(log: EditLog, stream: bool) -> None:
    engine = Scripted({arm: ["Dear", " \ud83d"] for arm in ARMS})

    async def use(gateway: Gateway) -> str:
        reply = await gateway.complete(request(stream=stream), "default")
        if reply.pieces is not None:
            assert [piece.text async for piece in reply.pieces][:2] == ["Dear", " \ud83d"]
        return reply.completion_id

    name = with_gateway(log, [task(engine)], use)
    assert log.interaction(name).completion.response == "Dear \ufffd"


def test_statistics_are_read_again_whatever_went_wrong_before(
    log: EditLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service, "REFRESH_SECONDS", 0.005)
    read = log.statistics
    asked: list[str] = []

    def later(name: str) -> Any:
        asked.append(name)
        if len(asked) in (2, 3):
            raise ValueError("hunter2")
        return read(name)

    monkeypatch.setattr(log, "statistics", later)

    async def use(_: Gateway) -> None:
        async with asyncio.timeout(5):
            while len(asked) < 5:
                await asyncio.sleep(0.005)

    with_gateway(log, [task(Scripted())], use)
    assert [record.getMessage() for record in caplog.records] == ["statistics could not be read"] * 2
    assert "hunter2" not in caplog.text
