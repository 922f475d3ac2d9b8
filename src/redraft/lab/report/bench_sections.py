"""The benchmark's page, heading by heading; each section is made from a part of the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from redraft.lab.bench.failures import STRETCH
from redraft.lab.bench.matrix import MatrixRow, grouped
from redraft.lab.bench.semantic import Repriced
from redraft.lab.bench.summary import Check, Replay, Summary, Table
from redraft.lab.bench.tables import Cell
from redraft.lab.report import bench_figures as figures
from redraft.lab.report import bench_tables as tables
from redraft.lab.report import cost_tables
from redraft.lab.report.sections import Drawing, Example, Section, example

__all__ = [
    "ablation_sections",
    "benchmark_sections",
    "choices_section",
    "cost_model_section",
    "cost_sections",
    "example_sections",
    "real_section",
]

_CLIP = 1200


def benchmark_sections(summary: Summary) -> list[Section]:
    """Tables, comparisons and replays, as far as there are any."""
    by_user, replays = summary.tables, summary.replays
    found = [_costs(user, table) for user, table in by_user.items()]
    found += [_checks(user, by_user[user]) for user in by_user if user == summary.test_user]
    found += [_shape(table) for table in by_user.values() if table.paper and table.paper.settings]
    found += [_compared(user, table) for user, table in by_user.items()]
    return [*found, _regret(replays), *ablation_sections(replays)] if replays else found


def ablation_sections(replays: Mapping[str, Replay], *, with_alphas: bool = False) -> list[Section]:
    """α, subsets of arms, and T."""
    if not replays:
        return []
    runs = next(iter(replays.values())).alpha.runs
    subsets = tables.mean_subsets(replays)
    alpha = Section(
        "How much α matters",
        (
            f"LateEnsemble over {runs} random orders a setting, for each fixed α. The dots are its default, which "
            "follows the scale of the costs it paid; small α trusts the first edits, large α is round-robin.",
        ),
        (tables.alpha_grid(replays),) if with_alphas else (),
        (
            Drawing(
                "alpha",
                "Cost by α",
                figures.alpha_figure(replays),
                "Above the best fixed policy; mean of the runs.",
            ),
        ),
    )
    arms = Section(
        "Which arms it needs",
        ("Regret is against the best fixed policy of the subset: what it cost to find it.",),
        (tables.subsets_grid(subsets),),
        (
            Drawing(
                "subsets",
                "Subsets of arms",
                figures.subsets_figure(subsets),
                f"Dot: LateEnsemble. Tick: the best policy of the subset. Ring: uniform. {runs} orders a setting.",
            ),
        ),
    )
    horizon = Section(
        "How many rounds it needs",
        (f"{runs} runs a setting, rounds drawn with replacement from those that were served.",),
        (tables.horizon_grid(replays),),
        (
            Drawing(
                "horizon",
                "Regret per round by T",
                figures.horizon_figure(replays),
                "Band: 5 to 95 % of the runs.",
            ),
        ),
    )
    return [alpha, arms, horizon] if subsets else [alpha, horizon]


def cost_model_section(summary: Summary) -> Section:
    """How well costs were predicted, and whether what was predicted came true."""
    grids = [cost_tables.cost_models_grid(summary.cost_models or ())]
    grids += [cost_tables.promises_grid(summary.promises)] if summary.promises else []
    grids += [cost_tables.choices_grid(summary.choices)] if summary.choices else []
    grids += [cost_tables.learners_grid(summary.learners)] if summary.learners else []
    grids += [cost_tables.doubts_grid(summary.doubts)] if summary.doubts else []
    text = (
        "A cost model is learnt from what one policy wrote (eq. 5) and bounds a cost from above. A policy that was "
        "trained on it exploited the cost model where the predicted cost fell significantly and the real cost did not.",
    )
    return Section("What the cost model promised", text, tuple(grids))


def choices_section(summary: Summary) -> Section:
    """What was chosen among several answers without a cost model."""
    text = "The consensus is the answer that on average takes the fewest edits to become one of the others."
    return Section("What several answers are worth", (text,), (cost_tables.choices_grid(summary.choices or ()),))


def cost_sections(costs: Mapping[str, Mapping[str, Repriced]]) -> list[Section]:
    """What the same edits cost under other costs."""
    return [
        Section(
            f"Other costs, test user {user}",
            ("The texts are the same; only the price of an edit changes. LateEnsemble replays under each.",),
            (
                tables.orders_grid(settings),
                *(tables.recost_grid(settings, cost) for cost in next(iter(settings.values())).mean_cost),
            ),
        )
        for user, settings in costs.items()
    ]


def example_sections(summary: Summary, cells: Sequence[Cell], rows: Sequence[MatrixRow]) -> list[Section]:
    """Training, examples and failures."""
    found: list[Section] = []
    if summary.training:
        svg = figures.training_figure(summary.training)
        caption = (
            "Held-out texts. Solid: the edited text; dashed: the draft; a line a seed; 0 is the model before training."
        )
        found.append(Section("Training", (), (), (Drawing("training", "What training made likely", svg, caption),)))
    if cells:
        shown = _shown(cells, rows)
        found.append(
            Section(
                "Before and after",
                ("The middle round of each setting's first seed, whatever it holds: struck, added, the rest kept.",),
                examples=tuple(example(title, some) for title, some in shown.items()),
            )
        )
        found.append(_failures(summary, cells, rows))
    return found


def real_section(evaluations: Mapping[str, Mapping[str, Any]]) -> Section:
    """People's own edits."""
    return Section(
        "Real edits",
        ("No simulated user: texts that people edited, held out. Mean and 95 % interval over contexts.",),
        tuple(tables.real_grid(evaluation) for evaluation in evaluations.values()),
    )


