"""From a tokenised data set to a policy folder, top to bottom: score the reference, train, save.

One reference for all runs. Ctrl-C stops after the step at hand with a checkpoint; ``resume=True`` continues from it
and ends where an uninterrupted run would have.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.trainer_callback import PrinterCallback

from redraft.errors import ConfigError, DataError
from redraft.lm.load import Base
from redraft.train.dataset import Dataset
from redraft.train.interrupt import Interrupt
from redraft.train.options import TrainOptions
from redraft.train.packing import Triple
from redraft.train.reference import Reference, reference_logprobs
from redraft.train.runs import (
    CHECKPOINTS,
    COMPLETE,
    DIVERGED,
    MANIFEST,
    Manifest,
    checkpoints,
    new_manifest,
    read_manifest,
    write_card,
    write_manifest,
    write_sources,
)
from redraft.train.start import as_begun, begin, reference_model, trainable
from redraft.train.trainer import EditTrainer
from redraft.types import Message

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Contexts", "Price", "Progress", "Rollouts", "Run", "Track", "Watch", "fit"]

Progress = Callable[[str, int, int], None]
"""``progress(what, done, total)``, called as work advances."""


Watch = Callable[[Mapping[str, float]], None]
"""``watch(line)``, called with every line of the training log: losses, log-probabilities, held-out scores."""

Contexts = Sequence[Sequence[Message]]
Price = Callable[[Contexts, Sequence[str]], "NDArray[np.float64]"]
"""What an edit of each response to its messages is thought to cost, [n]."""

Track = Callable[[Any, Callable[[], AbstractContextManager[None]]], Mapping[str, float]]
"""``track(model, as_reference)``: numbers of a model in training, which is π_ref within ``as_reference()``."""


def _unwatched(_line: Mapping[str, float]) -> None:
    return None


def _silent(_what: str, _done: int, _total: int) -> None:
    return None


@dataclass(frozen=True)
class Rollouts:
    """What an on-policy run asks its policy, and what it takes an edit of each answer to cost."""

    contexts: Contexts
    price: Price


@dataclass(frozen=True)
class Run:
    """One training run: what it learns from, how, and where it leaves the policy called ``policy``.

    ``start`` is the folder of the policy that ``options.start`` names, if it names one. ``track`` measures the policy
    before the first step and after each epoch. With ``rollouts`` it learns from answers of its own (``rloo.py``).
    """

    base: Base
    data: Dataset
    options: TrainOptions
    folder: Path
    policy: str
    cache: Path
    progress: Progress = _silent
    watch: Watch = _unwatched
    start: Path | None = None
    track: Track | None = None
    rollouts: Rollouts | None = None

    @property
    def learned(self) -> list[Triple]:
        """What the loss is taken over: without a likelihood term rows with y' = y would be steps without a loss."""
        if self.options.likelihood_weight:
            return self.data.train
        return [triple for triple in self.data.train if triple.rejected is not None]


def fit(run: Run, *, resume: bool = False) -> Manifest:
    """Train one adapter and leave it, complete, in ``run.folder``. The base model is unchanged afterwards.

    Raises ``DataError`` when the data has no pairs and the method needs them, ``ConfigError`` when ``resume`` meets
    other options or data, and ``KeyboardInterrupt`` after an interruption has been saved.
    """
    if run.rollouts is not None:
        from redraft.train.rloo import fit_rloo

        return fit_rloo(run)
    options = run.options
    _need_pairs(run)
    manifest = _begin(new_manifest(run.policy, run.base, run.data.counts, options), run.folder, resume)
    reference = _reference(run)
    model = begin(run.base, options, run.start)
    try:
        done = _train(run, model, reference, manifest)
        model.save_pretrained(run.folder)
        run.base.tokenizer.save_pretrained(run.folder)
    finally:
        model.unload()
        run.base.model.eval()
    write_card(run.folder, done)
    write_sources(run.folder, sorted({t.source or t.id for t in (*run.data.train, *run.data.heldout)}))
    write_manifest(run.folder, done)
    shutil.rmtree(run.folder / CHECKPOINTS, ignore_errors=True)
    return done


