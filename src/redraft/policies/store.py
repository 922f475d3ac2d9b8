"""Trained policies on disk: ``ROOT/TASK/NAME@VERSION``, a PEFT adapter with our manifest, written once.

A folder counts as a policy when its name says so and it holds a manifest. A run in progress is called
``NAME@VERSION.partial``: it is no policy yet, but its version is taken.

What a task serves where its settings name no policies: the latest version of each name whose answers were surely nearer
to its run's held-out edits than the base model's. Everything else is a candidate. ``ROOT/TASK/standing.json`` holds
what people decided otherwise: a policy promoted is served, one demoted is not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from redraft.errors import ConfigError, DataError, NotFoundError, did_you_mean
from redraft.files import ROOT, write_json
from redraft.train.runs import MANIFEST, PARTIAL, read_manifest, read_sources
from redraft.types import PolicyRef

__all__ = ["PolicyStore", "Standing"]

PROMOTED, DEMOTED = "promoted", "demoted"
STANDING = "standing.json"
_PLAIN = re.compile(r"\w[\w.+-]*")


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a policy is served by default, and why. ``latest``: it is its name's last version."""

    ref: PolicyRef
    served: bool
    reason: str
    latest: bool

    def __str__(self) -> str:
        return f"{'served' if self.served else 'candidate'}: {self.reason}"


class PolicyStore:
    """The policies below one folder, which need not exist yet. Nothing is kept between calls."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def list(self, task: str | None = None) -> Sequence[PolicyRef]:
        """Complete policies, of one task or of all, ordered by task, name and version."""
        found = [ref for ref, folder in self._folders("") if (folder / MANIFEST).is_file()]
        return [ref for ref in found if task in (None, ref.task)]

    def versions(self, task: str, name: str) -> Sequence[PolicyRef]:
        """Complete policies of one name, the latest last."""
        return [ref for ref in self.list(task) if ref.name == name]

    def resolve(self, text: str, task: str | None = None) -> PolicyRef:
        """Read ``email/sft@3``, or ``email/sft`` for the latest one; within a ``task`` also ``sft@3`` and ``sft``.

        Raises ``NotFoundError`` naming what exists when there is none.
        """
        known = self.list()
        wanted = {text} if task is None else {text, f"{task}/{text}"}
        named = [ref for ref in known if wanted & {str(ref), f"{ref.task}/{ref.name}"}]
        if not named:
            there = ", ".join(map(str, known)) or "none yet: train one"
            near = did_you_mean(text, [name for ref in known for name in (str(ref), f"{ref.task}/{ref.name}")])
            raise NotFoundError(f"policy {text!r}: not in {self.root}, which holds {there}{near and f'; {near}'}")
        return named[-1]

    def standing(self, task: str, temperature: float | None = None) -> list[Standing]:
        """Every policy of a task with whether it is served by default, ordered as ``list``.

        ``temperature`` is what it would be served at: answers at another one say nothing of that. Raises ``DataError``
        for a ``standing.json`` that cannot be read.
        """
        told, found, better = self._told(task), list[Standing](), dict[str, PolicyRef]()
        policies = self.list(task)
        latest = {ref.name: ref for ref in policies}
        for ref in reversed(policies):
            served, reason = self._measured(ref, temperature)
            if (said := told.get(str(ref))) is not None:
                served, reason = said == PROMOTED, said
            elif served and ref.name in better:
                served, reason = False, f"{ref.name}@{better[ref.name].version} is later"
            elif served:
                better[ref.name] = ref
            found.append(Standing(ref, served, reason, latest[ref.name] == ref))
        return found[::-1]

    def tell(self, ref: PolicyRef, said: str) -> None:
        """Keep that a policy is ``PROMOTED`` or ``DEMOTED``; raises ``ConfigError`` where that cannot be written."""
        write_json(self.root / ref.task / STANDING, {**self._told(ref.task), str(ref): said}, ROOT)

    def _told(self, task: str) -> dict[str, str]:
        """What people decided, by the policies' full names."""
        file = self.root / task / STANDING
        try:
            told = dict(json.loads(file.read_text("utf-8")))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{file}: cannot be read ({error}): correct or delete it") from error
        if wrong := [name for name, said in told.items() if said not in (PROMOTED, DEMOTED)]:
            raise DataError(f"{file}: {wrong[0]} must be {PROMOTED} or {DEMOTED}")
        return told

    def _measured(self, ref: PolicyRef, temperature: float | None) -> tuple[bool, str]:
        """Whether a policy's answers are surely nearer to held-out edits than base's, with the two numbers."""
        try:
            manifest = read_manifest(self.path(ref))
        except DataError:
            return False, "its manifest cannot be read"
        was = manifest.evaluation.get("decoding", {}).get("temperature")
        if manifest.distances is not None and temperature not in (None, was):
            return False, f"evaluated at temperature {was}, not {temperature}"
        return manifest.standing

    def trained_on(self, completion_ids: Collection[str]) -> list[str]:
        """Names of what learnt from any of these completions, cost models too, or continues from a policy that did."""
        wanted = set(completion_ids)
        named = {str(ref) for ref, folder in self._folders("") if wanted & read_sources(folder)}
        starts = {str(ref): self._start(ref) for ref in self.list()}
        while more := {policy for policy, start in starts.items() if start in named} - named:
            named |= more
        return sorted(named)

    def _start(self, ref: PolicyRef) -> str:
        """Name of the policy that one continues from, if any; a broken manifest must not keep texts from erasure."""
        with suppress(DataError):
            return str(read_manifest(self.path(ref)).options.get("start", ""))
        return ""

    def path(self, ref: PolicyRef) -> Path:
        """The folder of a policy, whether it exists or not."""
        return self.root / ref.task / f"{ref.name}@{ref.version}"

    def partial(self, task: str, name: str) -> PolicyRef | None:
        """The newest unfinished run of a policy, if there is one."""
        runs = [ref for ref, _ in self._folders(PARTIAL) if (ref.task, ref.name) == (task, name)]
        return runs[-1] if runs else None

    def next(self, task: str, name: str) -> PolicyRef:
        """The policy's first version that no folder has, counting unfinished runs and folders without a manifest.

        Raises ``ConfigError`` for a task or name that makes no plain folder name.
        """
        for part in (task, name):
            if not _PLAIN.fullmatch(part):
                raise ConfigError(f"policy {task}/{name}: {part!r} must be letters, digits, '-', '_', '.' and '+' only")
        taken = [
            ref.version
            for suffix in ("", PARTIAL)
            for ref, _ in self._folders(suffix)
            if (ref.task, ref.name) == (task, name)
        ]
        return PolicyRef(task, name, max(taken, default=0) + 1)

    def _folders(self, suffix: str) -> Iterable[tuple[PolicyRef, Path]]:
        found: list[tuple[PolicyRef, Path]] = []
        for folder in self.root.glob(f"*/[!.]*@*{suffix}"):  # one with a dot in front is being written
            try:
                ref = PolicyRef.parse(f"{folder.parent.name}/{folder.name.removesuffix(suffix)}")
            except ValueError:
                continue
            found.append((ref, folder))
        return sorted(found, key=lambda pair: (pair[0].task, pair[0].name, pair[0].version))
