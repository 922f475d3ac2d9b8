"""From a tokenised data set to a policy folder, top to bottom: score the reference, train, save.

One reference for all runs. Ctrl-C stops after the step at hand with a checkpoint; ``resume=True`` continues from it
and ends where an uninterrupted run would have.
"""

from __future__ import annotations

import math
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.trainer_callback import PrinterCallback

from redraft.errors import ConfigError, DataError, ModelError
from redraft.files import room
from redraft.train.heldout import choice, heldout_cost
from redraft.train.options import CHOICE, EDIT_COST, metric_of
from redraft.train.reference import Reference, reference_logprobs
from redraft.train.run import Run, counter
from redraft.train.runs import (
    CHECKPOINTS,
    COMPLETE,
    DIVERGED,
    EPOCHS,
    MANIFEST,
    Manifest,
    checkpoints,
    damaged,
    new_manifest,
    read_manifest,
    write_card,
    write_manifest,
    write_sources,
)
from redraft.train.scoring import Scores
from redraft.train.start import as_begun, begin, reference_model, trainable
from redraft.train.trainer import EditTrainer

__all__ = ["fit"]


def fit(run: Run, *, resume: bool = False) -> Manifest:
    """Train one adapter and leave it, complete, in ``run.folder``. The base model is unchanged afterwards.

    Raises ``DataError`` when the data has no pairs and the method needs them, ``ConfigError`` when ``resume`` meets
    other options or data, and ``KeyboardInterrupt`` after an interruption has been saved.
    """
    options = run.options
    _need_pairs(run)
    manifest = _begin(new_manifest(run.policy, run.base, run.data.counts, options), run.folder, resume)
    if manifest.status == COMPLETE:  # it was stopped before it became a version
        shutil.rmtree(run.folder / CHECKPOINTS, ignore_errors=True)
        return manifest
    reference = _reference(run)
    model = begin(run.base, options, run.start)
    try:
        begun = _begun(run, model)
        criterion = options.chosen_by(answers=EDIT_COST in begun)
        _need_criterion(run, criterion)
        with room(run.folder, "free some room and repeat the command with --resume"):
            done = _train(run, model, reference, replace(manifest, criterion=criterion), begun)
            model.save_pretrained(run.folder)
            run.base.tokenizer.save_pretrained(run.folder)
    finally:
        model.unload()
        run.base.model.eval()
    write_card(run.folder, done)
    write_sources(run.folder, [t.id for t in (*run.data.train, *run.data.heldout)])
    write_manifest(run.folder, done)
    shutil.rmtree(run.folder / CHECKPOINTS, ignore_errors=True)
    return done


def _need_pairs(run: Run) -> None:
    if run.options.preference_weight and not run.data.counts["train_pairs"]:
        raise DataError("no edit to train on changes a text, so there is no pair to learn from: use sft")


def _need_criterion(run: Run, criterion: str) -> None:
    if criterion not in (EDIT_COST, "nll") and run.data.heldout and not run.data.counts["heldout_pairs"]:
        raise DataError("no held-out edit changes a text, so no pair tells the best epoch: raise --holdout or use sft")


def _begun(run: Run, model: Any) -> Mapping[str, float]:
    """What a model costs before its first step; nothing of one whose answers are not priced or that gives none."""
    if run.answering is None or not run.data.choosing or run.options.criterion != EDIT_COST:
        return {}
    start = run.options.start, frozenset(each.completion.id for each in run.data.choosing)
    known = run.answering.begun
    try:
        if start not in known:
            known[start] = heldout_cost(run, model)
    except ModelError:
        return {}
    return {EDIT_COST: known[start]}


