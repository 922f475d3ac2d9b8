"""``/v1/responses``, spoken to by the official client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx
import openai
import pytest
from gateway_parts import Scripted, served, task
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from redraft.gateway.app import create_app
from redraft.gateway.auth import Authority
from redraft.gateway.engine import Answer, EngineError, Piece
from redraft.gateway.openai import ChatRequest
from redraft.gateway.responses import ResponsesRequest
from redraft.gateway.service import Gateway
from redraft.log import EditLog

USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2}}
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {}},
    "strict": True,
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}


class Saying(Scripted):
    """Says one message, in pieces when streamed, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.message: dict[str, Any] = {"role": "assistant", "content": "All is well."}
        self.reason, self.requests = "stop", list[ChatRequest]()

    async def complete(self, policy: str, request: ChatRequest) -> Answer:
        self.requests.append(request)
        if self.refuses is not None:
            raise self.refuses
        choice = {"message": self.message, "finish_reason": self.reason}
        return Answer(choice, USAGE, {"citations": ["a"], "object": "x"}, "req-7")

    async def stream(self, policy: str, request: ChatRequest) -> AsyncIterator[Piece]:
        self.requests.append(request)
        for delta in self._deltas():
            yield Piece.of(delta, None)
        if self.refuses is not None:
            raise self.refuses
        yield Piece.of({}, self.reason)
        yield Piece((), USAGE)

    def _deltas(self) -> Iterator[Mapping[str, Any]]:
        for kind in ("content", "refusal"):
            text = self.message.get(kind) or ""
            yield from ({kind: text[at : at + 4]} for at in range(0, len(text), 4))
        for index, call in enumerate(self.message.get("tool_calls", ())):
            said = call["function"]["arguments"]
            yield {"tool_calls": [{**call, "index": index, "function": {"name": call["function"]["name"]}}]}
            yield from ({"tool_calls": [{"index": index, "function": {"arguments": part}}]} for part in said)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EditLog]:
    with EditLog(f"sqlite:///{tmp_path_factory.mktemp('responses') / 'log.db'}") as opened:
        yield opened


@pytest.fixture(scope="module")
def serving(log: EditLog) -> Iterator[tuple[Saying, str]]:
    engine = Saying()
    with served(create_app(Gateway(log, [task(engine)]), Authority(log.key, "default"))) as found:
        yield engine, found


@pytest.fixture
def engine(serving: tuple[Saying, str]) -> Saying:
    serving[0].__init__()
    return serving[0]


@pytest.fixture
def url(serving: tuple[Saying, str]) -> str:
    return serving[1]


@pytest.fixture
def client(url: str, engine: Saying) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as found:
        yield found


def test_a_response_is_a_completion_that_can_be_edited(client: openai.OpenAI, url: str, log: EditLog) -> None:
    raw = client.responses.with_raw_response.create(model="email", input="hi", instructions="Be kind.", store=True)
    got = raw.parse()
    Response.model_validate(got.model_dump(), strict=False)
    assert (got.output_text, got.status, got.model) == ("All is well.", "completed", "email/base")
    assert got.usage is not None
    assert (got.usage.input_tokens, got.usage.output_tokens, got.usage.total_tokens) == (3, 4, 7)
    assert got.usage.input_tokens_details.cached_tokens == 2
    assert (got.object, got.model_extra) == ("response", {"citations": ["a"]})
    assert raw.headers["x-request-id"] == "req-7"
    logged = log.interaction(got.id).completion
    assert [(m.role, m.content) for m in logged.messages] == [("system", "Be kind."), ("user", "hi")]
    assert httpx.post(f"{url}/v1/edits", json={"completion_id": got.id, "edited": "Fine."}).json()["new"]


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_are_called(client: openai.OpenAI, engine: Saying, streamed: bool) -> None:
    engine.message = {"role": "assistant", "content": "Look:", "tool_calls": [CALL, {**CALL, "id": "call_2"}]}
    engine.reason = "tool_calls"
    asked: Any = {
        "model": "email",
        "input": "hi",
        "tools": [WEATHER],
        "tool_choice": {"type": "function", "name": "weather"},
    }
    if streamed:
        with client.responses.stream(**asked) as stream:
            got: Any = stream.get_final_response()
    else:
        got = client.responses.parse(**asked)
    assert [item.type for item in got.output] == ["message", "function_call", "function_call"]
    assert [item.call_id for item in got.output[1:]] == ["call_1", "call_2"]
    assert got.output[1].parsed_arguments == {"city": "Oslo"}
    forwarded = engine.requests[-1].forwarded("m")
    assert forwarded["tools"][0]["function"]["name"] == "weather"
    assert forwarded["tool_choice"] == {"type": "function", "function": {"name": "weather"}}


