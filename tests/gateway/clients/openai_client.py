"""The official Python client: chat completions and responses, whole, streamed, with tools and parsed."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import told
from pydantic import BaseModel

FUNCTION: Any = {"type": "function", **told.TOOL["function"], "strict": False}


class Mail(BaseModel):
    """A parsed answer."""

    subject: str
    words: int


def client(case: told.Case) -> openai.OpenAI:
    return openai.OpenAI(base_url=case.url, api_key=case.key)


def ask(case: told.Case) -> dict[str, Any]:
    return {"model": case.model, "messages": [{"role": "user", "content": case.prompt}]}


def put(case: told.Case) -> dict[str, Any]:
    return {"model": case.model, "input": case.prompt}


def chat(case: told.Case) -> dict[str, Any]:
    answer = client(case).chat.completions.create(**ask(case))
    return told.tell(id=answer.id, text=answer.choices[0].message.content, usage=answer.usage is not None)


def stream(case: told.Case) -> dict[str, Any]:
    chunks = list(
        client(case).chat.completions.create(**ask(case), stream=True, stream_options={"include_usage": True})
    )
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    return told.tell(id=chunks[0].id, text="".join(texts), pieces=len(texts), usage=chunks[-1].usage is not None)


def tools(case: told.Case) -> dict[str, Any]:
    answer = client(case).chat.completions.create(**ask(case), tools=[told.TOOL])
    calls: Any = answer.choices[0].message.tool_calls
    (call,) = calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "sent"}
    messages: Any = [*ask(case)["messages"], answer.choices[0].message, result]
    after = client(case).chat.completions.create(model=case.model, messages=messages, tools=[told.TOOL])
    text, function = after.choices[0].message.content, call.function
    return told.tell(id=answer.id, call=[function.name, function.arguments], after=text)


def tools_stream(case: told.Case) -> dict[str, Any]:
    with client(case).chat.completions.stream(**ask(case), tools=[told.TOOL]) as events:
        answer = events.get_final_completion()
    calls: Any = answer.choices[0].message.tool_calls
    (call,) = calls
    return told.tell(id=answer.id, call=[call.function.name, call.function.arguments])


def parsed(case: told.Case) -> dict[str, Any]:
    answer = client(case).chat.completions.parse(**ask(case), response_format=Mail)
    found = answer.choices[0].message.parsed
    return told.tell(id=answer.id, parsed=found and found.model_dump())


def response(case: told.Case) -> dict[str, Any]:
    answer = client(case).responses.create(**put(case))
    return told.tell(id=answer.id, text=answer.output_text, usage=answer.usage is not None)


def response_stream(case: told.Case) -> dict[str, Any]:
    events: list[Any] = list(client(case).responses.create(**put(case), stream=True))
    texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert events[-1].type in ("response.completed", "response.incomplete")  # the latter at the longest answer
    last = events[-1].response
    assert last.output_text == "".join(texts)
    return told.tell(id=last.id, text="".join(texts), pieces=len(texts), usage=last.usage is not None)


def response_tools(case: told.Case) -> dict[str, Any]:
    answer = client(case).responses.create(**put(case), tools=[FUNCTION])
    (call,) = (item for item in answer.output if item.type == "function_call")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sent"}
    turns: Any = [{"role": "user", "content": case.prompt}, call.model_dump(exclude_none=True), result]
    after = client(case).responses.create(model=case.model, input=turns, tools=[FUNCTION])
    return told.tell(id=answer.id, call=[call.name, call.arguments], after=after.output_text)


def response_tools_stream(case: told.Case) -> dict[str, Any]:
    with client(case).responses.stream(**put(case), tools=[FUNCTION]) as events:
        answer = events.get_final_response()
    (call,) = (item for item in answer.output if item.type == "function_call")
    return told.tell(id=answer.id, call=[call.name, call.arguments])


def response_parsed(case: told.Case) -> dict[str, Any]:
    answer = client(case).responses.parse(**put(case), text_format=Mail)
    return told.tell(id=answer.id, parsed=answer.output_parsed and answer.output_parsed.model_dump())


def leave(case: told.Case) -> dict[str, Any]:
    with client(case).chat.completions.create(**ask(case), stream=True) as chunks:
        chunk = next(chunk for chunk in chunks if chunk.choices[0].delta.content)
    return told.tell(id=chunk.id, text=chunk.choices[0].delta.content)


def response_leave(case: told.Case) -> dict[str, Any]:
    name = ""
    with client(case).responses.create(**put(case), stream=True) as events:
        for event in events:
            if event.type == "response.created":
                name = event.response.id
            if event.type == "response.output_text.delta":
                return told.tell(id=name, text=event.delta)
    return told.tell()


def give_up(case: told.Case) -> dict[str, Any]:
    async def wait() -> dict[str, Any]:
        async with openai.AsyncOpenAI(base_url=case.url, api_key=case.key) as other:
            responses = case.ask.startswith("responses")
            asking: Any = (
                other.responses.create(**put(case)) if responses else other.chat.completions.create(**ask(case))
            )
            return await told.give_up(asking, case)

    return asyncio.run(wait())


told.run(
    {
        "chat/chat": chat,
        "chat/stream": stream,
        "chat/tools": tools,
        "chat/tools stream": tools_stream,
        "chat/json": parsed,
        "chat/slow": leave,
        "chat/wait": give_up,
        "responses/chat": response,
        "responses/stream": response_stream,
        "responses/tools": response_tools,
        "responses/tools stream": response_tools_stream,
        "responses/json": response_parsed,
        "responses/slow": response_leave,
        "responses/wait": give_up,
    }
)
