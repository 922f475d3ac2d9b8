"""What choosing by held-out edits is worth on a run's rows, and which form of comparison tells the truth: two files.

``choice.json`` has the numbers and ``choice.md`` the tables, beside the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from redraft.costs import get_cost
from redraft.edit_cost import Difference
from redraft.errors import DataError
from redraft.files import write_json, write_text
from redraft.lab.bench.choosing import BAR, BEST, EDIT_COST, EDITS, Choosing, Rule, Told, choosing, tell
from redraft.lab.bench.folder import RunFolder, TrainedRun
from redraft.lab.bench.matrix import grouped
from redraft.lab.bench.summary import as_json
from redraft.lab.bench.tables import complete_cells, rivals
from redraft.lab.report.bench import Source, read_source
from redraft.lab.report.grid import Entry, Grid, between, entries, grid, number
from redraft.lab.report.sections import Section, sections_markdown
from redraft.policies.base import BASE
from redraft.stats import Interval

__all__ = ["write_choice"]

FORMS: Mapping[str, Callable[[Told], Difference | None]] = {
    "one-sided": lambda row: row.one_sided,
    "one-sided, bounded": lambda row: row.bounded,
    "symmetric": lambda row: row.symmetric,
    "direct": lambda row: row.direct,
}


def write_choice(folder: Path) -> dict[str, Any]:
    """Write ``choice.json`` and ``choice.md`` into a benchmark's folder; returns the former's content.

    Raises ``DataError`` when the folder holds no benchmark, or none of its cells is complete and long enough.
    """
    source = read_source(folder)
    if source.experiment.kind != "benchmark":
        raise DataError(f"{folder}: reads the rows of another run: give the folder of that one")
    cost, cells = get_cost(source.experiment.cost), complete_cells(source.rows, source.plan)[0]
    training = _training(source)
    by_user = grouped(cells, lambda cell: cell.test_user)
    each = {user: choosing(some, source.plan, source.rows, cost, training) for user, some in by_user.items()}
    found = {user: chosen for user, chosen in each.items() if chosen}
    if not found:
        raise DataError(f"{folder}: no complete cell has {BASE} and more than {EDITS} rounds: let the run finish first")
    user = next(iter(found))
    done = {(cell.seed, cell.setting) for cell in by_user[user]}
    rows = [row for row in source.rows if row.test_user == user and (row.seed, row.setting) in done]
    trained, started = _pairs(source)
    told, second = tell(rows, cost, trained), tell(rows, cost, started)
    sections = [*(_choosing(*each) for each in found.items()), *_telling(user, told, second)]
    said = [_said(*each) for each in found.items()]
    made = as_json({"edits": EDITS, "choosing": found, "pairs": told, "started": second})
    write_json(folder / "choice.json", made)
    title = f"choosing by held-out edits: {source.experiment.name}"
    write_text(folder / "choice.md", sections_markdown(title, said, sections))
    return made


def _training(source: Source) -> list[TrainedRun]:
    """The runs that made the policies, of the folder that lends the answers where nothing was trained in this one."""
    lender = source.experiment.responses_from
    own = RunFolder(source.folder).training()
    return own or (RunFolder(source.folder.parent / lender.name).training() if lender else [])


def _pairs(source: Source) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Each two policies that were trained, base among them; and each arm with what it started from, other than base."""
    arms = source.experiment.arms
    trained = [name for name in source.plan.arms if name not in arms or arms[name].method]
    return [(b, a) for a, b in combinations(trained, 2)], [pair for pair in rivals(arms) if pair[1] != BASE]


def _said(user: str, found: Choosing) -> str:
    ours, best = found.rules[EDIT_COST], found.rules[BEST]
    above = between(ours.above.mean, ours.above.low, ours.above.high).text
    return (
        f"Test user {user}: the policy that {EDITS} edits of base's drafts favour costs {ours.mean.mean:.3f} a round, "
        f"{_times(ours, best)} the best in hindsight ({best.mean.mean:.3f}). Minus {BAR} × the best: {above}."
    )


def _choosing(user: str, found: Choosing) -> Section:
    best = found.rules[BEST]

    def line(rule: Rule) -> list[Entry]:
        mean, subopt = rule.mean, rule.max_subopt
        means = entries(*map(number, rule.by_setting.values()), f"{mean.mean:.3f} [{mean.low:.3f}, {mean.high:.3f}]")
        worst = number(subopt.mean, subopt.std) if subopt else "–"
        return [*means, Entry(_times(rule, best), rule.mean.mean <= BAR * best.mean.mean), Entry(worst)]

    orders = f"{found.orders} orders of the rounds a cell" if found.orders > 1 else "rounds in the order served"
    text = (
        f"A rule sees {EDITS} edits of base's drafts, or what training held out, and serves one policy over the other "
        f"rounds, in which LateEnsemble starts. {orders[0].upper()}{orders[1:]}. Likelihood and preference loss choose "
        "among trained policies only. Who accepts drafts unread says nothing by it: hence the rule of changed drafts.",
    )
    caption = f"Mean edit cost a round, with 95 % interval over seeds and contexts. Bold: within {BAR} of the best."
    head = ("chosen by", *best.by_setting, "mean", "× best", "Max SubOpt")
    lines = ((name, line(rule)) for name, rule in found.rules.items())
    return Section(f"Choosing one policy, test user {user}", text, (grid(caption, head, lines),))


def _times(rule: Rule, best: Rule) -> str:
    return f"{rule.mean.mean / best.mean.mean:.2f} ×"


def _telling(user: str, told: Sequence[Told], second: Sequence[Told]) -> list[Section]:
    text = (
        "Online is what both policies' own rows show. One-sided compares by edits of the second policy's drafts alone, "
        "which favour it; symmetric by edits of each in every second round, direct by edits of base's. Bounded allows "
        "twice the anchoring bias between base and the second policy.",
    )
    grids = [_counts(told), *([_pairs_grid(second)] if second else [])]
    return [Section(f"Which of two is better, test user {user}", text, tuple(grids))] if told else []


def _counts(told: Sequence[Told]) -> Grid:
    """How often each form agrees with the online difference."""

    def line(form: Callable[[Told], Difference | None]) -> list[Entry]:
        signs = [(_sign(row.online), _sign(found.difference)) for row in told if (found := form(row))]
        real = Counter(a * b for a, b in signs if a)
        open_ = Counter(b != 0 for a, b in signs if not a)
        return entries(*(str(real[product]) for product in (1, 0, -1)), f"{open_[True]} of {open_.total()}")

    caption = "Pairs of trained policies and settings whose online interval excludes 0, and the verdict by edits."
    head = ("form", "told right", "not told", "told wrong", "told where online does not")
    return grid(caption, head, ((name, line(form)) for name, form in FORMS.items()))


def _pairs_grid(told: Sequence[Told]) -> Grid:
    def line(row: Told) -> list[Entry]:
        forms = [form(row) for form in FORMS.values()]
        return [_between(row.online), *(_between(each.difference) if each else Entry("–") for each in forms)]

    caption = "Each policy − the one it started from or serves, with 95 % intervals. Bold: surely better."
    lines = ((f"{row.setting}: {row.one} − {row.other}", line(row)) for row in told)
    return grid(caption, ("pair", "online", *FORMS), lines)


def _sign(interval: Interval) -> int:
    return (interval.low > 0) - (interval.high < 0)


def _between(interval: Interval) -> Entry:
    return between(interval.mean, interval.low, interval.high)
