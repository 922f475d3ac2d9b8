"""The demo's page: one self-contained HTML file, made from rows, decisions and a summary alone.

Nothing in it is fetched and nothing runs: styles, figures and texts stand inside, and every text that a model or a
person wrote is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from redraft.files import write_json, write_text
from redraft.lab.bench.matrix import MatrixRow, cost_table
from redraft.lab.report.diff import diff_html
from redraft.lab.report.figures import colour, cost_figure, cumulative_figure, pulls_figure, training_figure
from redraft.lab.report.page import render
from redraft.types import Decision

__all__ = ["Decisions", "write_report"]

Decisions = Mapping[str, Sequence[tuple[Decision, float]]]
"""By selector, what it decided and paid in each round."""

_ABOUT = {
    "base": "the model as it came",
    "sft": "trained to write the edited texts",
    "dpo": "trained to prefer an edited text to its draft",
    "early": "both at once, in one training",
    "late": "chooses among the policies as costs come in",
    "uniform": "chooses among them by chance",
}
_SELECTORS = ("late", "uniform")


def write_report(
    out: Path,
    summary: Mapping[str, Any],
    rows: Sequence[MatrixRow],
    decisions: Decisions,
    prompts: Mapping[str, str] | None = None,
) -> Path:
    """Write ``report.html`` and ``summary.json`` into a folder and return the page's path.

    Parameters
    ----------
    out
        The folder; it is made when missing, and each file in it is replaced whole or not at all.
    summary
        ``mean_cost`` by policy with ``base`` among them; ``interval`` as [low, high] and ``pulls`` by selector and
        policy; ``seconds`` by stage, ``seed``, ``command``, ``versions``; ``training`` by method, a list of points with
        ``step`` and ``chosen_logp``, ``rejected_logp`` or ``loss``; ``notes``, a list of sentences.
    rows
        One setting's complete matrix.
    decisions
        By selector, in the order of rounds.
    prompts
        What was asked, by context id, to stand above the examples.

    Raises
    ------
    DataError
        When the rows are no complete matrix, or the folder cannot be written.
    """
    page = _page(summary, rows, decisions, prompts or {})
    write_json(out / "summary.json", summary)
    write_text(out / "report.html", page)
    return out / "report.html"


def _page(
    summary: Mapping[str, Any], rows: Sequence[MatrixRow], decisions: Decisions, prompts: Mapping[str, str]
) -> str:
    from markupsafe import Markup

    training = {method: points for method, points in summary.get("training", {}).items() if points}
    return render(
        "demo.html",
        lead=_lead(summary["mean_cost"]),
        rounds=max((row.t for row in rows), default=0),
        table=_table(summary),
        pulls=summary.get("pulls", {}),
        figures=_figures(summary, rows, decisions),
        examples=_examples(rows, prompts),
        training=Markup(training_figure(training)) if training else "",
        notes=summary.get("notes", []),
        command=summary.get("command", ""),
        seed=summary.get("seed", ""),
        versions=summary.get("versions", {}),
        seconds=summary.get("seconds", {}),
    )


def _lead(means: Mapping[str, float]) -> str:
    trained = {name: mean for name, mean in means.items() if name not in (*_SELECTORS, "base")}
    best = min(trained, key=trained.__getitem__) if trained else "base"
    text = f"Edits to the base model's answers cost {means['base']:.3f} on average; to those of {best}, the best of "
    text += f"{len(trained)} policies trained on such edits, {means[best]:.3f} ({_share(means[best], means['base'])})."
    if "late" in means and "uniform" in means:
        text += f" LateEnsemble, which had to find out while serving, paid {means['late']:.3f} a round; choosing by "
        text += f"chance paid {means['uniform']:.3f}."
    return text


def _share(value: float, base: float) -> str:
    if not base:
        return "nothing to save"
    return f"{abs(1 - value / base):.1%} {'less' if value <= base else 'more'}"


def _table(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    means: Mapping[str, float] = summary["mean_cost"]
    base = means["base"]
    return [
        {
            "name": name,
            "colour": colour(name),
            "about": _ABOUT.get(name, ""),
            "mean": mean,
            "interval": " – ".join(f"{bound:.3f}" for bound in summary.get("interval", {}).get(name, ())),
            "relative": f"{mean / base:.2f} ×" if base else "",
            "best": mean == min(means.values()),
        }
        for name, mean in means.items()
    ]


def _figures(summary: Mapping[str, Any], rows: Sequence[MatrixRow], decisions: Decisions) -> list[dict[str, Any]]:
    from markupsafe import Markup

    costs = {**cost_table(rows), **{name: [cost for _, cost in made] for name, made in decisions.items()}}
    drawn = (
        (
            "What an answer costs its reader",
            cost_figure(summary["mean_cost"], summary.get("interval", {})),
            "Dot: mean over the rounds. Band: 95 % bootstrap interval, requests drawn anew.",
        ),
        (
            "What was paid in the end",
            cumulative_figure(costs),
            "Each line is one way to answer all rounds; the flatter, the better. Thick: the online choices.",
        ),
        (
            "Which policy was chosen",
            pulls_figure(decisions),
            "A choice that learns pulls one line away from the others.",
        ),
    )
    return [{"title": title, "svg": Markup(svg), "caption": caption} for title, svg, caption in drawn]


def _examples(rows: Sequence[MatrixRow], prompts: Mapping[str, str]) -> list[dict[str, Any]]:
    last = max((row.t for row in rows), default=0)
    shown = sorted({1, (last + 1) // 2, last} - {0}) if last else []
    return [_example(t, [row for row in rows if row.t == t], prompts) for t in shown]


def _example(t: int, rows: Sequence[MatrixRow], prompts: Mapping[str, str]) -> dict[str, Any]:
    from markupsafe import Markup

    answers = [
        {
            "policy": row.policy,
            "colour": colour(row.policy),
            "cost": row.cost,
            "diff": Markup(diff_html(row.response, row.edited)),
        }
        for row in rows
    ]
    return {"t": t, "prompt": prompts.get(rows[0].context_id, ""), "answers": answers}
