"""A finished run becomes a version, once: its folder takes its final name and is never written again.

A run trains beside its place, in ``NAME@VERSION.partial``. The trials of a sweep stay where they are, and the best is
copied. Only what has a held-out score that is a number becomes a version.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shutil import copytree

from redraft.errors import DataError
from redraft.files import ROOT, whole
from redraft.train.fit import fit
from redraft.train.run import Run
from redraft.train.runs import COMPLETE, Manifest, partial_of, write_card, write_manifest
from redraft.train.sweep import Trial

__all__ = ["publish_trial", "train_version"]


def train_version(run: Run, folder: Path, *, resume: bool) -> Manifest:
    """Train ``run`` into ``folder``, going on with an interrupted one if ``resume``.

    Raises ``DataError`` when it diverged, and whatever ``fit`` does.
    """
    partial = partial_of(folder)
    manifest = _converged(fit(replace(run, folder=partial), resume=resume), partial)
    partial.rename(folder)
    return manifest


def publish_trial(trial: Trial, folder: Path, policy: str) -> Manifest:
    """Copy a trial to ``folder``, as the version called ``policy``; raises ``DataError`` when it diverged."""
    manifest = replace(_converged(trial.manifest, trial.folder), policy=policy)
    with whole(folder, ROOT) as scratch:
        copytree(trial.folder, scratch)
        write_card(scratch, manifest)
        write_manifest(scratch, manifest)
    return manifest


def _converged(manifest: Manifest, folder: Path) -> Manifest:
    if manifest.status != COMPLETE:
        raise DataError(f"{folder}: diverged, its held-out score is not a number: use lower learning rates")
    return manifest
