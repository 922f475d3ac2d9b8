"""Best of N as an arm: ``email/sft@3+best4`` asks ``email/sft@3`` four times for the cheapest answer.

Any policy can be reranked, wherever it is served. The task's cost model (eq. 5 with its bonus) prices the answers with
the embedded base model; for ``email/sft@3+consensus4`` the price is what edits into the other answers would cost. The
first answer is as the client asked, the others are samples. A stream comes in one piece, and usage counts all N.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from redraft.gateway.engine import Answer, Engine, Piece
from redraft.gateway.openai import ChatRequest
from redraft.policies.best_of import APART

if TYPE_CHECKING:
    from redraft.types import Message

__all__ = ["Prices", "Reranked"]

Prices = Callable[[Sequence["Message"], Sequence[str]], Sequence[float]]
"""Predicted cost of each of several answers to one request."""


class Reranked(Engine):
    """``n`` answers of ``engine``'s policy ``of``; ``ready`` loads what prices need, off the event loop.

    ``embedded`` has the base model, for prices that need it.
    """

    def __init__(
        self, engine: Engine, of: str, n: int, ready: Callable[[], Prices], embedded: Engine | None = None
    ) -> None:
        self._engine, self._of, self._n, self._ready, self._embedded = engine, of, n, ready, embedded
        self._prices: Prices | None = None

    @property
    def decoding(self) -> Mapping[str, str]:
        """As the policy below writes."""
        return self._engine.decoding

    async def start(self, policies: list[str]) -> None:
        """Start the policy below and what prices its answers."""
        if self._embedded is not None:
            await self._embedded.start([])
        await self._engine.start([self._of])
        self._prices = await asyncio.to_thread(self._ready)

    async def close(self) -> None:
        """Close the engines below; closing twice is harmless."""
        await self._engine.close()
        if self._embedded is not None:
            await self._embedded.close()

    async def complete(self, policy: str, request: ChatRequest) -> Answer:
        """The cheapest of N answers; fails where one of them does."""
        assert self._prices is not None, "start comes first"
        others = [request.model_copy(update=self._sampled(request, number)) for number in range(1, self._n)]
        answers = await asyncio.gather(*(self._engine.complete(self._of, one) for one in (request, *others)))
        prices = await asyncio.to_thread(self._prices, request.logged(), [answer.text for answer in answers])
        best = answers[min(range(self._n), key=lambda number: prices[number])]
        return replace(best, usage=_total([answer.usage for answer in answers]))

    async def stream(self, policy: str, request: ChatRequest) -> AsyncIterator[Piece]:
        """The same in one piece: nothing can be sent before all have answered."""
        answer = await self.complete(policy, request)
        message: dict[str, Any] = {"role": "assistant", **answer.choice["message"]}
        if calls := message.get("tool_calls"):  # where several pieces could make one of them, they are numbered
            message["tool_calls"] = [{**call, "index": index} for index, call in enumerate(calls)]
        yield Piece.of(message, answer.choice.get("finish_reason"))
        if answer.usage is not None:
            yield Piece((), answer.usage)

    @staticmethod
    def _sampled(request: ChatRequest, number: int) -> dict[str, Any]:
        seed = {} if request.seed is None else {"seed": request.seed + APART * number}
        return {"temperature": request.temperature or 1.0, **seed}


def _total(usages: Sequence[Any]) -> dict[str, Any] | None:
    """Sum over the answers."""
    known = [usage for usage in usages if usage]
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {name: sum(int(usage.get(name) or 0) for usage in known) for name in names} if known else None
