"""The model in this process: pieces add up, requests share batches, and each is answered as if it were alone."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from gateway_parts import request

from redraft.config import Settings
from redraft.errors import RedraftError
from redraft.gateway.embedded import Embedded
from redraft.gateway.engine import Answer, EngineError
from redraft.gateway.setup import make_gateway
from redraft.lm.load import load_base
from redraft.lm.trim import Trim, trim
from redraft.log import EditLog
from redraft.policies.adapter import AdapterHost
from redraft.types import Decoding, Message

T = TypeVar("T")


@pytest.fixture(scope="module")
def host(tiny_model_folder: Path) -> AdapterHost:
    return AdapterHost(load_base(str(tiny_model_folder), tiny_model_folder.parent))


def use(host: AdapterHost, adapters: dict[str, Path], ask: Callable[[Embedded], Awaitable[T]], **limits: int) -> T:
    async def run() -> T:
        engine = Embedded(lambda: host, adapters, **({"max_new_tokens": 40} | limits))
        await engine.start(["base", *adapters])
        try:
            return await ask(engine)
        finally:
            await engine.close()

    return asyncio.run(run())


def asked(text: str = "Say hi.", **fields: Any) -> Any:
    said = {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 24}
    return request(**(said | fields))


def test_it_answers_as_the_policy_does(host: AdapterHost, tiny_policies: Path) -> None:
    adapters = {f"email/{name}": tiny_policies / "email" / name for name in ("sft@1", "dpo@1")}

    async def ask(engine: Embedded) -> list[str]:
        names = ("base", *adapters)
        return [answer.text for answer in await asyncio.gather(*(engine.complete(name, asked()) for name in names))]

    texts = use(host, adapters, ask)
    messages = (Message("user", "Say hi."),)
    assert texts == [host.respond(name, [messages], Decoding(24))[0] for name in ("base", *adapters)]
    assert len(set(texts)) == 3


@pytest.mark.parametrize("name", ["base", "email/dpo@1"])
def test_served_and_generated_are_one_text_also_where_it_repeats_itself(
    host: AdapterHost, tiny_policies: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cut in (trim, Trim.__init__):
        monkeypatch.setattr(cut, "__defaults__", (4,))  # characters, where people get 200
    questions = [f"Write {number}." for number in range(3)]
    adapters = {"email/dpo@1": tiny_policies / "email/dpo@1"}

    async def ask(engine: Embedded) -> list[tuple[str, str, str]]:
        found: list[tuple[str, str, str]] = []
        for question in questions:
            whole = await engine.complete(name, asked(question, temperature=None, max_tokens=60))
            pieces = [piece async for piece in engine.stream(name, asked(question, max_tokens=60))]
            found.append((whole.text, "".join(piece.text for piece in pieces), whole.choice["finish_reason"]))
        return found

    answers = use(host, adapters, ask, max_new_tokens=60)
    said = host.respond(name, [(Message("user", question),) for question in questions], Decoding(60))
    assert [text for text, _, _ in answers] == [text for _, text, _ in answers] == said
    assert "stop" in {reason for *_, reason in answers}, "some repeat themselves"


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


def test_what_waits_is_answered_in_one_batch_whatever_its_policy(
    host: AdapterHost, tiny_policies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    before = host.watch

    def watch(names: list[str], prompts: list[list[int]], *rest: Any) -> None:
        sizes.append(len(prompts))
        before(names, prompts, *rest)

    monkeypatch.setattr(host, "watch", watch)
    adapters = {"email/dpo@1": tiny_policies / "email/dpo@1"}
    names = ["base", "email/dpo@1"]

    async def ask(engine: Embedded) -> list[str]:
        several = [engine.complete(names[n % 2], asked(f"Write {n // 2}.")) for n in range(20)]
        return [answer.text for answer in await asyncio.gather(*several)]

    texts = use(host, adapters, ask)
    contexts = [(Message("user", f"Write {n}."),) for n in range(10)]
    assert [texts[0::2], texts[1::2]] == [host.respond(name, contexts, Decoding(24)) for name in names]
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


TOOL = {"type": "function", "function": {"name": "send"}}
IMAGE = {"role": "user", "content": [{"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": "x"}}]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [TOOL]}, "tools"),
        ({"tools": [TOOL], "tool_choice": "auto"}, "tools"),
        ({"functions": [{"name": "send"}]}, "functions"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"logprobs": True, "top_logprobs": 2}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logit_bias": {"7": 1}}, "logit_bias"),
        ({"top_p": 0.1}, "top_p"),
        ({"frequency_penalty": 2}, "frequency_penalty"),
        ({"presence_penalty": -1}, "presence_penalty"),
        ({"top_k": 1}, "top_k"),
        ({"min_p": 0.5}, "min_p"),
        ({"repetition_penalty": 1.1}, "repetition_penalty"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"guided_regex": "a+"}, "guided_regex"),
        ({"messages": [{"role": "user", "content": "Hi"}, IMAGE]}, "messages[1].content"),
    ],
)
def test_what_it_would_have_to_ignore_is_refused(host: AdapterHost, fields: dict[str, Any], param: str) -> None:
    async def ask(engine: Embedded) -> EngineError:
        with pytest.raises(EngineError, match="the embedded model") as caught:
            await engine.complete("base", asked(**fields))
        return caught.value

    error = use(host, {}, ask)
    assert (error.status, error.retry, error.param) == (400, False, param)
    assert error.code == ("unsupported_value" if "messages" in fields else "unsupported_parameter")


def test_what_clients_send_by_default_changes_nothing(host: AdapterHost) -> None:
    neutral: dict[str, Any] = {
        "top_p": 1.0, "frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "logprobs": False,
        "response_format": {"type": "text"}, "tools": [TOOL], "tool_choice": "none", "top_k": -1, "min_p": 0,
        "parallel_tool_calls": True, "store": False, "service_tier": "auto", "user": "kim", "seed": 7, "n": 1,
        "stream_options": {"include_usage": True}, "reasoning_effort": "none",
    }  # fmt: skip

    async def ask(engine: Embedded) -> list[str]:
        names = [*neutral, "max_completion_tokens", "temperature", "stop", "anything"]
        null = asked("Say hi.", **dict.fromkeys(names))
        return [(await engine.complete("base", one)).text for one in (asked(), asked(**neutral), null)]

    assert len(set(use(host, {}, ask))) == 1


@pytest.mark.parametrize("seed", [-5, 0, 2**70])
def test_any_seed_draws_the_same_twice(host: AdapterHost, seed: int) -> None:
    async def ask(engine: Embedded) -> list[str]:
        return [(await engine.complete("base", asked(seed=seed, temperature=1, max_tokens=8))).text for _ in "ab"]

    one, again = use(host, {}, ask)
    assert one == again


@pytest.mark.parametrize(
    ("text", "limits", "said"),
    [
        ("word " * 500, {}, r"maximum context length is 2048 tokens, however you requested 25\d\d \(25\d\d in the"),
        ("word " * 400, {"max_prompt_tokens": 100}, r"length is 124 tokens, however you requested 20\d\d"),
        (
            "Hi.",
            {"max_new_tokens": 2040},
            r"length is 2048 tokens, however you requested 20\d\d .* 2040 for the answ",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_never_cut(
    host: AdapterHost, text: str, limits: dict[str, int], said: str
) -> None:
    async def ask(engine: Embedded) -> EngineError:
        with pytest.raises(EngineError, match=said) as caught:
            await engine.complete("base", asked(text, max_tokens=limits.get("max_new_tokens", 24)))
        fits = await engine.complete("base", asked("x" * 50, max_tokens=1))
        assert fits.usage is not None
        assert fits.usage["prompt_tokens"] > 50
        return caught.value

    error = use(host, {}, ask, **limits)
    assert (error.status, error.retry, error.code, error.param) == (400, False, "context_length_exceeded", "messages")


def test_a_prompt_longer_than_in_training_is_not_cut_for_an_adapter(host: AdapterHost, tiny_policies: Path) -> None:
    name = "email/sft@1"  # trained on 64 tokens

    async def ask(engine: Embedded) -> Answer:
        return await engine.complete(name, asked("y" * 300, max_tokens=1))

    answer = use(host, {name: tiny_policies / name}, ask)
    assert answer.usage is not None
    assert answer.usage["prompt_tokens"] > 300


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
        with pytest.raises(EngineError, match=r"model failed \(RuntimeError\): its log says why"):
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


def test_one_thread_loads_and_answers(host: AdapterHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a second one has computed, OpenMP makes both of them a third slower."""
    computing: set[str] = set()
    before = AdapterHost.watch

    def watch(*args: Any) -> None:
        computing.add(threading.current_thread().name)
        before(*args)

    def load() -> AdapterHost:
        computing.add(threading.current_thread().name)
        return host

    async def run() -> None:
        engine = Embedded(load, {})
        for _ in range(2):  # a policy may come later
            await engine.start(["base"])
            await asyncio.gather(*(engine.complete("base", asked(seed=seed)) for seed in range(3)))
        await engine.close()

    monkeypatch.setattr(AdapterHost, "watch", watch)
    asyncio.run(run())
    assert len(computing) == 1
    assert threading.current_thread().name not in computing


