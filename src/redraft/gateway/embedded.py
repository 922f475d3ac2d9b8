"""Policies in this process: one base model, its adapters, and one thread that answers in batches.

Requests that wait at the same temperature and precision are answered together, whatever their policy, length limit,
seed and stop texts; requests that arrive meanwhile wait for the next batch. An answer is token for token what ``redraft
generate`` gives, trimmed of repetition too. Nothing of a request is ignored: tools, log-probabilities, images and
whatever else would change the answer are refused, and so is a prompt that does not fit.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redraft.errors import RedraftError
from redraft.gateway.engine import Answer, Engine, EngineError, Piece
from redraft.gateway.openai import ChatRequest
from redraft.lm.trim import Trim
from redraft.types import Decoding, Message

if TYPE_CHECKING:
    from redraft.policies.adapter import AdapterHost

__all__ = ["Embedded", "Precise"]

BATCH = 32
_UNFINISHED = "\ufffd"  # what a tokenizer shows for the first bytes of a character
_ANY = (
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
)
_NEUTRAL: Mapping[str, Sequence[Any]] = {
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "min_p": (0,),
    "modalities": (["text"],),
    "presence_penalty": (0,),
    "reasoning_effort": ("none",),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_k": (0, -1),
    "top_logprobs": (0,),
    "top_p": (1,),
    "verbosity": ("medium",),
}
"""Values of fields that change nothing, as clients send them by default. Those in ``_ANY`` change no answer."""
_log = logging.getLogger("redraft.gateway")


@dataclass(eq=False, slots=True)
class _Job:
    """One request while it is answered. ``put`` passes pieces to the event loop; ``None`` ends them."""

    policy: str
    prompt: list[int]
    temperature: float
    precision: str
    limit: int
    seed: int
    stops: tuple[str, ...]
    put: Callable[[Piece | RedraftError | None], object]
    gone: bool = False
    ids: list[int] = field(default_factory=list[int])
    trim: Trim = field(default_factory=Trim)
    sent: int = 0

    @property
    def key(self) -> tuple[float, str]:
        return self.temperature, self.precision


class Embedded(Engine):
    """``load`` makes the host, off the event loop; ``adapters`` (which may grow) are the folders of trained policies.

    An answer has ``max_new_tokens``, or half of the model's context if that is less, unless the request says
    otherwise, and at most ``most_new_tokens`` (by default as many). A prompt has at most ``max_prompt_tokens``, and
    leaves room for the answer in the model's context.
    """

    def __init__(
        self,
        load: Callable[[], AdapterHost],
        adapters: Mapping[str, Path],
        *,
        max_new_tokens: int = 256,
        most_new_tokens: int | None = None,
        max_prompt_tokens: int | None = None,
    ) -> None:
        self._load, self._adapters, self._limit = load, adapters, max_new_tokens
        self._most, self._max_prompt = most_new_tokens or max_new_tokens, max_prompt_tokens
        self._host: AdapterHost | None = None
        self._stop = frozenset[int]()
        self._waiting: deque[_Job] = deque()
        self._lock, self._closed = threading.Lock(), False
        # It loads too: once a second thread has computed, OpenMP lets both of them take 1.3 times as long.
        self._thread = ThreadPoolExecutor(1, "embedded model")

    async def start(self, policies: list[str], precision: str = "float32") -> None:
        """Load the base model and these policies, and begin to answer; raises where they cannot in this precision."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._prepare, policies, precision)

    @property
    def host(self) -> AdapterHost:
        """The base model and its adapters, once started."""
        assert self._host is not None, "start comes first"
        return self._host

    async def close(self) -> None:
        """Stop after the current batch; requests that still wait get an error."""
        with self._lock:
            self._closed = True
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        while self._waiting:
            self._waiting.popleft().put(EngineError("the gateway is shutting down", status=503, retry=False))

    async def complete(self, policy: str, request: ChatRequest, precision: str = "float32") -> Answer:
        """All pieces of ``stream`` as one answer."""
        text, reason, usage = "", None, None
        async for piece in self.stream(policy, request, precision):
            text += piece.text
            usage = piece.usage or usage
            reason = piece.choices[0]["finish_reason"] if piece.choices else reason
        message = {"role": "assistant", "content": text}
        return Answer({"message": message, "finish_reason": reason}, usage)

    async def stream(self, policy: str, request: ChatRequest, precision: str = "float32") -> AsyncIterator[Piece]:
        """Answer piece by piece, a token or so at a time."""
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[Piece | RedraftError | None]()
        put = partial(loop.call_soon_threadsafe, pieces.put_nowait)
        job = await asyncio.to_thread(
            self._job, policy, request, precision, put
        )  # a long prompt takes seconds to encode
        with self._lock:
            if self._closed:
                raise EngineError("the gateway is shutting down", status=503, retry=False)
            self._waiting.append(job)
            self._thread.submit(self._answer_next)
        try:
            while (piece := await pieces.get()) is not None:
                if isinstance(piece, RedraftError):
                    raise piece
                yield piece
        finally:
            job.gone = True  # nobody listens: its row leaves the batch

    def _job(self, policy: str, request: ChatRequest, precision: str, put: Callable[[Any], object]) -> _Job:
        _require_plain(request)
        limit = min(request.limit or self._limit, self._most)
        return _Job(
            policy=policy,
            prompt=self._fitting(self.host.encode(policy, request.logged(), whole=True), limit),
            temperature=request.temperature or 0.0,
            precision=precision,
            limit=limit,
            seed=secrets.randbits(62) if request.seed is None else request.seed,
            stops=request.stops,
            put=put,
        )

    def _fitting(self, prompt: list[int], answer: int) -> list[int]:
        """The prompt, if it and an answer of so many tokens fit."""
        limits = [self._max_prompt, self.host.context and self.host.context - answer]
        most = min((limit for limit in limits if limit is not None), default=len(prompt))
        if len(prompt) > most:
            raise _refused(
                f"This model's maximum context length is {most + answer} tokens, however you requested"
                f" {len(prompt) + answer} ({len(prompt)} in the messages, {answer} for the answer):"
                " shorten the messages or ask for a shorter answer",
                "context_length_exceeded",
                "messages",
            )
        return prompt

    def _prepare(self, policies: Sequence[str], precision: str) -> None:
        if self._host is None:
            self._host = self._load()
            self._stop = self._host.stop
            self._limit = min(self._limit, (self._host.context or 2 * self._limit) // 2)  # the prompt's half is its own
        for policy in policies:
            if policy in self._adapters:
                self._host.load(policy, self._adapters[policy])
        # Copies of the weights are made now, not with the first request.
        self._host.respond_many(
            [(name, [(Message("user", "Hi"),)]) for name in policies], Decoding(1, 0.0, 0, precision)
        )

    def _answer_next(self) -> None:
        with self._lock:
            batch = self._next() if self._waiting else []  # else they were answered with one before
        if batch:
            self._answer(batch)

    def _next(self) -> list[_Job]:
        """The request that has waited longest, and those that can be answered with it."""
        key = self._waiting[0].key
        batch = [job for job in self._waiting if job.key == key][:BATCH]
        self._waiting = deque(job for job in self._waiting if job not in batch)
        return batch

    def _answer(self, batch: list[_Job]) -> None:
        policies = [job.policy for job in batch]
        temperature, precision = batch[0].key
        decoding = Decoding(max(job.limit for job in batch), temperature, precision=precision)

        def watch(places: Sequence[int], tokens: Sequence[int]) -> Collection[int]:
            told = zip(places, tokens, strict=True)
            return [place for place, token in told if self._step(batch[place], token)]

        try:
            self.host.watch(policies, [job.prompt for job in batch], decoding, [job.seed for job in batch], watch)
        except RedraftError as error:
            for job in batch:
                job.put(error)
        except Exception as error:
            _log.exception("the embedded model failed", extra={"policies": sorted({*policies})})
            for job in batch:
                job.put(EngineError(f"the embedded model failed ({type(error).__name__}): its log says why"))

    def _step(self, job: _Job, token: int) -> bool:
        """Take a token and pass on the text it adds; returns whether the answer is complete."""
        if job.gone:
            return True
        job.ids.append(token)
        text = self.host.spoken(job.ids)
        cuts = [found for stop in job.stops if (found := text.find(stop)) >= 0]
        ended = bool(cuts) or token in self._stop
        full = len(job.ids) >= job.limit
        if cuts:
            text = text[: min(cuts)]
        elif not (ended or full):
            text = _safe(text, job.stops)
        stays = job.trim.grown(text)
        ended = ended or job.trim.ended
        if job.trim.ended or not (ended or full):
            text = stays
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


@dataclass(frozen=True)
class Precise(Engine):
    """The embedded model in another precision than its own."""

    embedded: Embedded
    precision: str

    @property
    def decoding(self) -> Mapping[str, str]:
        """The precision."""
        return {"precision": self.precision}

    async def complete(self, policy: str, request: ChatRequest) -> Answer:
        """As the embedded model does."""
        return await self.embedded.complete(policy, request, self.precision)

    def stream(self, policy: str, request: ChatRequest) -> AsyncIterator[Piece]:
        """As the embedded model does."""
        return self.embedded.stream(policy, request, self.precision)

    async def start(self, policies: list[str]) -> None:
        """Start the embedded model."""
        await self.embedded.start(policies, self.precision)

    async def close(self) -> None:
        """Close the embedded model; closing twice is harmless."""
        await self.embedded.close()


def _require_plain(request: ChatRequest) -> None:
    """Raise ``EngineError`` for what the embedded model would have to ignore."""
    given = {name: value for name, value in (request.model_extra or {}).items() if value is not None}
    if given.get("tool_choice") == "none":
        given.pop("tools", None)
    if given.get("function_call") == "none":
        given.pop("functions", None)
    refused = [name for name, value in given.items() if name not in _ANY and value not in _NEUTRAL.get(name, ())]
    if refused:
        said = f"{', '.join(refused)}: the embedded model does not support this field"
        raise _refused(said, "unsupported_parameter", refused[0])
    for number, message in enumerate(request.messages):
        parts = message.content if isinstance(message.content, list) else []
        if other := [part.get("type") for part in parts if part.get("type") != "text"]:
            where = f"messages[{number}].content"
            raise _refused(f"{where}: the embedded model reads text only, not {other[0]}", "unsupported_value", where)


def _refused(said: str, code: str, param: str) -> EngineError:
    return EngineError(said, status=400, retry=False, code=code, param=param)


def _safe(text: str, stops: Sequence[str]) -> str:
    """What of an unfinished answer can be sent: no half character and no beginning of a stop text."""
    text = text.rstrip(_UNFINISHED)
    held = max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)
    return text[: len(text) - held]