def _costs(user: str, table: Table) -> Section:
    svg = figures.costs_figure(table.settings)
    text = (
        "A setting is a task and the user whose edits were learnt from. uniform is the exact expectation of a uniform "
        "choice, the mean of the arms in each round. Max SubOpt: per seed the worst, over settings, of a method's mean "
        "cost − the best method's there.",
    )
    if not table.max_subopt:
        text += ("No seed has all settings yet, so there is no Max SubOpt.",)
    caption = "Dot: mean over seeds; lower is better. Line: 95 % bootstrap interval over seeds and contexts."
    drawing = Drawing(f"cost-{_slug(user)}", "What an answer costs its reader", svg, caption)
    return Section(f"Edit cost, test user {user}", text, (tables.cost_grid(table, user),), (drawing,))


def _checks(user: str, table: Table) -> Section:
    return Section(f"What was claimed, test user {user}", tuple(map(_said, table.checks)) + _median(table))


def _said(check: Check) -> str:
    holds, sure = sum(row.holds for row in check.rows), sum(row.sure for row in check.rows)
    fails = ", ".join(f"{row.setting} ({row.difference:+.3f})" for row in check.rows if not row.holds)
    text = f"{check.claim[0].upper()}{check.claim[1:]}: in {holds} of {len(check.rows)} settings, "
    text += f"in {sure} of them significantly (by the whole 95 % interval)."
    return f"{text} Not in {fails}." if fails else text


def _median(table: Table) -> tuple[str, ...]:
    found = table.late_against_median
    if not found:
        return ()
    verb = "is at most" if found.late <= found.median else "is above"
    return (
        f"LateEnsemble's Max SubOpt {verb} the single methods' median: {found.late:.3f} against "
        f"{found.median:.3f} (at or below it in {found.below:.0%} of bootstrap draws).",
    )


def _shape(table: Table) -> Section:
    paper = table.paper
    assert paper is not None
    text = "The paper's agent, users and sizes differ from ours: compare who wins where, not by how much."
    return Section(f"Beside the paper's {paper.name}", (text,), (tables.paper_grid(paper), tables.shape_grid(paper)))


def _compared(user: str, table: Table) -> Section:
    text = "The last lines take the best single trained policy of these same rows, which flatters it a little."
    return Section(f"Who beats whom, test user {user}", (text,), (tables.comparison_grid(table.settings),))


def _regret(replays: Mapping[str, Replay]) -> Section:
    runs = next(iter(replays.values())).alpha.runs
    return Section(
        "What finding out costs",
        (
            "Regret is against the best fixed policy of the same rounds in hindsight, so it can fall. "
            f"Random orders: {runs} a setting.",
        ),
        drawings=(
            Drawing(
                "regret",
                "Cumulative regret of LateEnsemble",
                figures.regret_figure(replays),
                "Flat means it has settled.",
            ),
            Drawing("pulls", "Which policy was chosen", figures.pulls_figure(replays), "Mean over the random orders."),
        ),
    )


def _failures(summary: Summary, cells: Sequence[Cell], rows: Sequence[MatrixRow]) -> Section:
    counted = {(cell.seed, cell.setting, cell.test_user) for cell in cells}
    some = (row for row in rows if (row.seed, row.setting, row.test_user) in counted)
    by_policy = grouped(some, lambda row: row.policy)
    worst = [max(found, key=lambda row: row.cost) for found in by_policy.values()]
    grids = [tables.answers_grid(summary.answers)]
    if any(run.chosen is not None for run in summary.collapse):
        grids.append(tables.collapse_grid(summary.collapse))
    text = (
        f"Repeating: a stretch of {STRETCH} characters stands twice in the answer (every answer was cut where 200 "
        "characters repeat, as in the paper). Collapsed: the edited text is less likely after training than before. "
        "Rows hold no token counts, so the share of answers that ran into the token limit is not known.",
    )
    return Section("Failures", text, tuple(grids), examples=(_worst(worst),))


def _worst(rows: Sequence[MatrixRow]) -> Example:
    cut = [replace(row, response=row.response[:_CLIP], edited=row.edited[:_CLIP]) for row in rows]
    return example("The costliest answer of each policy", cut)


def _shown(cells: Sequence[Cell], rows: Sequence[MatrixRow]) -> dict[str, list[MatrixRow]]:
    """By title, the rows of the middle round of each setting's first cell."""
    first = {cell.setting: cell for cell in reversed(cells)}
    found: dict[str, list[MatrixRow]] = {}
    for name in dict.fromkeys(cell.setting for cell in cells):
        cell = first[name]
        t = (len(cell.contexts) + 1) // 2
        wanted = (cell.seed, name, cell.test_user, t)
        some = [row for row in rows if (row.seed, row.setting, row.test_user, row.t) == wanted]
        found[f"{name}, seed {cell.seed}, round {t}"] = some
    return found


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-.=" else "-" for c in name)
