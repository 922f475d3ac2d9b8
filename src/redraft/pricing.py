"""What edits cost, found batch by batch before the transaction that logs them; of long imports on all cores.

Starting processes takes longer than pricing a few thousand edits. Prices that are not found here (of a cost of one's
own, or after a process was killed) are found by the writer, which also words what is wrong.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from itertools import islice
from multiprocessing.connection import Connection, wait
from threading import Thread

from redraft.costs import COSTS, Cost, normalised
from redraft.errors import RedraftError
from redraft.types import Interaction
from redraft.words import learn

__all__ = ["Batch", "Prices", "priced_ahead"]

Batch = list[tuple[int, Interaction]]
"""Rows for one transaction, each with its place in the whole."""
Prices = Mapping[int, tuple[float, int]]
"""Place → raw distance and cost of its edit, as ``Cost.priced`` gives them."""
SAMPLE, SELDOM = 16, 8  # texts: one of so many is looked at; for each new word, where looking at all takes too long
FEW = 1  # batches that are priced here, before processes are worth their start
_Asked = list[tuple[int, str, tuple[str, ...], str, str]]
"""Place, name of Δ and what it looks past, y, y'."""


def priced_ahead(
    pieces: Iterable[Batch], cost_of: Callable[[str], Cost], processes: int
) -> Generator[tuple[Batch, Prices]]:
    """Batches in their order, with the prices that were found; a few batches are held per process.

    Close the iterator to end its processes; they end by themselves when this one is killed.
    """
    pieces = iter(pieces)
    for piece in islice(pieces, FEW if processes > 1 else None):
        yield piece, _prices(_asked(piece, cost_of))
    first = next(pieces, None)
    if first is None:
        return
    # Spawned: a fork would share the database's connections, and threads do not survive it.
    context = multiprocessing.get_context("spawn")
    ended, alive = context.Pipe(duplex=False)
    with ended, alive, ProcessPoolExecutor(processes, context, _begin, (ended,)) as pool:
        running: deque[tuple[Batch, Future[Prices] | None]] = deque([(first, _submitted(pool, first, cost_of))])
        try:
            for piece in pieces:
                running.append((piece, _submitted(pool, piece, cost_of)))
                if len(running) > 2 * processes:
                    yield _found(*running.popleft())
            while running:
                yield _found(*running.popleft())
        except BaseException:
            alive.close()  # nobody waits for what the processes are at
            raise


def _asked(piece: Batch, cost_of: Callable[[str], Cost]) -> _Asked:
    @cache
    def known(task: str) -> tuple[str, tuple[str, ...]] | None:
        cost = cost_of(task)
        name = cost.name.partition(" without ")[0]
        return (name, cost.kinds) if name in COSTS and normalised(COSTS[name], cost.kinds) == cost else None

    asked: _Asked = []
    for index, interaction in piece:
        completion, edit = interaction.completion, interaction.edit
        if edit is not None and edit.edited not in (None, completion.response) and (cost := known(completion.task)):
            asked.append((index, *cost, completion.response, edit.edited))
    return asked


def _submitted(pool: ProcessPoolExecutor, piece: Batch, cost_of: Callable[[str], Cost]) -> Future[Prices] | None:
    asked = _asked(piece, cost_of)
    # Ctrl-C is the parent's: the processes that this starts inherit what is blocked, from their first moment.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(_prices, asked) if asked else None
    except BrokenProcessPool:
        return None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _found(piece: Batch, future: Future[Prices] | None) -> tuple[Batch, Prices]:
    try:
        return piece, {} if future is None else future.result()
    except BrokenProcessPool:
        return piece, {}


def _prices(asked: _Asked) -> Prices:
    texts = [text for *_, response, edited in asked for text in (response, edited)]
    some = texts[::SAMPLE]
    if learn(some) * SELDOM > len(some):
        learn(texts)

    @cache
    def cost(name: str, kinds: tuple[str, ...]) -> Cost:
        return normalised(COSTS[name], kinds)

    found: dict[int, tuple[float, int]] = {}
    for index, name, kinds, response, edited in asked:
        try:
            found[index] = cost(name, kinds).priced(response, edited)
        except RedraftError:  # the writer meets it again, and tells it
            continue
    return found


def _begin(pipe: Connection) -> None:
    """End when the other end of the pipe is closed, as when the process that has it is killed."""

    def watch() -> None:
        wait([pipe])
        os._exit(1)

    Thread(target=watch, daemon=True).start()
