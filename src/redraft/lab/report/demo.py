"""The demo's page, made from rows, decisions and a summary alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from redraft.lab.bench.matrix import MatrixRow, cost_table
from redraft.lab.report.figures import Point, cost_figure, cumulative_figure, pulls_figure, training_figure
from redraft.lab.report.grid import Entry, Grid, Line
from redraft.lab.report.page import Page, opening, write_page
from redraft.lab.report.sections import Drawing, Section, example
from redraft.policies.base import BASE
from redraft.stats import Comparison
from redraft.types import Decision

__all__ = ["NEXT", "Decisions", "Summary", "verdict", "write_report"]

Decisions = Mapping[str, Sequence[tuple[Decision, float]]]
"""By selector, what it decided and paid in each round."""

NEXT = (
    ("Bring your own log in, a line of JSON or of CSV an edit.", "redraft import edits.jsonl --task email"),
    ("See what its edits can teach, and with which method.", "redraft diagnose email"),
    ("Train on them, and compare with the base model.", "redraft train all email"),
    ("Serve the policies behind OpenAI's API; every further edit is logged.", "redraft serve"),
)
"""What to do after the demo, each step with its command."""

_SELECTORS = ("late", "uniform")


@dataclass(frozen=True, slots=True)
class Summary:
    """The demo's numbers, as they are in ``summary.json``.

    ``interval`` has [low, high] and ``pulls`` how often each policy was chosen, by selector; ``training`` has by method
    what was measured on held-out edits after each epoch; ``seconds`` are by stage, ``notes`` are sentences. ``heldout``
    has each policy's edit cost on ``heldout_edits`` edits of the log, which was known before anyone was served.
    """

    mean_cost: Mapping[str, float]
    interval: Mapping[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])
    against_base: Mapping[str, Comparison] = field(default_factory=dict[str, Comparison])
    late_against_uniform: Comparison | None = None
    pulls: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    data: Mapping[str, object] = field(default_factory=dict[str, object])
    heldout: Mapping[str, float] = field(default_factory=dict[str, float])
    heldout_edits: int = 0
    training: Mapping[str, Sequence[Point]] = field(default_factory=dict[str, Sequence[Point]])
    notes: Sequence[str] = ()
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    seed: int = 0
    model: str = ""
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def best(self) -> str:
        """The trained policy of the least mean cost; base where none was trained."""
        trained = [name for name in self.mean_cost if name not in (*_SELECTORS, BASE)]
        return min(trained, key=self.mean_cost.__getitem__, default=BASE)


def write_report(
    out: Path,
    summary: Summary,
    rows: Sequence[MatrixRow],
    decisions: Decisions,
    prompts: Mapping[str, str] | None = None,
) -> Path:
    """Write ``report.html`` and ``summary.json`` into a folder, made when missing, and return the page's path.

    ``rows`` are one setting's complete matrix, ``decisions`` in the order of rounds, ``prompts`` by context id. Raises
    ``DataError`` when the rows are no complete matrix, ``ConfigError`` when the folder cannot be written.
    """
    examples = _examples(rows, prompts or {})
    middle = examples.examples[len(examples.examples) // 2 :]
    page = Page(
        title="what the edits taught",
        message=verdict(summary),
        lead=_lead(summary, max((row.t for row in rows), default=0)),
        opening=opening([Section("", examples=middle)], (BASE, summary.best)),
        sections=[_costs(summary, rows, decisions), examples, *_training(summary)],
        steps=NEXT,
        notes=summary.notes,
        made={
            "command": summary.command,
            "seed": str(summary.seed),
            "versions": ", ".join(f"{name} {version}" for name, version in summary.versions.items()),
            "seconds": ", ".join(f"{stage} {spent:.0f}" for stage, spent in summary.seconds.items()),
        },
    )
    return write_page(out, page, asdict(summary), tables=False)


def verdict(summary: Summary) -> str:
    """What the demo found, in one sentence."""
    base, best = summary.mean_cost[BASE], summary.mean_cost[summary.best]
    if best >= base:
        return f"No policy learned to need fewer edits: the best, {summary.best}, costs {best:.2f}, base {base:.2f}."
    return f"Learning from edits cut the mean edit cost from {base:.2f} to {best:.2f} ({1 - best / base:.0%} less)."


def _lead(summary: Summary, rounds: int) -> str:
    means = summary.mean_cost
    text = (
        f"Each policy answered the same {rounds} requests, and the same simulated user edited every answer. The edit "
        "cost is how much of an answer had to change: 0 means it was used as it stood, 1 means as many changes as the "
        f"answer has words. The best trained policy is {summary.best}."
    )
    if means.keys() >= set(_SELECTORS):
        text += f" LateEnsemble, which had to find that out while serving, paid {means['late']:.3f} a round; choosing "
        text += f"by chance paid {means['uniform']:.3f}."
    return text


def _costs(summary: Summary, rows: Sequence[MatrixRow], decisions: Decisions) -> Section:
    costs = {**cost_table(rows), **{name: [cost for _, cost in made] for name, made in decisions.items()}}
    drawings = (
        Drawing(
            "cost",
            "What an answer costs its reader",
            cost_figure({"": (summary.mean_cost, summary.interval)}),
            "Dot: mean over the rounds; lower is better. Line: its 95 % bootstrap interval over requests.",
        ),
        Drawing(
            "cumulative",
            "What was paid in the end",
            cumulative_figure(costs),
            "Each line answers all rounds in one way; the flatter, the better. Thick: chosen online.",
        ),
        Drawing(
            "pulls",
            "Which policy was chosen",
            pulls_figure({name: _counts(made) for name, made in decisions.items()}),
            "late learns from what it pays and should leave the expensive policies; uniform chooses by chance.",
        ),
    )
    text = (
        "base is the model as it came. sft is trained to write the edited texts, dpo to prefer an edited text to its "
        "draft, early both at once. late (LateEnsemble) chooses among them as costs come in, uniform by chance.",
    )
    return Section("What it cost", text, (_table(summary),), drawings)


def _counts(made: Sequence[tuple[Decision, float]]) -> dict[str, list[float]]:
    """By policy, how often it had been chosen after each round."""
    chosen = [decision.chosen for decision, _ in made]
    arms = dict.fromkeys(arm for decision, _ in made for arm in decision.candidates)
    return {arm: [float(chosen[: t + 1].count(arm)) for t in range(len(chosen))] for arm in arms}


def _table(summary: Summary) -> Grid:
    base, least = summary.mean_cost[BASE], min(summary.mean_cost.values())
    known = summary.heldout
    lines = [
        Line(
            name,
            (
                *([Entry(f"{known[name]:.3f}" if name in known else "")] if known else ()),
                Entry(f"{mean:.3f}", strong=mean == least),
                Entry(" – ".join(f"{bound:.3f}" for bound in summary.interval.get(name, ()))),
                Entry(f"{mean / base:.2f} ×" if base else ""),
                *(Entry(str(pulls.get(name, ""))) for pulls in summary.pulls.values()),
            ),
        )
        for name, mean in summary.mean_cost.items()
    ]
    chosen = (f"chosen by {selector}" for selector in summary.pulls)
    head = ("policy", *(["held-out edit cost"] if known else ()), "edit cost", "95 % interval", "against base", *chosen)
    caption = "Mean edit cost; lower is better."
    if known:
        caption += (
            f" Held-out: of its answers to {summary.heldout_edits} edits of the log that it did not see, of the base "
            "model's drafts. That is known before anyone is served."
        )
    return Grid(caption, head, tuple(lines))


def _examples(rows: Sequence[MatrixRow], prompts: Mapping[str, str]) -> Section:
    last = max((row.t for row in rows), default=0)
    shown = sorted({1, (last + 1) // 2, last}) if last else []
    found: list[Sequence[MatrixRow]] = [[row for row in rows if row.t == t] for t in shown]
    text = "The first, the middle and the last round, whatever they hold."
    return Section(
        "Before and after",
        (text,),
        examples=tuple(example(f"Round {own[0].t}", own, prompts.get(own[0].context_id, "")) for own in found),
    )


def _training(summary: Summary) -> list[Section]:
    methods = {method: [points] for method, points in summary.training.items() if points}
    if not methods:
        return []
    text = (
        "The log-probability of held-out texts: solid, the edited text; dashed, the draft it replaced. A policy that "
        "learns makes the edited text more likely; a method that pushes both down is forgetting how to write."
    )
    return [Section("Training", (text,), (), (Drawing("training", "By method", training_figure({"": methods}), ""),))]