def _need_pairs(run: Run) -> None:
    counts = run.data.counts
    if run.options.preference_weight and not counts["train_pairs"]:
        raise DataError(f"method {run.options.method!r} needs edits that change something and there are none: use sft")
    if run.options.criterion != "nll" and not counts["heldout_pairs"]:
        method = run.options.method
        raise DataError(f"no held-out edit changes anything, so that {method} has no score: raise --holdout")


def _train(run: Run, model: Any, reference: Reference, manifest: Manifest) -> Manifest:
    options = run.options
    as_reference = partial(as_begun, model, trainable(model))

    def measure() -> Mapping[str, float]:
        return {} if run.track is None else run.track(model, as_reference)

    trainer = EditTrainer(
        model,
        options,
        run.learned,
        run.data.heldout,
        reference,
        pad=run.base.pad,
        folder=run.folder / CHECKPOINTS,
        measure=measure,
    )
    trainer.remove_callback(PrinterCallback)
    interrupt = Interrupt()
    early_stop = [EarlyStoppingCallback(options.patience)] if options.keep == "best" else []
    for callback in (_Report(run), *early_stop, interrupt):
        trainer.add_callback(callback)
    saved = checkpoints(run.folder)
    started = time.perf_counter()
    with interrupt:
        trainer.train(resume_from_checkpoint=str(saved[-1]) if saved else None)
    history = [_numbers(line) for line in trainer.state.log_history if "train_runtime" not in line]
    seconds = round(manifest.seconds + time.perf_counter() - started, 2)
    if interrupt.requested:
        write_manifest(run.folder, replace(manifest, history=history, seconds=seconds))
        raise KeyboardInterrupt
    if run.track is not None:
        with as_reference():
            begun = {f"eval_{name}": value for name, value in measure().items()}
        history.insert(0, {"epoch": 0.0, "step": 0.0, **_numbers(begun)})
    done = replace(manifest, history=history, seconds=seconds)
    criterion = f"eval_{options.criterion}"
    evaluations = [line for line in trainer.state.log_history if any(name.startswith("eval_") for name in line)]
    eligible = map(_numbers, evaluations[-1:] if options.keep == "last" else evaluations)
    scored = [line for line in eligible if criterion in line]
    if not scored:  # what could be kept scores infinity or not a number
        return replace(done, status=DIVERGED)
    kept = min(scored, key=lambda line: line[criterion])
    return replace(done, status=COMPLETE, metrics={k.removeprefix("eval_"): v for k, v in kept.items()})


def _begin(manifest: Manifest, folder: Path, resume: bool) -> Manifest:
    """Start afresh, or take up a run of the same options and data."""
    if resume and (folder / MANIFEST).exists():
        before = read_manifest(folder)
        for part, same in before.alike(manifest).items():
            if not same:
                raise ConfigError(f"{folder}: was begun with other {part}: repeat them, or start without --resume")
        return before
    shutil.rmtree(folder, ignore_errors=True)
    write_manifest(folder, manifest)
    return manifest


def _reference(run: Run) -> Reference:
    """The held-out set's for every method (it is watched), the training set's where the loss asks for it."""
    sets = [run.data.heldout, run.data.train] if run.options.preference_weight else [run.data.heldout]
    total, done, reference = sum(map(len, sets)), 0, Reference()

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        run.progress("reference", done, total)

    with reference_model(run.base, run.start) as model:
        for triples in sets:
            reference |= reference_logprobs(
                model, triples, run.cache, batch_size=run.options.batch_size, on_batch=advance
            )
    return reference


def _numbers(line: dict[str, Any]) -> dict[str, float]:
    return {k: round(float(v), 6) for k, v in line.items() if isinstance(v, int | float) and math.isfinite(v)}


class _Report(TrainerCallback):
    def __init__(self, run: Run) -> None:
        self.run = run

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.run.progress(self.run.options.method, state.global_step, state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.run.watch(_numbers(state.log_history[-1]))
