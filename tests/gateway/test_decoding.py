"""How a task's policies write is one setting: greedy unless it says otherwise, and a client's own value goes first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import Scripted, request, task, with_gateway

from redraft.config import DecodingSettings
from redraft.gateway.engine import Piece
from redraft.gateway.openai import ChatRequest
from redraft.gateway.service import Gateway
from redraft.log import EditLog
from redraft.types import Edit


class Listening(Scripted):
    """Remembers the requests as an engine gets them."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[ChatRequest] = []

    def stream(self, policy: str, request: ChatRequest) -> AsyncIterator[Piece]:
        self.heard.append(request)
        return super().stream(policy, request)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EditLog]:
    with EditLog(f"sqlite:///{tmp_path / 'log.db'}") as opened:
        yield opened


@pytest.mark.parametrize(
    ("settings", "asked", "expected"),
    [
        ({}, {}, {"temperature": 0.0}),
        ({"temperature": 0.3, "max_new_tokens": 9}, {}, {"temperature": 0.3, "max_new_tokens": 9}),
        (
            {"temperature": 0.3},
            {"temperature": 0.0, "max_completion_tokens": 5},
            {"temperature": 0.0, "max_new_tokens": 5},
        ),
        ({"explore_share": 1.0}, {}, {"temperature": 1.0, "explored": True}),
        ({"explore_share": 1.0}, {"temperature": 0.2}, {"temperature": 0.2}),
        ({"explore_share": 1.0}, {"model": "email/base"}, {"temperature": 0.0}),
    ],
)
def test_an_engine_gets_it_and_the_log_says_it(
    log: EditLog, settings: dict[str, Any], asked: dict[str, Any], expected: dict[str, Any]
) -> None:
    engine = Listening()

    async def use(gateway: Gateway) -> str:
        return (await gateway.complete(request(**asked), "default")).completion_id

    completion_id = with_gateway(log, [task(engine, decoding=DecodingSettings(**settings))], use)
    assert log.interaction(completion_id).completion.decoding == expected
    (heard,) = engine.heard
    assert (heard.temperature, heard.limit) == (expected["temperature"], expected.get("max_new_tokens"))
    assert heard.forwarded("m")["temperature"] == expected["temperature"]


def test_what_explores_teaches_no_selector(log: EditLog) -> None:
    async def use(gateway: Gateway) -> int:
        for _ in range(40):
            reply = await gateway.complete(request(), "default")
            await gateway.edit(Edit(reply.completion_id, "another text", -1), "default")
        return sum(count.resolved for count in gateway.board("email").counts().values())

    learnt = with_gateway(log, [task(Scripted(), decoding=DecodingSettings(explore_share=0.5))], use)
    explored = sum("explored" in found.completion.decoding for found in log.interactions())
    assert 8 < explored < 32
    assert learnt == 40 - explored
    assert log.verify() == []
