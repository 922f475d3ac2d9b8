"""Group commit: one thread writes what all requests of the last moment brought, in one transaction.

A disk makes some hundred promises a second and a server gets more requests than that. While one transaction waits for
the disk the next one fills, so a request waits for at most two, and none is told "done" before its event is durable.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from redraft.errors import RedraftError
from redraft.log import EditLog
from redraft.log.events import Event, Outcome
from redraft.log.statistics import Tally

__all__ = ["Ledger", "Settled"]

BATCH = 512
LINGER = 0.005
"""Seconds for which a transaction waits for company when the one before had some (PostgreSQL's ``commit_delay``).

Under load fewer and fuller transactions answer a fifth more requests a second (results/LOG.md); alone none waits.
"""

Settled = Callable[[Mapping[str, Mapping[str, Tally]]], None]
"""Told, on the event loop, the statistics of the tasks in which a transaction changed them."""


class _Writes(Protocol):
    def write(self, events: list[Event]) -> tuple[list[Outcome], dict[str, dict[str, Tally]]]: ...


class Ledger:
    """The writing end of a log for one event loop. ``close`` writes what was given before it."""

    def __init__(self, log: EditLog | _Writes, settled: Settled) -> None:
        self._log, self._settled = log, settled
        self._loop = asyncio.get_running_loop()
        self._given: queue.SimpleQueue[tuple[Event, asyncio.Future[Outcome]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    async def write(self, event: Event) -> Outcome:
        """Write one event and return what became of it once that is durable.

        Raises the event's own ``RedraftError``, and ``ConfigError`` when the log cannot be written at all.
        """
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._given.put((event, future))
        outcome = await future  # a client that goes away cancels it and does not take back what it said
        if isinstance(outcome, RedraftError):
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
            told = [given for given in batch if given is not None]
            if told:
                self._write([event for event, _ in told], [future for _, future in told])

    def _write(self, events: list[Event], futures: list[asyncio.Future[Outcome]]) -> None:
        try:
            outcomes, statistics = self._log.write(events)
        except BaseException as error:
            self._loop.call_soon_threadsafe(_fail, futures, error)
        else:
            self._loop.call_soon_threadsafe(self._tell, futures, outcomes, statistics)

    def _tell(
        self,
        futures: list[asyncio.Future[Outcome]],
        outcomes: list[Outcome],
        statistics: Mapping[str, Mapping[str, Tally]],
    ) -> None:
        self._settled(statistics)
        for future, outcome in zip(futures, outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)


def _fail(futures: list[asyncio.Future[Outcome]], error: BaseException) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
