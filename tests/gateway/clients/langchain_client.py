"""LangChain's ``ChatOpenAI``: invoke, stream, bind_tools and with_structured_output, over both of OpenAI's APIs."""

# pyright: reportMissingImports=false, reportUnknownParameterType=false

from __future__ import annotations

import asyncio
import json
from typing import Any

import told
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Mail(BaseModel):
    """A parsed answer."""

    subject: str
    words: int


def llm(case: told.Case) -> ChatOpenAI:
    return ChatOpenAI(
        model=case.model,
        base_url=case.url,
        api_key=case.key,
        use_responses_api=case.ask.startswith("responses"),
        stream_usage=True,
        include_response_headers=True,  # a stream of chat tells its id nowhere else
    )


def chat(case: told.Case) -> dict[str, Any]:
    answer = llm(case).invoke(case.prompt)
    usage = answer.usage_metadata is not None
    return told.tell(id=named(answer), text=answer.text, usage=usage)


def stream(case: told.Case) -> dict[str, Any]:
    texts, whole = [], None
    for chunk in llm(case).stream(case.prompt):
        texts += [chunk.text] if chunk.text else []
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    usage = whole.usage_metadata is not None
    return told.tell(id=named(whole), text="".join(texts), pieces=len(texts), usage=usage)


def named(message: Any) -> str | None:
    about = message.response_metadata
    return about.get("id") or about.get("headers", {}).get("x-redraft-completion")


def tools(case: told.Case) -> dict[str, Any]:
    bound, asked = llm(case).bind_tools([told.TOOL]), HumanMessage(case.prompt)
    answer = bound.invoke([asked])
    (call,) = answer.tool_calls
    after = bound.invoke([asked, answer, ToolMessage("sent", tool_call_id=call["id"])])
    return told.tell(id=named(answer), call=[call["name"], json.dumps(call["args"])], after=after.text)


def tools_stream(case: told.Case) -> dict[str, Any]:
    whole: Any = None
    for chunk in llm(case).bind_tools([told.TOOL]).stream(case.prompt):
        whole = chunk if whole is None else whole + chunk
    (call,) = whole.tool_calls
    return told.tell(id=named(whole), call=[call["name"], json.dumps(call["args"])])


def parsed(case: told.Case) -> dict[str, Any]:
    found = llm(case).with_structured_output(Mail, include_raw=True, method="json_schema").invoke(case.prompt)
    return told.tell(id=named(found["raw"]), parsed=found["parsed"] and found["parsed"].model_dump())


def leave(case: told.Case) -> dict[str, Any]:
    pieces = llm(case).stream(case.prompt)
    chunk = next(piece for piece in pieces if piece.text)
    pieces.close()
    return told.tell(text=chunk.text)


def give_up(case: told.Case) -> dict[str, Any]:
    return asyncio.run(told.give_up(llm(case).ainvoke(case.prompt), case))


kinds = {"chat": chat, "stream": stream, "tools": tools, "tools stream": tools_stream, "json": parsed}
kinds |= {"slow": leave, "wait": give_up}
told.run({f"{api}/{kind}": ask for api in ("chat", "responses") for kind, ask in kinds.items()})
