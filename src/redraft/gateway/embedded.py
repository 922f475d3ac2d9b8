"""Policies in this process: one base model, its adapters, and one thread that answers in batches.

Requests that wait for the same policy at the same temperature are answered together, whatever their length limit, seed
and stop texts; requests that arrive meanwhile wait for the next batch. Left out: tools, log-probabilities and other
servers' extras, which are refused rather than silently ignored.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redraft.errors import RedraftError
from redraft.gateway.engine import Answer, EngineError, Piece
from redraft.gateway.openai import ChatRequest
from redraft.types import Decoding

if TYPE_CHECKING:
    from redraft.policies.adapter import AdapterHost

__all__ = ["Embedded"]

BATCH = 32
_UNFINISHED = "\ufffd"  # what a tokenizer shows for the first bytes of a character
_REFUSED = ("tools", "functions", "logprobs", "response_format", "logit_bias")


@dataclass(eq=False, slots=True)
class _Job:
    """One request while it is answered. ``put`` passes pieces to the event loop; ``None`` ends them."""

    policy: str
    prompt: list[int]
    temperature: float
    limit: int
    seed: int
    stops: tuple[str, ...]
    put: Callable[[Piece | RedraftError | None], object]
    gone: bool = False
    ids: list[int] = field(default_factory=list[int])
    sent: int = 0

    @property
    def key(self) -> tuple[str, float]:
        return self.policy, self.temperature


class Embedded:
    """``load`` makes the host, off the event loop; ``adapters`` are the folders of the trained policies."""

    def __init__(
        self, load: Callable[[], AdapterHost], adapters: Mapping[str, Path], *, max_new_tokens: int = 256
    ) -> None:
        self._load, self._adapters, self._limit = load, dict(adapters), max_new_tokens
        self._host: AdapterHost | None = None
        self._stop = frozenset[int]()
        self._waiting: deque[_Job] = deque()
        self._wake, self._closed = threading.Condition(), False
        self._thread: threading.Thread | None = None

    async def start(self, policies: list[str]) -> None:
        """Load the base model and these policies, and begin to answer."""
        await asyncio.to_thread(self._prepare, policies)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="embedded model", daemon=True)
            self._thread.start()

    @property
    def host(self) -> AdapterHost:
        """The base model and its adapters, once started."""
        assert self._host is not None, "start comes first"
        return self._host

    async def close(self) -> None:
        """Stop after the current batch; requests that still wait get an error."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    async def complete(self, policy: str, request: ChatRequest) -> Answer:
        """All pieces of ``stream`` as one answer."""
        text, reason, usage = "", None, None
        async for piece in self.stream(policy, request):
            text += piece.text
            usage = piece.usage or usage
            reason = piece.choices[0]["finish_reason"] if piece.choices else reason
        message = {"role": "assistant", "content": text}
        return Answer({"message": message, "finish_reason": reason}, usage)

    async def stream(self, policy: str, request: ChatRequest) -> AsyncIterator[Piece]:
        """Answer piece by piece, a token or so at a time."""
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[Piece | RedraftError | None]()
        job = self._job(policy, request, partial(loop.call_soon_threadsafe, pieces.put_nowait))
        with self._wake:
            if self._closed:
                raise EngineError("the gateway is shutting down", status=503, retry=False)
            self._waiting.append(job)
            self._wake.notify()
        try:
            while (piece := await pieces.get()) is not None:
                if isinstance(piece, RedraftError):
                    raise piece
                yield piece
        finally:
            job.gone = True  # nobody listens: its row leaves the batch

    def _job(self, policy: str, request: ChatRequest, put: Callable[[Any], object]) -> _Job:
        refused = [name for name in _REFUSED if (request.model_extra or {}).get(name)]
        if refused:
            raise EngineError(
                f"{', '.join(refused)}: the embedded model does not support this field", status=400, retry=False
            )
        return _Job(
            policy=policy,
            prompt=self.host.encode(policy, request.logged()),
            temperature=1.0 if request.temperature is None else request.temperature,
            limit=min(request.limit or self._limit, self._limit),
            seed=secrets.randbits(62) if request.seed is None else request.seed,
            stops=request.stops,
            put=put,
        )

    def _prepare(self, policies: Sequence[str]) -> None:
        if self._host is None:
            self._host = self._load()
            self._stop = self._host.stop
        for policy in policies:
            if policy in self._adapters:
                self._host.load(policy, self._adapters[policy])

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    break
                batch = self._next()
            self._answer(batch)
        for job in self._waiting:
            job.put(EngineError("the gateway is shutting down", status=503, retry=False))

    def _next(self) -> list[_Job]:
        """The request that has waited longest, and those that can be answered with it."""
        key = self._waiting[0].key
        batch = [job for job in self._waiting if job.key == key][:BATCH]
        self._waiting = deque(job for job in self._waiting if job not in batch)
        return batch

    def _answer(self, batch: list[_Job]) -> None:
        policy, temperature = batch[0].key
        decoding = Decoding(max(job.limit for job in batch), temperature)

        def watch(places: Sequence[int], tokens: Sequence[int]) -> Collection[int]:
            told = zip(places, tokens, strict=True)
            return [place for place, token in told if self._step(batch[place], token)]

        try:
            self.host.watch(policy, [job.prompt for job in batch], decoding, [job.seed for job in batch], watch)
        except RedraftError as error:
            for job in batch:
                job.put(error)
        except Exception as error:
            for job in batch:
                job.put(EngineError(f"the embedded model failed ({type(error).__name__}: {error})"))

    def _step(self, job: _Job, token: int) -> bool:
        """Take a token and pass on the text it adds; returns whether the answer is complete."""
        if job.gone:
            return True
        job.ids.append(token)
        text = str(self.host.tokenizer.decode(job.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        cuts = [found for stop in job.stops if (found := text.find(stop)) >= 0]
        ended = bool(cuts) or token in self._stop
        full = len(job.ids) >= job.limit
        if cuts:
            text = text[: min(cuts)]
        elif not (ended or full):
            text = _safe(text, job.stops)
        if len(text) > job.sent or ended or full:
            reason = "stop" if ended else "length" if full else None
            new = text[job.sent :]
            role = {} if job.sent else {"role": "assistant"}
            job.put(Piece.of(role | {"content": new}, reason))
            job.sent = max(job.sent, len(text))
        if ended or full:
            usage = {"prompt_tokens": len(job.prompt), "completion_tokens": len(job.ids)}
            job.put(Piece((), usage | {"total_tokens": sum(usage.values())}))
            job.put(None)
        return ended or full


def _safe(text: str, stops: Sequence[str]) -> str:
    """What of an unfinished answer can be sent: no half character and no beginning of a stop text."""
    text = text.rstrip(_UNFINISHED)
    held = max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)
    return text[: len(text) - held]
