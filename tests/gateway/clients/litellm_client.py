"""LiteLLM's client: ``completion`` and ``acompletion`` of ``openai/TASK``, and ``responses``."""

# pyright: reportMissingImports=false, reportUnknownParameterType=false

from __future__ import annotations

import asyncio
from typing import Any

import litellm
import told

litellm.suppress_debug_info = True
MAIL = {
    "type": "object",
    "properties": {"subject": {"type": "string"}, "words": {"type": "integer"}},
    "required": ["subject", "words"],
    "additionalProperties": False,
}


def ask(case: told.Case) -> dict[str, Any]:
    messages = [{"role": "user", "content": case.prompt}]
    return {"model": f"openai/{case.model}", "messages": messages, "api_base": case.url, "api_key": case.key}


def chat(case: told.Case) -> dict[str, Any]:
    answer = litellm.completion(**ask(case))
    return told.tell(id=answer.id, text=answer.choices[0].message.content, usage=answer.usage is not None)


def stream(case: told.Case) -> dict[str, Any]:
    chunks = list(litellm.completion(**ask(case), stream=True, stream_options={"include_usage": True}))
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    usage = getattr(chunks[-1], "usage", None) is not None
    return told.tell(id=chunks[0].id, text="".join(texts), pieces=len(texts), usage=usage)


def tools(case: told.Case) -> dict[str, Any]:
    said = ask(case)
    answer = litellm.completion(**said, tools=[told.TOOL])
    (call,) = answer.choices[0].message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "sent"}
    messages = [*said["messages"], answer.choices[0].message.model_dump(), result]
    after = litellm.completion(**said | {"messages": messages}, tools=[told.TOOL])
    text = after.choices[0].message.content
    return told.tell(id=answer.id, call=[call.function.name, call.function.arguments], after=text)


def tools_stream(case: told.Case) -> dict[str, Any]:
    chunks = list(litellm.completion(**ask(case), tools=[told.TOOL], stream=True))
    answer = litellm.stream_chunk_builder(chunks)
    (call,) = answer.choices[0].message.tool_calls
    return told.tell(id=answer.id, call=[call.function.name, call.function.arguments])


def parsed(case: told.Case) -> dict[str, Any]:
    wanted = {"type": "json_schema", "json_schema": {"name": "mail", "strict": True, "schema": MAIL}}
    answer = litellm.completion(**ask(case), response_format=wanted)
    return told.tell(id=answer.id, parsed=told.json.loads(answer.choices[0].message.content))


def leave(case: told.Case) -> dict[str, Any]:
    async def begin() -> dict[str, Any]:
        chunks = await litellm.acompletion(**ask(case), stream=True)
        async for chunk in chunks:
            if chunk.choices[0].delta.content:
                await chunks.aclose()
                return told.tell(id=chunk.id, text=chunk.choices[0].delta.content)
        return told.tell()

    return asyncio.run(begin())


def give_up(case: told.Case) -> dict[str, Any]:
    return asyncio.run(told.give_up(litellm.acompletion(**ask(case)), case))


kinds = {"chat": chat, "stream": stream, "tools": tools, "tools stream": tools_stream, "json": parsed}
kinds |= {"slow": leave, "wait": give_up}
told.run({f"chat/{kind}": ask for kind, ask in kinds.items()})
