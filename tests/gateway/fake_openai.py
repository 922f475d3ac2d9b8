"""An upstream for tests that speaks OpenAI's chat protocol. The last message says what it answers, up to a colon.

``chat`` and ``json`` answer with texts, ``tools`` with a tool call, ``fail 429`` with that error, ``slow`` with a word
and then nothing, ``wait`` with nothing at all. It remembers what it was asked and how each request ended.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

SAID = "Dear Ann, all is well."
CALL = {"to": "Ann", "urgent": True}
PARSED = {"subject": "Review", "words": 12}
KEY = "sk-upstream-0123456789abcdef"
ERRORS: dict[int, dict[str, Any]] = {
    400: {"message": "too hot", "type": "invalid_request_error", "param": "temperature", "code": "too_high"},
    401: {"message": f"Incorrect API key: {KEY}", "type": "invalid_request_error", "code": "invalid_api_key"},
    429: {"message": "slow down", "type": "requests", "param": None, "code": "rate_limit_exceeded"},
    500: {"message": "broken", "type": "server_error", "param": None, "code": None},
}


class Fake:
    """What it was asked: pairs of the last user text and how it ended (``open``, ``answered``, ``gone``)."""

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[dict[str, Any]] = []
        self.ends: dict[str, list[str]] = {}

    def count(self, prompt: str) -> int:
        return len(self.ends.get(prompt, ()))

    def left(self, prompt: str, seconds: float = 5.0) -> list[str]:
        """How the requests of a prompt ended, once all were given up by whoever asked or some seconds have passed."""
        deadline = time.monotonic() + seconds
        while set(self.ends.get(prompt, ())) != {"gone"} and time.monotonic() < deadline:
            time.sleep(0.02)
        return list(self.ends.get(prompt, ()))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        prompt = next(_text(said) for said in reversed(body["messages"]) if said["role"] == "user")
        ends = self.ends.setdefault(prompt, [])
        place = len(ends)
        ends.append("open")
        self.bodies.append(body)
        try:
            response = await self._answer(request, body, prompt.partition(":")[0])
        except (asyncio.CancelledError, ConnectionError):
            ends[place] = "gone"
            raise
        ends[place] = "answered"
        return response

    async def reached(self, request: web.Request) -> web.Response:
        """Answer when a request with the prompt has come, or after twenty seconds."""
        for _ in range(1000):
            if request.query["prompt"] in self.ends:
                break
            await asyncio.sleep(0.02)
        return web.Response()

    async def _answer(self, request: web.Request, body: dict[str, Any], kind: str) -> web.StreamResponse:
        if kind.startswith("fail"):
            status = int(kind.split()[1])
            headers = {"Retry-After": "1"} if status == 429 else None
            return web.json_response({"error": ERRORS[status]}, status=status, headers=headers)
        if kind == "wait":
            await asyncio.sleep(20)
        message = _message(body, kind)
        if body.get("stream"):
            return await _stream(request, message, hang=kind == "slow")
        reason = "tool_calls" if "tool_calls" in message else "stop"
        choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
        return web.json_response(_body("chat.completion", [choice], USAGE))


USAGE = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _message(body: dict[str, Any], kind: str) -> dict[str, Any]:
    if kind.startswith("tools") and body["messages"][-1]["role"] != "tool":
        name = body["tools"][0]["function"]["name"]
        function = {"name": name, "arguments": json.dumps(CALL)}
        return {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        }
    if kind == "json":
        assert body["response_format"]["type"] == "json_schema"
        return {"role": "assistant", "content": json.dumps(PARSED)}
    return {"role": "assistant", "content": SAID}


def _deltas(message: dict[str, Any]) -> list[dict[str, Any]]:
    start = [{"role": "assistant", "content": "" if message["content"] else None}]
    if message["content"]:
        words = message["content"].split(" ")
        return start + [{"content": word if i == 0 else f" {word}"} for i, word in enumerate(words)]
    (call,) = message["tool_calls"]
    said = call["function"]["arguments"]
    parts: list[dict[str, Any]] = [{**call, "function": {**call["function"], "arguments": ""}}]
    parts += [{"function": {"arguments": part}} for part in (said[:9], said[9:])]
    return start + [{"tool_calls": [{"index": 0, **part}]} for part in parts]


async def _stream(request: web.Request, message: dict[str, Any], *, hang: bool) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)

    async def send(choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> None:
        said = json.dumps(_body("chat.completion.chunk", choices, usage))
        await response.write(f"data: {said}\n\n".encode())

    for delta in _deltas(message)[: 2 if hang else None]:
        await send([{"index": 0, "delta": delta, "finish_reason": None}])
    if hang:
        await asyncio.sleep(20)
    await send([{"index": 0, "delta": {}, "finish_reason": "stop" if message["content"] else "tool_calls"}])
    await send([], USAGE)
    await response.write(b"data: [DONE]\n\n")
    return response


def _body(kind: str, choices: list[dict[str, Any]], usage: dict[str, int] | None) -> dict[str, Any]:
    about = {"id": "chatcmpl-fake", "object": kind, "created": 1, "model": "m", "system_fingerprint": "fp_fake"}
    return {**about, "choices": choices, "usage": usage}


@contextmanager
def fake_openai() -> Generator[Fake]:
    """Serve it in a thread; ``url`` ends in /v1."""
    fake, loop, ready = Fake(), asyncio.new_event_loop(), threading.Event()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", fake.chat)
    app.router.add_get("/reached", fake.reached)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        ready.set()

    def run() -> None:
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield fake
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
