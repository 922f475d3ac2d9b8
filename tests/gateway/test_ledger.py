"""Many events, few transactions, each with its own outcome."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from redraft.errors import ConfigError, NotFoundError
from redraft.gateway.ledger import Ledger
from redraft.log.events import Event, Finished


class Slow:
    """A log whose first transaction waits until it is let go."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.go = threading.Event()
        self.breaks = False

    def write(self, events: list[Event]) -> tuple[list[Any], dict[str, Any]]:
        self.go.wait(10)
        if self.breaks:
            raise ConfigError("the disk is full")
        self.batches.append(len(events))
        return [NotFoundError("no") if event == Finished("bad", "") else None for event in events], {}


def events(count: int) -> list[Event]:
    return [Finished(str(n), "") for n in range(count)]


def test_what_comes_while_the_disk_works_shares_the_next_transaction() -> None:
    log = Slow()

    async def run() -> None:
        ledger = Ledger(log, lambda _: None)
        first = asyncio.create_task(ledger.write(Finished("first", "")))
        await asyncio.sleep(0.05)
        rest = [asyncio.create_task(ledger.write(event)) for event in events(50)]
        await asyncio.sleep(0.05)
        log.go.set()
        await asyncio.gather(first, *rest)
        await ledger.close()

    asyncio.run(run())
    assert log.batches == [1, 50]


def test_one_that_is_refused_is_told_alone() -> None:
    log = Slow()
    log.go.set()

    async def run() -> list[Any]:
        ledger = Ledger(log, lambda _: None)
        told = await asyncio.gather(
            *(ledger.write(event) for event in [*events(3), Finished("bad", "")]), return_exceptions=True
        )
        await ledger.close()
        return told

    *good, bad = asyncio.run(run())
    assert good == [None] * 3
    assert isinstance(bad, NotFoundError)


def test_a_log_that_cannot_be_written_is_told_to_everyone_and_may_recover() -> None:
    log = Slow()
    log.go.set()
    log.breaks = True

    async def run() -> None:
        ledger = Ledger(log, lambda _: None)
        for _ in range(2):
            with pytest.raises(ConfigError, match="disk is full"):
                await ledger.write(Finished("a", ""))
        log.breaks = False
        await ledger.write(Finished("a", ""))
        await ledger.close()

    asyncio.run(run())


def test_closing_writes_what_was_given_before() -> None:
    log = Slow()

    async def run() -> None:
        ledger = Ledger(log, lambda _: None)
        tasks = [asyncio.create_task(ledger.write(event)) for event in events(5)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(ledger.close())
        await asyncio.sleep(0.05)
        log.go.set()
        await closing
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert sum(log.batches) == 5
