"""Many events, few transactions, each with its own outcome."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from redraft.errors import NotFoundError, UnavailableError
from redraft.gateway.ledger import Ledger
from redraft.log import EditLog
from redraft.log.events import Answered, Event, Finished
from redraft.types import Completion, Count, Decision


class Slow:
    """A log whose first transaction waits until it is let go."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.go = threading.Event()
        self.breaks, self.tries = False, 0

    def write(self, events: list[Event]) -> tuple[list[Any], dict[str, Any]]:
        self.go.wait(10)
        if self.breaks:
            self.tries += 1
            raise UnavailableError("the disk is full")
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
            several = await asyncio.gather(*(ledger.write(event) for event in events(5)), return_exceptions=True)
            assert [str(told) for told in several] == ["the disk is full"] * 5
            assert log.tries <= 2, "no retries"
            log.tries = 0
            with pytest.raises(UnavailableError, match="disk is full"):
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


def poisoned(count: int, *bad: int) -> list[Event]:
    """Answers of which some have metadata that no database can hold, as if a check had missed it."""
    made: list[Event] = []
    for n in range(count):
        metadata = {"k": "\ud800" if n in bad else ""}
        completion = Completion(str(n), "email", (), "y", "base", metadata=metadata)
        made.append(Answered(completion, Decision(str(n), ("base",), "base", 1, "late")))
    return made


def written(log: EditLog, given: list[Event]) -> tuple[list[Any], dict[str, Count]]:
    """What a ledger told of events that came at once, and the last statistics that it told."""
    settled: dict[str, Count] = {}

    async def run() -> list[Any]:
        ledger = Ledger(log, lambda found: settled.update(found.get("email", {})))
        told = await asyncio.gather(*(ledger.write(event) for event in given), return_exceptions=True)
        await ledger.close()
        return told

    return asyncio.run(run()), settled


def test_one_that_no_database_can_hold_fails_alone(tmp_path: Path) -> None:
    with EditLog(f"sqlite:///{tmp_path / 'log.db'}") as log:
        told, settled = written(log, poisoned(44, 0, 20, 21, 43))
        assert [n for n, outcome in enumerate(told) if outcome is not None] == [0, 20, 21, 43]
        assert log.counts().completions == 40
        assert settled == {"base": Count(decisions=40)}
        assert log.verify() == []
