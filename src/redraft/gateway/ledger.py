"""Group commit: one thread writes the events of all recent requests in one transaction.

A disk commits some hundred times a second, and a server gets more requests than that. While one transaction waits for
the disk the next one fills: a request waits for at most two, and none is acknowledged before its event is durable.

An event that no database can hold fails alone: a transaction that cannot be written is halved until it is found. Where
the database is away, all fail at once.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from redraft.errors import UnavailableError
from redraft.log import EditLog
from redraft.log.events import Event, Outcome
from redraft.types import Count

__all__ = ["Ledger", "Settled"]

BATCH = 512
LINGER = 0.005
"""Seconds that a transaction waits for more events if the last one had several (PostgreSQL's ``commit_delay``).

Under load this answers a fifth more requests a second (results/LOG.md); a lone request never waits.
"""

Settled = Callable[[Mapping[str, Mapping[str, Count]]], None]
"""Called on the event loop with the statistics of the tasks that a transaction changed."""

_Given = tuple[Event, "asyncio.Future[Outcome | BaseException]"]


class _Writes(Protocol):
    def write(self, events: list[Event]) -> tuple[list[Outcome], dict[str, dict[str, Count]]]: ...


class Ledger:
    """Writes to a log for one event loop. ``close`` writes first what was given before it."""

    def __init__(self, log: EditLog | _Writes, settled: Settled) -> None:
        self._log, self._settled = log, settled
        self._loop = asyncio.get_running_loop()
        self._given: queue.SimpleQueue[_Given | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    async def write(self, event: Event) -> Outcome:
        """Write one event and return what became of it once that is durable.

        Raises the event's own ``RedraftError``, and ``UnavailableError`` when the log cannot be written at all.
        """
        future: asyncio.Future[Outcome | BaseException] = self._loop.create_future()
        self._given.put((event, future))
        outcome = await future  # a client that goes away cancels it, and its event is written all the same
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def close(self) -> None:
        """Stop after the last event."""
        self._given.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        open_, company = True, False
        while open_:
            batch = [self._given.get()]
            if company:
                time.sleep(LINGER)
            while len(batch) < BATCH and not self._given.empty():
                batch.append(self._given.get())
            open_, company = None not in batch, len(batch) > 1
            if given := [one for one in batch if one is not None]:
                self._write(given)

    def _write(self, given: list[_Given]) -> None:
        statistics: Mapping[str, Mapping[str, Count]] = {}
        outcomes: Sequence[Outcome | BaseException]
        try:
            outcomes, statistics = self._log.write([event for event, _ in given])
        except BaseException as error:
            if len(given) > 1 and not isinstance(error, UnavailableError):
                middle = len(given) // 2
                self._write(given[:middle])
                self._write(given[middle:])
                return
            outcomes = [error] * len(given)
        self._loop.call_soon_threadsafe(self._tell, given, outcomes, statistics)

    def _tell(
        self,
        given: list[_Given],
        outcomes: Sequence[Outcome | BaseException],
        statistics: Mapping[str, Mapping[str, Count]],
    ) -> None:
        self._settled(statistics)
        for (_, future), outcome in zip(given, outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)