def test_answers_are_parsed(client: openai.OpenAI, engine: Saying) -> None:
    class Mood(BaseModel):
        mood: str

    engine.message["content"] = '{"mood": "fine"}'
    got = client.responses.parse(model="email", input="hi", text_format=Mood)
    assert got.output_parsed == Mood(mood="fine")
    assert engine.requests[-1].forwarded("m")["response_format"]["json_schema"]["name"] == "Mood"


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_every_event_is_of_the_clients_types(client: openai.OpenAI, engine: Saying, reason: str) -> None:
    engine.message, engine.reason = {"content": "All is well.", "refusal": "No more.", "tool_calls": [CALL]}, reason
    events = list(client.responses.create(model="email", input="hi", stream=True))
    known: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    for event in events:
        known.validate_python(event.model_dump(by_alias=True, exclude_unset=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    ends = "response.incomplete" if reason == "length" else "response.completed"
    assert kinds[:3] + kinds[-1:] == ["response.created", "response.in_progress", "response.output_item.added", ends]
    said: Any = [event for event in events if event.type == "response.output_text.delta"]
    assert "".join(event.delta for event in said) == "All is well."
    final: Any = events[-1]
    assert (final.response.incomplete_details is None) == (reason == "stop")
    done: Any = [event for event in events if event.type == "response.output_item.done"]
    assert [event.item.id for event in done] == [item.id for item in final.response.output]
    texts = [part.type for part in final.response.output[0].content]
    assert (texts, final.response.usage.total_tokens) == (["output_text", "refusal"], 7)


def test_a_stream_that_breaks_ends_in_an_error(client: openai.OpenAI, engine: Saying) -> None:
    engine.refuses = EngineError("too much", status=429, code="rate_limit_exceeded")
    events: list[Any] = list(client.responses.create(model="email", input="hi", stream=True))
    assert [event.type for event in events[-2:]] == ["error", "response.failed"]
    assert (events[-2].code, events[-2].message) == ("rate_limit_exceeded", "too much")
    assert (events[-1].response.status, events[-1].response.error.code) == ("failed", "rate_limit_exceeded")


REFUSED: list[tuple[str, Any]] = [
    ("previous_response_id", "resp_1"),
    ("conversation", "conv_1"),
    ("background", True),
    ("tools", [{"type": "web_search"}]),
    ("tool_choice", {"type": "web_search"}),
    ("input", [{"type": "item_reference", "id": "x"}]),
    ("input", [{"role": "user", "content": [{"type": "input_video"}]}]),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_what_is_not_supported_is_said(client: openai.OpenAI, name: str, value: Any) -> None:
    fields: Any = {"input": "hi", name: value}
    with pytest.raises(openai.BadRequestError, match=f"{name} is not supported: ") as refused:
        client.responses.create(model="email", **fields)
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", name)


def test_errors_are_the_clients(client: openai.OpenAI, engine: Saying) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.responses.create(model="none", input="hi")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="role"):
        client.responses.create(model="email", input=[{"role": "nobody", "content": "x"}])  # pyright: ignore[reportArgumentType]
    engine.refuses = EngineError("busy", status=429, retry_after=6.2, final=True, kind="tokens", param="model")
    with pytest.raises(openai.RateLimitError) as busy:
        client.responses.create(model="email", input="hi")
    assert (busy.value.type, busy.value.param) == ("tokens", "model")
    assert (busy.value.response.headers["retry-after"], busy.value.response.headers["x-should-retry"]) == ("7", "false")


def test_items_become_messages() -> None:
    items: Any = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        {"type": "reasoning", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Look:"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "2"}]},
        {"role": "user", "content": [{"type": "input_image", "image_url": "data:x"}]},
    ]
    asked = {
        "model": "m",
        "input": items,
        "max_output_tokens": 9,
        "reasoning": {"effort": "low"},
        "safety_identifier": "ann",
    }
    told = ResponsesRequest.model_validate(asked).chat()
    sent = json.loads(json.dumps(told.forwarded("m")))
    assert [message["role"] for message in sent["messages"]] == [
        "developer", "user", "assistant", "tool", "tool", "user",
    ]  # fmt: skip
    assert sent["messages"][1]["content"] == "ab"
    assert [call["function"]["name"] for call in sent["messages"][2]["tool_calls"]] == ["f", "g"]
    assert [m["tool_call_id"] + m["content"] for m in sent["messages"][3:5]] == ["c11", "c22"]
    assert sent["messages"][5]["content"][0]["image_url"]["url"] == "data:x"
    assert (told.limit, sent["reasoning_effort"], told.user) == (9, "low", "ann")
