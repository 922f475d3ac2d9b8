"""What the client programs beside this file have in common: they run cases and print a JSON line for each.

``test_clients`` gives the cases and checks the lines. An exception is a result too; ``_failure`` reads what it says.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

SCHEMA = {"type": "object", "properties": {"to": {"type": "string"}, "urgent": {"type": "boolean"}}}
TOOL: Any = {"type": "function", "function": {"name": "send_email", "description": "Send it.", "parameters": SCHEMA}}


@dataclass(frozen=True)
class Case:
    """Something to ask a gateway; ``ask`` names an API of the client and a kind of call: ``chat/stream``.

    ``reached`` is an address that answers as soon as the upstream has the request.
    """

    name: str
    ask: str
    url: str
    key: str
    model: str
    prompt: str
    reached: str


def tell(**found: Any) -> dict[str, Any]:
    """A result."""
    return found


async def give_up(asking: Awaitable[object], case: Case) -> dict[str, Any]:
    """Ask and, when the upstream has the request, leave: a second may pass before a cold client has even sent it."""
    task = asyncio.ensure_future(asking)
    with await asyncio.to_thread(urlopen, case.reached, timeout=60):
        task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return tell(gone=True)
    return tell(gone=False)


def run(calls: dict[str, Callable[[Case], dict[str, Any]]]) -> None:
    """Make the calls that were asked for all at once: most of their time is waiting."""

    def one(case: Case) -> str:
        try:
            found = calls[case.ask](case)
        except Exception as error:
            found = _failure(error)
        return json.dumps({"name": case.name, **found})

    with ThreadPoolExecutor(32) as pool:
        for line in pool.map(one, [Case(**row) for row in json.loads(sys.argv[1])]):
            print(line, flush=True)


def _failure(error: Exception) -> dict[str, Any]:
    """What a client's exception says, in the attributes of OpenAI's own; ``error`` has the names of all its classes."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    said = {name: getattr(error, name, None) for name in ("status_code", "code", "param", "type")}
    kinds = [kind.__name__ for kind in type(error).__mro__]
    return {"error": kinds, "message": str(error), "retry_after": headers.get("retry-after"), **said}
