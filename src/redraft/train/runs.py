"""What a run leaves behind: a policy folder that any PEFT program can load.

While it runs, a policy's folder is called ``NAME@VERSION.partial`` and its manifest (``redraft.json``) says so; it
takes its final name when it is complete, and is never written again. A partial folder holds the checkpoints that
``--resume`` continues from.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from redraft.edit_cost import LEAST
from redraft.errors import DataError
from redraft.files import ROOT, write_json, write_text
from redraft.lm.load import Base, compute_dtype
from redraft.train.options import PAPER, TrainOptions

__all__ = [
    "CHECKPOINTS",
    "COMPLETE",
    "DIVERGED",
    "EPOCHS",
    "MANIFEST",
    "PARTIAL",
    "RUNNING",
    "SOURCES",
    "Manifest",
    "alarm",
    "checkpoints",
    "damaged",
    "new_manifest",
    "partial_of",
    "read_manifest",
    "read_sources",
    "recommended",
    "verdict",
    "versions",
    "write_card",
    "write_manifest",
    "write_merged_card",
    "write_sources",
]

MANIFEST = "redraft.json"
SOURCES = "completions.json"
CHECKPOINTS, EPOCHS = "checkpoints", "epochs"
PARTIAL = ".partial"
RUNNING, COMPLETE, DIVERGED = "running", "complete", "diverged"
CAUTION = "do not serve before `redraft evaluate`"
FEWEST = 4
"""Held-out edits from which a policy is served by default: by two, one seemed to leave half of what base does, and
costs more (results/advice, summary/strong/8). A log of 16 edits leaves as many to report."""
_LIBRARIES = ("redraft", "torch", "transformers", "peft", "accelerate")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What made a policy.

    ``status`` is running, complete, or diverged (no held-out score of what was to be kept is a number). ``history``
    holds the training log, ``metrics`` the held-out scores of the epoch that was kept, ``criterion`` names the one that
    chose it (and would choose among trials). Of ``seconds``, ``scoring_seconds`` went into answering held-out edits
    after each epoch. ``evaluation`` is of its
    answers: ``distance`` is their mean Δ to ``edits`` held-out edits under ``cost``, ``base_distance`` that of the base
    model ``model``, both with ``decoding``. It is empty where nobody measured them.
    """

    policy: str
    status: str
    base: dict[str, str]
    data: dict[str, Any]
    limits: dict[str, int]
    options: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    history: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    seconds: float = 0.0
    created_at: str = ""
    versions: dict[str, str] = field(default_factory=dict[str, str])
    evaluation: dict[str, Any] = field(default_factory=dict[str, Any])
    criterion: str = ""
    scoring_seconds: float = 0.0

    @property
    def distances(self) -> tuple[float, float] | None:
        """Of its answers and of the base model's from held-out edits; ``None`` where they were not measured."""
        own, base = self.evaluation.get("distance"), self.evaluation.get("base_distance")
        return None if own is None or base is None else (own, base)

    @property
    def told_by(self) -> int:
        """How many held-out edits compare it with base, of drafts that the two or others wrote; 0 for unknown."""
        return self.evaluation.get("base_edits", self.evaluation.get("edits", 0))

    @property
    def standing(self) -> tuple[bool, str]:
        """Whether it is served by default, where its answers surely leave less to edit than base's, and why."""
        if self.distances is None:
            return False, "never evaluated"
        own, base = self.distances
        held = self.told_by or FEWEST  # manifests of old counted no edits and gave no interval
        _, high = self.evaluation.get("against_base", (None, own - base))
        said = f"{own:.2f} {'<' if own < base else '≥'} base {base:.2f}"
        if own >= base or (high < 0 and held >= FEWEST):
            return own < base, said
        return False, f"{said}, but {f'on {held} of {FEWEST} held-out edits' if held < FEWEST else 'it may be chance'}"

    def alike(self, other: Manifest) -> dict[str, bool]:
        """Whether another run has the same options, data and base; options younger than a manifest had defaults.

        But for the criterion: there was no other than the paper's.
        """
        defaults = TrainOptions().as_dict() | {"criterion": PAPER}
        return {
            "options": defaults | self.options == defaults | other.options,
            "data": self.data == other.data,
            "base": self.base == other.base,
        }