def test_an_adapter_that_cannot_be_loaded_stops_the_start(host: AdapterHost, tmp_path: Path) -> None:
    async def run() -> None:
        engine = Embedded(lambda: host, {"email/none@1": tmp_path})
        with pytest.raises(RedraftError, match="not a redraft manifest"):
            await engine.start(["email/none@1"])

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_a_task_in_bfloat16_writes_in_it_and_the_log_says_so(
    tiny_model_folder: Path, tiny_policies: Path, tmp_path: Path, stream: bool
) -> None:
    shutil.copytree(tiny_policies / "email", tmp_path / "policies" / "email")
    arms = {"policies": ["base", "sft@1"], "selector": "uniform"}
    settings = Settings.model_validate(
        {
            "model": {"name": str(tiny_model_folder), "cache": str(tmp_path / "cache")},
            "policies": {"root": str(tmp_path / "policies")},
            "tasks": {"email": arms | {"precision": "bfloat16"}, "plain": {"policies": ["base"]}},
        }
    )
    asked: list[str] = []

    async def ask(log: EditLog) -> None:
        async with make_gateway(settings, log) as gateway:
            for model in ("email/base", "email/sft@1", "plain"):
                reply = await gateway.complete(request(model=model, max_tokens=12, stream=stream), "default")
                asked.append(reply.completion_id)
                if reply.pieces is not None:
                    assert [piece async for piece in reply.pieces]

    with EditLog(f"sqlite:///{tmp_path / 'redraft.db'}") as log:
        asyncio.run(ask(log))
        kept = [log.interaction(each).completion for each in asked]
    host = AdapterHost(load_base(str(tiny_model_folder), tmp_path), max_prompt=None)
    host.load("email/sft@1", tiny_policies / "email/sft@1")
    messages = request().logged()
    for completion, precision in zip(kept, ("bfloat16", "bfloat16", None), strict=True):
        assert completion.decoding.get("precision") == precision
        decoding = Decoding(12, precision=precision or "float32")
        assert completion.response == host.respond(completion.policy, [messages], decoding)[0]
