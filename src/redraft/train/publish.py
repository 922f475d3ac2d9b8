"""A finished run becomes a version, once: its folder takes its final name and is never written again.

A run trains beside its place, in ``NAME@VERSION.partial``. The trials of a sweep stay where they are, and the best is
copied. Only what has a held-out score that is a number becomes a version. Before it does, its answers may be measured;
interrupted then, a run goes on with just that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

from redraft.errors import DataError
from redraft.files import ROOT, whole
from redraft.train.fit import fit
from redraft.train.run import Run
from redraft.train.runs import COMPLETE, Manifest, partial_of, write_card, write_manifest
from redraft.train.sweep import Trial

__all__ = ["Measured", "publish_trial", "train_version"]

Measured = Callable[[Path], Mapping[str, Any]]
"""How the policy in a folder answers: ``Manifest.evaluation``."""


def train_version(run: Run, folder: Path, *, resume: bool, measured: Measured | None = None) -> Manifest:
    """Train ``run`` into ``folder``, going on with an interrupted one if ``resume``.

    Raises ``DataError`` when it diverged, and whatever ``fit`` does.
    """
    partial = partial_of(folder)
    manifest = _converged(fit(replace(run, folder=partial), resume=resume), partial)
    if measured is not None:
        manifest = replace(manifest, evaluation=dict(measured(partial)))
        write_card(partial, manifest)
        write_manifest(partial, manifest)
    partial.rename(folder)
    return manifest


def publish_trial(trial: Trial, folder: Path, policy: str, measured: Measured | None = None) -> Manifest:
    """Copy a trial to ``folder``, as the version called ``policy``; raises ``DataError`` when it diverged."""
    manifest = replace(_converged(trial.manifest, trial.folder), policy=policy)
    if measured is not None:
        manifest = replace(manifest, evaluation=dict(measured(trial.folder)))
    with whole(folder, ROOT) as scratch:
        copytree(trial.folder, scratch)
        write_card(scratch, manifest)
        write_manifest(scratch, manifest)
    return manifest


def _converged(manifest: Manifest, folder: Path) -> Manifest:
    if manifest.status != COMPLETE:
        raise DataError(f"{folder}: diverged, its held-out score is not a number: use lower learning rates")
    return manifest
