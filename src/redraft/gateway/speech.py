"""What streamed answers say, kept in the log while they are said.

A stream's text is in the log five times a second, whole before its last word is sent, and in a ``Journal`` before each
word. A log that is away at the end is asked until it answers; the client does not wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from redraft.errors import RedraftError, UnavailableError
from redraft.gateway.engine import Piece
from redraft.gateway.journal import Journal
from redraft.gateway.turn import as_logged
from redraft.log.canonical import cleaned
from redraft.log.events import Event, Finished, Spoken
from redraft.messages import Draft

__all__ = ["Speech", "Streams"]

KEEP_SECONDS = 0.2
PATIENCE_SECONDS = 5.0
"""How long a client waits for the last word because the log does not answer."""
PAUSES = (0.5, 30.0)
"""Seconds between two attempts to write an answer's end: of the first ones, and at most."""

_log = logging.getLogger("redraft.gateway")


class Speech:
    """One streamed answer: what was said so far."""

    def __init__(self, completion_id: str, draft: Draft | None = None) -> None:
        self.id, self.draft, self.finished = completion_id, draft or Draft(), False
        self.timer: asyncio.TimerHandle | None = None
        self.keeping: asyncio.Task[None] | None = None

    def end(self) -> Finished:
        """The event that ends it."""
        draft = self.draft
        return Finished(self.id, **as_logged(draft.message, draft.text, draft.finish_reason))


class Streams:
    """The streams of one gateway; ``write`` returns when an event is durable. For one event loop."""

    def __init__(self, write: Callable[[Event], Awaitable[Any]], journal: Journal) -> None:
        self._write, self._journal = write, journal
        self._running: dict[str, Speech] = {}
        self._unwritten: dict[str, Finished] = {}
        self._tasks = set[asyncio.Task[None]]()
        self._closing = False

    async def open(self) -> None:
        """Write what processes that were killed had said; raises ``UnavailableError``."""
        self._journal.open()
        for completion_id, draft in self._journal.left():
            await self._write(Speech(completion_id, draft).end())

    def begin(self, speech: Speech) -> None:
        """Keep what it says from now on, until ``finish``."""
        self._running[speech.id] = speech

    def say(self, speech: Speech, piece: Piece) -> None:
        """Add a piece, which may be sent then: it is in the log before long."""
        begun = speech.draft.size > 0
        self._journal.add(speech.id, piece.choices)
        for choice in piece.choices:
            speech.draft.add(choice)
        if speech.timer is None:
            wait = KEEP_SECONDS if begun else 0.0
            speech.timer = asyncio.get_running_loop().call_later(wait, self._keep, speech)

    async def finish(self, speech: Speech) -> None:
        """Write the whole text and return when that is durable, or when the log lets one wait too long."""
        if speech.finished:
            return
        speech.finished = True
        self._running.pop(speech.id, None)
        await asyncio.wait({self._spawn(self._insist(speech.end()))}, timeout=PATIENCE_SECONDS)

    def running(self, completion_id: str) -> bool:
        """Whether this answer is still being said."""
        return completion_id in self._running

    async def settle(self, completion_id: str) -> None:
        """Write an answer's end now if it still is to be written; raises ``UnavailableError``."""
        if (event := self._unwritten.get(completion_id)) is not None:
            await self._write(event)

    async def close(self) -> None:
        """Try once more to write what is unwritten."""
        self._closing = True
        await asyncio.gather(*map(self.finish, list(self._running.values())))
        for task in self._tasks:  # those that wait for a log to come back
            task.cancel()
        last = [self._spawn(self._insist(event)) for event in self._unwritten.values()]
        if last:
            await asyncio.wait(last, timeout=PATIENCE_SECONDS)
        for completion_id in self._unwritten:
            _log.error("a stream's end could not be written", extra={"completion_id": completion_id})
        self._journal.close()

    def _keep(self, speech: Speech) -> None:
        speech.timer = None
        if speech.finished:
            return
        if speech.keeping is not None and not speech.keeping.done():  # a slow log gets no queue of the same text
            speech.timer = asyncio.get_running_loop().call_later(KEEP_SECONDS, self._keep, speech)
        else:
            speech.keeping = self._spawn(self._kept(Spoken(speech.id, cleaned(speech.draft.text))))

    async def _kept(self, event: Spoken) -> None:
        try:
            await self._write(event)
        except RedraftError:  # the next one may reach the log again, and the end is insisted on
            _log.warning("a stream's text could not be kept", extra={"completion_id": event.completion_id})

    async def _insist(self, event: Finished) -> None:
        self._unwritten[event.completion_id] = event
        pause, most = PAUSES
        while True:
            try:
                await self._write(event)
            except UnavailableError:
                _log.warning("a stream's end is not written yet", extra={"completion_id": event.completion_id})
                if self._closing:
                    return
                await asyncio.sleep(pause)
                pause = min(2 * pause, most)
            else:
                del self._unwritten[event.completion_id]
                self._journal.drop(event.completion_id)
                return

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