def new_manifest(policy: str, base: Base, data: Mapping[str, Any], options: TrainOptions) -> Manifest:
    """The manifest of a run that begins."""
    return Manifest(
        policy=policy,
        status=RUNNING,
        base={"name": base.name, "source": base.source, "revision": base.revision},
        data=dict(data),
        limits={"prompt": options.max_prompt, "response": options.max_response},
        options=options.as_dict(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions() | {"precision": str(compute_dtype()).removeprefix("torch."), **_read_by(base)},
    )


def _read_by(base: Base) -> dict[str, str]:
    """How the model reads pairs, where that is not in one packed pass."""
    from redraft.lm.probe import reading_of
    from redraft.lm.reading import PACKED

    return {} if (way := reading_of(base.model).way) == PACKED else {"reading": way}


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a run's numbers."""
    from importlib.metadata import version  # slow to import, and every command imports this module

    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def partial_of(folder: Path) -> Path:
    """Where a policy's run stays until it is complete."""
    return folder.with_name(folder.name + PARTIAL)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``redraft.json``: the old one or the new one is there, never half of it."""
    write_json(folder / MANIFEST, asdict(manifest), ROOT)


def read_manifest(folder: Path) -> Manifest:
    """Read ``redraft.json``; raises ``DataError`` when it is missing or not ours."""
    file = folder / MANIFEST
    try:
        return Manifest(**json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{file}: not a redraft manifest ({error}): train the policy again") from error


def verdict(manifest: Manifest) -> str:
    """Say what a run's held-out scores are, and how far its answers are from held-out edits.

    Only edits of its own answers tell what these really cost. Where answers were not measured, a policy whose scores
    are no better than its reference's comes with a caution.
    """
    if manifest.options.get("holdout") == 0:
        return f"trained on every edit, with none held out to check it by: {CAUTION}"
    promising, said = _scores(manifest)
    if manifest.distances is None:
        return said if promising else f"{said}: {CAUTION}"
    own, base = manifest.distances
    held = manifest.evaluation.get("edits", 0)
    said = f"{said}; its answers are {own:.2f} from {held} held-out edit{'s' * (held != 1)}, base's {base:.2f}: "
    if manifest.standing[0]:
        said += "served by default"
    else:
        few = f" (so few may err: {FEWEST} are needed)" if manifest.told_by < FEWEST else " (it may be chance)"
        said += f"a candidate{few if own < base else ''}; "
        said += f"redraft policies promote {manifest.policy} serves it all the same"
    dearer = alarm(manifest)
    return f"{said}. {dearer}" if dearer and dearer != _dearer("base", base, own) else said


def recommended(manifests: Sequence[Manifest]) -> tuple[str, str] | None:
    """Of policies measured on the same edits, and base, the one whose answers leave least to edit; and a sentence.

    ``None`` where nothing was measured.
    """
    known = {m.policy: m for m in manifests if m.distances and m.evaluation.get("edits")}
    if not known:
        return None
    edits = max(m.evaluation["edits"] for m in known.values())
    costs = {name: m.evaluation["distance"] for name, m in known.items() if m.evaluation["edits"] == edits}
    base = next(m.evaluation["base_distance"] for m in known.values() if m.policy in costs)
    (best, least), *others = sorted([("base", base), *costs.items()], key=lambda each: each[1])
    beside = ", ".join(f"{name.rpartition('/')[2]} {cost:.2f}" for name, cost in others)
    few = "" if edits >= LEAST else f"; held out: {edits}, too few to be sure"
    if not few and best in known and not known[best].standing[0]:
        few = "; no surer than chance"
    return best, f"{best}, whose answers leave least to edit: {least:.2f} ({beside}){few}"


def alarm(manifest: Manifest) -> str:
    """Say that a policy's answers cost more than those of what it began as; empty where they do not, or nobody knows.

    Where that wrote the drafts of these edits they favour it, and only edits of the policy's own answers can tell.
    """
    found, start = manifest.evaluation, str(manifest.options.get("start") or "base")
    what = "start" if "start_distance" in found else "base"
    own, begun = found.get("distance"), found.get(f"{what}_distance")
    if own is None or begun is None or own <= begun or (what == "base" and start != "base"):
        return ""
    said = _dearer(start, begun, own)
    if found.get(f"{what}_standing") != "undecided":
        return said
    return f"{said}, on edits of drafts that {start} wrote, which favour it: only edits of its own answers can tell"


def _dearer(start: str, begun: float, own: float) -> str:
    return f"Its answers cost more than those of {start}, {begun:.2f} → {own:.2f}"


def _scores(manifest: Manifest) -> tuple[bool, str]:
    """Whether held-out edits are likelier under a policy than under its reference, and how much; for rl, its costs."""
    metrics, than = manifest.metrics, manifest.options.get("start") or "base"
    nll, before = metrics.get("nll", 0.0), metrics.get("reference_nll")
    moved = metrics.get("chosen_above_reference")
    begun = next((line["eval_own_cost"] for line in manifest.history if "eval_own_cost" in line), None)
    if begun is not None and "own_cost" in metrics:
        costs = f"{begun:.2f} → {metrics['own_cost']:.2f}"
        if metrics["own_cost"] >= begun:
            return False, f"its answers are predicted to cost no less than those of {than} ({costs})"
        said = f"its answers are predicted to cost less than those of {than} ({costs})"
        return True, f"{said}; only edits tell the real cost" if manifest.distances is None else said
    if moved is not None and moved < 0:
        digits = 0 if moved <= -10 else 1
        return False, f"held-out edits became less likely than under {than} ({moved:+.{digits}f} nats each)"
    if before is None:  # trained by a version that did not keep it
        return True, f"held-out edits have nll {nll:.2f} (nats per token)"
    if nll >= before:
        return False, f"no likelier than {than} on held-out edits (nll {before:.2f} → {nll:.2f})"
    return True, f"likelier than {than} on held-out edits (nll {before:.2f} → {nll:.2f})"


def write_sources(folder: Path, completion_ids: Sequence[str]) -> None:
    """Write ``completions.json``: what a policy learnt from, for the day someone wants to be erased."""
    write_text(folder / SOURCES, json.dumps(sorted(completion_ids)) + "\n", ROOT)


def read_sources(folder: Path) -> frozenset[str]:
    """Ids of the completions behind a policy; none where its folder does not say, or says it in half a file."""
    try:
        return frozenset(json.loads((folder / SOURCES).read_text("utf-8")))
    except (OSError, ValueError):
        return frozenset()


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a partial run that can be gone on from, oldest first.

    Whole are those whose files can all be read. One whose best epoch's checkpoint is not whole is of no use either.
    """
    whole = {path.name: best for path in _saved(folder) if (best := _best_of(path)) is not None}
    usable = [folder / CHECKPOINTS / name for name, best in whole.items() if best in {"", *whole}]
    return sorted(usable, key=lambda path: int(path.name.rpartition("-")[2]))


def damaged(folder: Path) -> list[Path]:
    """The other checkpoints of a partial run: what a kill, a full disk or a bad copy left."""
    return sorted(set(_saved(folder)) - set(checkpoints(folder)))


def _saved(folder: Path) -> list[Path]:
    return list((folder / CHECKPOINTS).glob("checkpoint-*"))


def _best_of(checkpoint: Path) -> str | None:
    """Name of the checkpoint of the best epoch so far, empty without one; ``None`` where a file cannot be read."""
    from zipfile import BadZipFile, ZipFile

    from safetensors import SafetensorError, safe_open

    try:
        for file in checkpoint.glob("*.pt*"):  # torch writes zip archives, with a checksum for each part
            with ZipFile(file) as archive:
                if archive.testzip() is not None:
                    return None
        for file in checkpoint.glob("*.safetensors"):
            safe_open(file, "numpy").__enter__()  # reads the header and compares lengths
        state = json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
        present = (checkpoint / "optimizer.pt").is_file() and any(checkpoint.glob("*.safetensors"))
        return Path(state["best_model_checkpoint"] or "").name if present else None
    except (OSError, ValueError, KeyError, TypeError, BadZipFile, SafetensorError):
        return None


def write_card(folder: Path, manifest: Manifest) -> None:
    """Write the model card ``README.md`` in place of PEFT's empty one."""
    data, method = manifest.data, manifest.options["method"]
    text = [
        f"LoRA adapter for `{manifest.base['name']}` (revision `{manifest.base['revision']}`), trained by redraft with"
        f" `{method}` on {data['train']} human edits ({data['train_pairs']} of them preferences);"
        f" {data['heldout']} more were held out.",
        "",
        *_table("Held-out metric", manifest.metrics),
        "",
        *_table("Its answers", manifest.evaluation),
        "",
        *_table("Option", manifest.options),
        "",
        "```python",
        "from peft import AutoPeftModelForCausalLM",
        'model = AutoPeftModelForCausalLM.from_pretrained("path/to/this/folder")',
        "```",
        "",
        "Prompts were cut to the tokens that `limits` in `redraft.json` names, from their middle.",
    ]
    _write_card(folder, manifest, "peft", "[redraft, lora]", text)


def write_merged_card(folder: Path, manifest: Manifest) -> None:
    """Write the model card of a policy whose adapter was merged into its base."""
    base = f"`{manifest.base.get('name')}` (revision `{manifest.base.get('revision')}`)"
    text = [
        f"{base} with the adapter `{manifest.policy}` merged into its weights, trained by redraft on how people edited"
        " its responses. Any program that loads a model of transformers loads it.",
    ]
    _write_card(folder, manifest, "transformers", "[redraft]", text)


def _write_card(folder: Path, manifest: Manifest, library: str, tags: str, text: Sequence[str]) -> None:
    source = manifest.base.get("source", manifest.base.get("name", ""))
    front = ["---", f"base_model: {source}", f"library_name: {library}", f"tags: {tags}", "---"]
    write_text(folder / "README.md", "\n".join([*front, "", f"# {manifest.policy}", "", *text, ""]), ROOT)


def _table(title: str, values: Mapping[str, Any]) -> Sequence[str]:
    rows = [f"| {k} | {v:.4g} |" if isinstance(v, float) else f"| {k} | {v} |" for k, v in values.items()]
    return [f"| {title} | |", "|---|---|", *rows]
