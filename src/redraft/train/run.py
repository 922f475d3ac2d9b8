"""What a training run is: data, options, the folder it fills, and who hears how it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redraft.train.options import TrainOptions

if TYPE_CHECKING:
    from redraft.costs import Cost
    from redraft.lm.load import Base
    from redraft.train.dataset import Dataset
    from redraft.train.packing import Triple
    from redraft.types import Decoding

__all__ = ["Answering", "OnLog", "Progress", "Run", "Track", "counter"]

Progress = Callable[[str, int, int], None]
"""``progress(what, done, total)``, called as work advances."""

OnLog = Callable[[Mapping[str, float]], None]
"""``on_log(line)``, called with every line of the training log: losses, log-probabilities, held-out scores."""

Track = Callable[[Any, Callable[[], AbstractContextManager[None]]], Mapping[str, float]]
"""``track(model, as_reference)``: numbers of a model in training, which is π_ref within ``as_reference()``."""


def _ignore(*_: object) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Answering:
    """How a policy's answers will be made, and what a change to one costs.

    ``begun`` keeps what a start costs, by its name and the edits it answered, for all runs that share it.
    """

    cost: Cost
    decoding: Decoding
    begun: dict[tuple[str, frozenset[str]], float] = field(default_factory=dict[tuple[str, frozenset[str]], float])


@dataclass(frozen=True)
class Run:
    """One training run: what it learns from, how, and where it leaves the policy called ``policy``.

    ``start`` is the folder of the policy that ``options.start`` names, if it names one. ``track`` measures the policy
    before the first step and after each epoch. With ``answering``, what it answers to held-out edits is priced too.
    ``keep_epochs`` leaves each epoch's adapter in ``folder/epochs``.
    """

    base: Base
    data: Dataset
    options: TrainOptions
    folder: Path
    policy: str
    cache: Path
    progress: Progress = _ignore
    on_log: OnLog = _ignore
    start: Path | None = None
    track: Track | None = None
    answering: Answering | None = None
    keep_epochs: bool = False

    @property
    def learned(self) -> list[Triple]:
        """What the loss is taken over: without a likelihood term rows with y' = y would be steps without a loss."""
        if self.options.likelihood_weight:
            return self.data.train
        return [triple for triple in self.data.train if triple.rejected is not None]


def counter(progress: Progress, what: str, total: int) -> Callable[[int], None]:
    """Turn counts of what was just done into progress."""
    done = 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        progress(what, done, total)

    return advance
