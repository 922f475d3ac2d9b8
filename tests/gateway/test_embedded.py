"""The model in this process: pieces add up, requests share batches, and each is answered as if it were alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from gateway_parts import request

from redraft.errors import RedraftError
from redraft.gateway.embedded import Embedded
from redraft.gateway.engine import Answer, EngineError
from redraft.lm.load import load_base
from redraft.policies.adapter import AdapterHost
from redraft.types import Decoding, Message

T = TypeVar("T")


@pytest.fixture(scope="module")
def host(tiny_model_folder: Path) -> AdapterHost:
    return AdapterHost(load_base(str(tiny_model_folder), tiny_model_folder.parent))


def use(host: AdapterHost, adapters: dict[str, Path], ask: Callable[[Embedded], Awaitable[T]]) -> T:
    async def run() -> T:
        engine = Embedded(lambda: host, adapters, max_new_tokens=40)
        await engine.start(["base", *adapters])
        try:
            return await ask(engine)
        finally:
            await engine.close()

    return asyncio.run(run())


def asked(text: str = "Say hi.", **fields: Any) -> Any:
    return request(messages=[{"role": "user", "content": text}], **({"temperature": 0, "max_tokens": 24} | fields))


def test_it_answers_as_the_policy_does(host: AdapterHost, tiny_policies: Path) -> None:
    adapters = {f"email/{name}": tiny_policies / "email" / name for name in ("sft@1", "dpo@1")}

    async def ask(engine: Embedded) -> list[str]:
        names = ("base", *adapters)
        return [answer.text for answer in await asyncio.gather(*(engine.complete(name, asked()) for name in names))]

    texts = use(host, adapters, ask)
    messages = (Message("user", "Say hi."),)
    assert texts == [host.respond(name, [messages], Decoding(24))[0] for name in ("base", *adapters)]
    assert len(set(texts)) == 3


def test_pieces_add_up_and_end_with_usage(host: AdapterHost) -> None:
    async def ask(engine: Embedded) -> Any:
        whole = await engine.complete("base", asked())
        return whole, [piece async for piece in engine.stream("base", asked())]

    whole, pieces = use(host, {}, ask)
    assert "".join(piece.text for piece in pieces) == whole.text
    assert len(pieces) > 5
    assert pieces[-1].usage == whole.usage
    assert whole.usage["completion_tokens"] == 24
    assert pieces[-2].choices[0]["finish_reason"] == whole.choice["finish_reason"] == "length"


def test_together_each_is_answered_as_alone(host: AdapterHost) -> None:
    several = [asked(f"Write {n}.", temperature=1, seed=n, max_tokens=5 + n) for n in range(12)]

    async def ask(engine: Embedded) -> Any:
        together = await asyncio.gather(*(engine.complete("base", one) for one in several))
        return [answer.text for answer in together], [(await engine.complete("base", one)).text for one in several]

    together, alone = use(host, {}, ask)
    assert together == alone
    assert len(set(together)) == 12


def test_what_waits_is_answered_in_one_batch(host: AdapterHost, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    before = host.watch

    def watch(name: str, prompts: list[list[int]], *rest: Any) -> None:
        sizes.append(len(prompts))
        before(name, prompts, *rest)

    monkeypatch.setattr(host, "watch", watch)

    async def ask(engine: Embedded) -> None:
        await asyncio.gather(*(engine.complete("base", asked(f"Write {n}.")) for n in range(20)))

    use(host, {}, ask)
    assert sum(sizes) == 20
    assert len(sizes) <= 3


def test_it_stops_before_a_stop_text(host: AdapterHost) -> None:
    async def ask(engine: Embedded) -> Any:
        full = await engine.complete("base", asked())
        stop = full.text[6:9]
        cut = await engine.complete("base", asked(stop=["never said", stop]))
        pieces = [piece.text async for piece in engine.stream("base", asked(stop=stop))]
        return full.text, stop, cut, "".join(pieces)

    full, stop, cut, streamed = use(host, {}, ask)
    assert cut.text == streamed == full[: full.index(stop)]
    assert cut.choice["finish_reason"] == "stop"


def test_one_that_goes_away_leaves_its_batch(host: AdapterHost) -> None:
    async def ask(engine: Embedded) -> str:
        pieces = engine.stream("base", asked(max_tokens=40))
        await anext(pieces)
        await pieces.aclose()  # pyright: ignore[reportAttributeAccessIssue]
        return (await engine.complete("base", asked())).text

    assert use(host, {}, ask)


def test_what_it_does_not_have_is_refused(host: AdapterHost) -> None:
    async def ask(engine: Embedded) -> EngineError:
        with pytest.raises(EngineError, match="tools: the embedded model") as caught:
            await engine.complete("base", asked(tools=[{"type": "function"}]))
        return caught.value

    error = use(host, {}, ask)
    assert (error.status, error.retry) == (400, False)


def test_a_model_that_fails_is_told_and_the_next_request_is_answered(
    host: AdapterHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, broken = host.watch, [True]

    def watch(*arguments: Any) -> None:
        if broken.pop() if broken else False:
            raise RuntimeError("no memory")
        before(*arguments)

    monkeypatch.setattr(host, "watch", watch)

    async def ask(engine: Embedded) -> str:
        with pytest.raises(EngineError, match="RuntimeError: no memory"):
            await engine.complete("base", asked())
        return (await engine.complete("base", asked())).text

    assert use(host, {}, ask)


def test_closing_tells_those_who_wait(host: AdapterHost) -> None:
    async def ask(engine: Embedded) -> None:
        waiting = [asyncio.create_task(engine.complete("base", asked(temperature=n / 10))) for n in range(1, 6)]
        await asyncio.sleep(0.01)
        await engine.close()
        told = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(one, Answer | EngineError) for one in told)
        assert any(isinstance(one, EngineError) for one in told)
        with pytest.raises(EngineError, match="shutting down"):
            await engine.complete("base", asked())

    use(host, {}, ask)


def test_an_adapter_that_cannot_be_loaded_stops_the_start(host: AdapterHost, tmp_path: Path) -> None:
    async def run() -> None:
        engine = Embedded(lambda: host, {"email/none@1": tmp_path})
        with pytest.raises(RedraftError, match="not a redraft manifest"):
            await engine.start(["email/none@1"])

    asyncio.run(run())
