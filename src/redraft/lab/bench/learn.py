"""A policy of an experiment: trained once, swept where there is a choice, and taken up where it was cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from redraft.train.options import TrainOptions
from redraft.train.publish import Measured, publish_trial, train_version
from redraft.train.run import Run
from redraft.train.runs import Manifest, read_manifest
from redraft.train.sweep import sweep

__all__ = ["learn"]


def learn(
    run: Run, candidates: Sequence[TrainOptions], folder: Path, measured: Measured | None = None
) -> list[Manifest]:
    """Train a policy into ``folder``: the best of ``candidates`` by its held-out criterion.

    Returns every candidate's manifest, the best first. What was trained before is not trained again, and a run that
    was cut off is continued. ``measured`` tells how the best answers. Raises ``DataError`` when all of them diverged.
    """
    if len(candidates) == 1:
        if folder.exists():
            return [read_manifest(folder)]
        return [train_version(replace(run, options=candidates[0]), folder, resume=True, measured=measured)]
    trials = sweep(replace(run, folder=folder.with_name(f"{folder.name}.sweep")), candidates)
    if not folder.exists():
        publish_trial(trials[0], folder, run.policy, measured)
    return [trial.manifest for trial in trials]
