"""Best of N behind the gateway: what is asked, what is given, what it costs."""

from __future__ import annotations

import asyncio
import copy
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import Scripted, request

from redraft.config import ModelSettings, PolicySettings, Settings, TaskSettings
from redraft.costs import COSTS
from redraft.errors import DataError
from redraft.gateway.engine import Answer, EngineError, Piece
from redraft.gateway.openai import ChatRequest
from redraft.gateway.reranked import Reranked
from redraft.gateway.setup import make_gateway
from redraft.lm.load import Base
from redraft.log import EditLog
from redraft.policies.adapter import AdapterHost
from redraft.policies.best_of import APART
from redraft.policies.consensus import risks
from redraft.train.cost_run import Bound, Features, learn_cost, write_cost
from redraft.types import Completion, Decoding, Edit, Interaction, Message


class Numbered(Scripted):
    """Gives another answer each time, and keeps the requests."""

    def __init__(self, *texts: str) -> None:
        super().__init__()
        self.texts, self.requests = list(texts), list[ChatRequest]()

    async def stream(self, policy: str, request: ChatRequest) -> AsyncIterator[Piece]:
        self.says[policy] = [self.texts[len(self.requests)]]
        self.requests.append(request)
        async for piece in super().stream(policy, request):
            yield piece


def by_length(_messages: Sequence[Message], texts: Sequence[str]) -> Sequence[float]:
    return [float(len(text)) for text in texts]


def completes(**fields: Any) -> Callable[[Reranked], Awaitable[Answer]]:
    async def ask(engine: Reranked) -> Answer:
        return await engine.complete("email/sft@1+best3", request(**fields))

    return ask


def use(engine: Numbered, ask: Callable[[Reranked], Awaitable[Any]], n: int = 3) -> Any:
    async def run() -> Any:
        reranked = Reranked(engine, "email/sft@1", n, lambda: by_length, Scripted())
        await reranked.start(["email/sft@1+best3"])
        return await ask(reranked)

    return asyncio.run(run())


def test_the_cheapest_is_given_and_all_are_counted() -> None:
    engine = Numbered("long answer", "short", "the longest answer")
    answer: Answer = use(engine, completes(temperature=0, seed=7))
    assert answer.text == "short"
    assert answer.choice["message"]["content"] == "short"
    assert answer.usage == {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    assert engine.asked == ["email/sft@1"] * 3
    first, *others = engine.requests
    assert (first.temperature, first.seed) == (0, 7)
    assert [one.temperature for one in others] == [1.0, 1.0]
    assert len({one.seed for one in engine.requests}) == 3


def test_a_stream_is_one_piece_and_its_usage() -> None:
    async def ask(engine: Reranked) -> list[Piece]:
        return [piece async for piece in engine.stream("email/sft@1+best3", request())]

    piece, usage = use(Numbered("aa", "a", "aaa"), ask)
    assert piece.text == "a"
    assert piece.choices[0]["delta"] == {"role": "assistant", "content": "a"}
    assert piece.choices[0]["finish_reason"] == "stop"
    assert usage.usage["total_tokens"] == 12


def test_it_fails_where_the_policy_does() -> None:
    engine = Numbered("a", "b", "c")
    engine.fails["email/sft@1"] = 1
    with pytest.raises(EngineError, match="out of order"):
        use(engine, completes())


def edits(n: int) -> list[Interaction]:
    """The longer a response, the dearer."""
    texts = [" ".join(["word"] * (1 + number % 5)) for number in range(n)]
    return [
        Interaction(
            Completion(str(k), "email", (Message("user", f"Notes {k}."),), text, "base"),
            Edit(str(k), "ok" if k % 5 else text),
        )
        for k, text in enumerate(texts)
    ]


def serving(arm: str, root: Path, base: Base, tmp_path: Path) -> Settings:
    """A gateway's settings: one task, which chooses among base and an arm."""
    return Settings(
        policies=PolicySettings(root=root),
        model=ModelSettings(name=base.name, cache=tmp_path / "cache"),
        tasks={"email": TaskSettings(policies=("base", arm))},
    )


def test_a_configured_arm_reranks_by_the_tasks_cost_model(tiny_base: Base, tiny_policies: Path, tmp_path: Path) -> None:
    root = shutil.copytree(tiny_policies, tmp_path / "policies")
    arm = "email/sft@1+best3"
    settings = serving(arm, root, tiny_base, tmp_path)

    async def ask(log: EditLog) -> Any:
        async with make_gateway(settings, log) as gateway:
            (task,) = gateway.of("default").values()
            answer = await task.engines[arm].complete(arm, request(max_tokens=12, temperature=0, seed=1))
            own = await task.engines["base"].complete("base", request(max_tokens=12, temperature=0))
            return answer, own, task.engines[arm]

    with EditLog(f"sqlite:///{tmp_path / 'redraft.db'}") as log:
        with pytest.raises(DataError, match=r"no cost model .*redraft train cost email makes one"):
            asyncio.run(ask(log))
        features = Features(tiny_base, tmp_path / "cache")
        run = learn_cost(edits(40), features, COSTS["word"], holdout=0.3, seed=0)
        write_cost(root / "email" / "cost@1", run, features, COSTS["word"])
        answer, own, engine = asyncio.run(ask(log))
    assert isinstance(engine, Reranked)
    host = AdapterHost(replace(tiny_base, model=copy.deepcopy(tiny_base.model)))
    policy = host.load("email/sft@1", root / "email/sft@1")
    messages = request().logged()
    seeds = [(0.0, 1), (1.0, 1 + 1_000_033), (1.0, 1 + 2 * 1_000_033)]
    texts = [policy.respond([messages], Decoding(12, temperature, seed))[0] for temperature, seed in seeds]
    prices = Bound(run.model, features)([messages] * 3, texts)
    assert answer.text == texts[prices.argmin()]
    assert own.text != answer.text
    assert answer.usage is not None
    assert answer.usage["completion_tokens"] > own.usage["completion_tokens"]


def test_a_configured_consensus_needs_no_cost_model(tiny_base: Base, tiny_policies: Path, tmp_path: Path) -> None:
    arm = "email/sft@1+consensus3"
    settings = serving(arm, tiny_policies, tiny_base, tmp_path)

    async def ask(log: EditLog) -> Answer:
        async with make_gateway(settings, log) as gateway:
            (task,) = gateway.of("default").values()
            return await task.engines[arm].complete(arm, request(max_tokens=12, temperature=0.8, seed=1))

    with EditLog(f"sqlite:///{tmp_path / 'redraft.db'}") as log:
        answer = asyncio.run(ask(log))
    host = AdapterHost(replace(tiny_base, model=copy.deepcopy(tiny_base.model)))
    policy = host.load("email/sft@1", tiny_policies / "email/sft@1")
    seeds = [1 + APART * number for number in range(3)]
    texts = [policy.respond([request().logged()], Decoding(12, 0.8, seed))[0] for seed in seeds]
    judged = risks(texts, COSTS["word"])
    assert len({*judged}) > 1
    assert answer.text == texts[judged.index(min(judged))]
