"""Whether a policy answers is an input to the choice: no request fails while another arm could answer it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from gateway_parts import Scripted, request, task, with_gateway

from redraft.gateway.engine import Answer, Breaker, EngineError
from redraft.gateway.openai import ChatRequest
from redraft.gateway.service import Gateway
from redraft.log import EditLog
from redraft.select import Fixed, LateEnsemble, Selector, Uniform, rebuild
from redraft.types import Edit

ARMS = ("base", "email/dpo@1", "email/sft@1")
DEAD = "email/dpo@1"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EditLog]:
    with EditLog(f"sqlite:///{tmp_path / 'log.db'}") as opened:
        yield opened


def always_dead(arms: Sequence[str]) -> Selector:
    return Fixed(arms, DEAD)


@pytest.mark.parametrize("fallback", [None, "base"])
@pytest.mark.parametrize("rule", [LateEnsemble, Uniform, always_dead])
@pytest.mark.parametrize("stream", [False, True])
def test_a_dead_arm_fails_no_request(
    log: EditLog, rule: Callable[[tuple[str, ...]], Selector], fallback: str | None, stream: bool
) -> None:
    engine = Scripted()
    engine.fails[DEAD] = 10**6

    async def use(gateway: Gateway) -> Counter[str]:
        async def one() -> str:
            reply = await gateway.complete(request(stream=stream), "default")
            if reply.pieces is not None:
                async for _ in reply.pieces:
                    pass
            await gateway.edit(Edit(reply.completion_id, None, -1), "default")
            return reply.policy

        for _ in range(3):
            await asyncio.gather(*(one() for _ in range(4)))
        return Counter([await one() for _ in range(6)])

    by = with_gateway(log, [task(engine, rule(ARMS), fallback=fallback)], use)
    assert DEAD not in by
    assert by.total() == 6
    if fallback is None:
        assert engine.asked.count(DEAD) <= 5 + 4  # those that were under way when the fifth failed
    assert DEAD not in {found.decision.chosen for found in log.interactions() if found.decision} or fallback
    assert log.verify() == []


def test_without_a_fallback_the_next_best_is_asked_and_learnt_from(log: EditLog) -> None:
    engine = Scripted()
    engine.fails[DEAD] = 10**6

    async def use(gateway: Gateway) -> dict[str, int]:
        for _ in range(9):
            reply = await gateway.complete(request(), "default")
            assert reply.decision is not None
            assert (reply.decision.chosen, DEAD in reply.decision.candidates) == (reply.policy, False)
            await gateway.edit(Edit(reply.completion_id, "another text", -1), "default")
        return {arm: count.decisions for arm, count in gateway.board("email").counts().items()}

    counts = with_gateway(log, [task(engine, LateEnsemble((DEAD, "base", "email/sft@1")))], use)
    assert counts[DEAD] == 0
    assert sum(counts.values()) == 9
    live = {arm: found.decisions for arm, found in log.statistics("email").items()}
    assert live == {arm: count for arm, count in counts.items() if count}
    replayed = rebuild(LateEnsemble(ARMS), log.resolved("email")).counts
    assert {arm: count.resolved for arm, count in replayed.items()} == counts


def test_an_arm_that_comes_back_is_probed_by_one_request_at_a_time(log: EditLog) -> None:
    engine, now = Scripted(), 0.0
    engine.fails[DEAD] = 10**6

    async def use(gateway: Gateway) -> None:
        nonlocal now
        gateway._breakers["email", DEAD] = Breaker(clock=lambda: now)  # pyright: ignore[reportPrivateUsage]
        for _ in range(12):
            await gateway.complete(request(), "default")
        assert engine.asked.count(DEAD) == 5
        now = 11.0
        await asyncio.gather(*(gateway.complete(request(), "default") for _ in range(6)))
        assert engine.asked.count(DEAD) == 6
        engine.fails.clear()
        now = 22.0
        answered = [(await gateway.complete(request(), "default")).policy for _ in range(3)]
        assert DEAD in answered
        assert not any(row["failing"] for row in gateway.standing("email"))

    with_gateway(log, [task(engine, LateEnsemble((DEAD, "base", "email/sft@1")))], use)


def test_what_the_request_is_to_blame_for_closes_no_arm(log: EditLog) -> None:
    engine = Scripted()
    engine.refuses = EngineError("too large", status=413)

    async def use(gateway: Gateway) -> None:
        for _ in range(8):
            with pytest.raises(EngineError, match="too large"):
                await gateway.complete(request(), "default")
        assert not any(row["failing"] for row in gateway.standing("email"))

    with_gateway(log, [task(engine)], use)


def test_a_conversation_whose_policy_is_dead_is_answered_by_another_one(log: EditLog) -> None:
    engine = Scripted()
    talk = request(metadata={"conversation_id": "c"})

    async def use(gateway: Gateway) -> list[str]:
        first = (await gateway.complete(talk, "default")).policy
        engine.fails[first] = 7
        between = {(await gateway.complete(talk, "default")).policy for _ in range(7)}
        assert first not in between
        return [first, *between]

    with_gateway(log, [task(engine)], use)
    assert log.verify() == []


@pytest.mark.parametrize("rule", [LateEnsemble, Uniform])
def test_what_one_policy_cannot_take_another_answers(log: EditLog, rule: Callable[[tuple[str, ...]], Selector]) -> None:
    """One arm has no tools, or a short context: with no edits yet it must not hold all such requests up."""

    class Picky(Scripted):
        async def complete(self, policy: str, request: ChatRequest) -> Answer:
            if policy == DEAD:
                raise EngineError("tools: not supported", status=400, retry=False, code="unsupported_parameter")
            return await super().complete(policy, request)

    async def use(gateway: Gateway) -> None:
        by = Counter([(await gateway.complete(request(), "default")).policy for _ in range(20)])
        assert set(by) == {"base", "email/sft@1"}
        with pytest.raises(EngineError, match="not supported"):
            await gateway.complete(request(model=DEAD), "default")

    with_gateway(log, [task(Picky(), rule((DEAD, "base", "email/sft@1")))], use)
    assert log.verify() == []