def _train(run: Run, model: Any, reference: Reference, manifest: Manifest, begun: Mapping[str, float]) -> Manifest:
    options = run.options
    as_reference, scoring = partial(as_begun, model, trainable(model)), manifest.scoring_seconds

    def measure(scores: Scores) -> Mapping[str, float]:
        tracked = {} if run.track is None else dict(run.track(model, as_reference))
        epoch = round(trainer.state.epoch or 0)
        if run.keep_epochs:
            model.save_pretrained(run.folder / EPOCHS / str(epoch))
        last = epoch >= trainer.args.num_train_epochs
        if manifest.criterion != EDIT_COST or (options.keep == "last" and not last):  # it would choose nothing
            return tracked
        nonlocal scoring
        began = time.perf_counter()
        tracked[EDIT_COST] = heldout_cost(run, model)
        tracked[CHOICE] = choice(run, tracked[EDIT_COST], begun[EDIT_COST], scores)
        scoring += time.perf_counter() - began
        return tracked

    trainer = EditTrainer(
        model,
        options,
        run.learned,
        run.data.heldout,
        reference,
        pad=run.base.pad,
        folder=run.folder / CHECKPOINTS,
        criterion=manifest.criterion,
        measure=measure,
    )
    trainer.remove_callback(PrinterCallback)
    interrupt = _Interrupt()
    watched = options.keep == "best" and run.data.heldout
    early_stop = [EarlyStoppingCallback(options.patience_of(len(run.learned)))] if watched else []
    for callback in (_Report(run), *early_stop, interrupt):
        trainer.add_callback(callback)
    for broken in damaged(run.folder):
        shutil.rmtree(broken, ignore_errors=True)
    saved = checkpoints(run.folder)
    started = time.perf_counter()
    with interrupt:
        trainer.train(resume_from_checkpoint=str(saved[-1]) if saved else None)
    history = [_numbers(line) for line in trainer.state.log_history if "train_runtime" not in line]
    seconds = round(manifest.seconds + time.perf_counter() - started, 2)
    if interrupt.requested:
        write_manifest(run.folder, replace(manifest, history=history, seconds=seconds, scoring_seconds=scoring))
        raise KeyboardInterrupt
    if run.track is not None:
        with as_reference():
            begun = {**begun, **run.track(model, as_reference)}
    if begun:
        first = {f"eval_{name}": value for name, value in begun.items()}
        history.insert(0, {"epoch": 0.0, "step": 0.0, **_numbers(first)})
    done = replace(manifest, history=history, seconds=seconds, scoring_seconds=round(scoring, 2))
    criterion = f"eval_{metric_of(manifest.criterion)}"
    if not run.data.heldout:
        criterion = "loss"  # the last step's: a number or not is all it tells
    lines = [line for line in trainer.state.log_history if criterion in line]
    eligible = map(_numbers, lines[-1:] if options.keep == "last" or not run.data.heldout else lines)
    scored = [line for line in eligible if criterion in line]
    if not scored:  # what could be kept scores infinity or not a number
        return replace(done, status=DIVERGED)
    kept = min(scored, key=lambda line: line[criterion])
    metrics = {k.removeprefix("eval_"): v for k, v in kept.items()} if run.data.heldout else {}
    return replace(done, status=COMPLETE, metrics=metrics)


def _begin(manifest: Manifest, folder: Path, resume: bool) -> Manifest:
    """Start afresh, or take up a run of the same options and data."""
    if resume and (folder / MANIFEST).exists():
        before = read_manifest(folder)
        for part, same in before.alike(manifest).items():
            if not same:
                raise ConfigError(f"{folder}: was started with other {part}: repeat them, or start without --resume")
        return before
    shutil.rmtree(folder, ignore_errors=True)
    write_manifest(folder, manifest)
    return manifest


def _reference(run: Run) -> Reference:
    """The held-out set's for every method (it is watched), the training set's where the loss asks for it."""
    sets = [run.data.heldout, run.data.train] if run.options.preference_weight else [run.data.heldout]
    advance, reference = counter(run.progress, "reference", sum(map(len, sets))), Reference()
    with reference_model(run.base, run.start) as model:
        for triples in filter(None, sets):
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
        self.run.on_log(_numbers(state.log_history[-1]))


class _Interrupt(TrainerCallback):
    """Turn Ctrl-C into a checkpoint after the step at hand; a second Ctrl-C stops at once.

    ``requested`` says whether there was one.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> None:
        try:
            self.before = signal.signal(signal.SIGINT, self._request)
        except ValueError:  # not the main thread: nobody can press Ctrl-C here
            self.before = None

    def __exit__(self, *_: object) -> None:
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)

    def _request(self, *_: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop, and save where the step ends no epoch."""
        if self.requested:
            control.should_training_stop = True
            control.should_save = bool(state.epoch % 1)  # at an epoch's end its evaluation comes first

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave out what belongs to an epoch that did not end."""
        if self.requested and state.epoch % 1:  # the trainer takes any stop for the end of an epoch
            control.should_evaluate = control.should_save = False
