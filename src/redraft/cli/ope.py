"""``redraft ope``: what other ways of choosing would have cost, from the decisions of a log."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.ground import concluded
from redraft.cli.output import AsJson, emit, note
from redraft.cli.session import LogUrl, open_log, require_task
from redraft.errors import DataError, NotFoundError
from redraft.policies.base import BASE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from redraft.select.ope import Estimate, Lead, Logged, Target
    from redraft.stats import Interval
    from redraft.types import Decision

__all__ = ["ope"]

UNIFORM = "uniform"
DRAW = 'serve for a while with selector = "uniform", which leaves every choice to chance'


def ope(
    task: Annotated[str, typer.Argument(help="The task whose decisions to read.")],
    *,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="What to choose instead: a policy such as sft or sft@3, or uniform; repeatable. Default: every "
            "policy that could be chosen last, and uniform."
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Say of every target whether it is surely cheaper than this one. Default: base, if it is one."
        ),
    ] = None,
    most: Annotated[
        float | None, typer.Option(min=0.0, help="What no edit costs more than. Default: the dearest one in the log.")
    ] = None,
    log: LogUrl = None,
    as_json: AsJson = False,
) -> None:
    """Estimate what other policies would have cost than those that were chosen, by the probabilities in the log."""
    from redraft.select.ope import THIN, estimate, lead, unsupported

    with open_log(log) as edits:
        require_task(edits, task)
        rows, candidates = _logged(edits.resolved(task))
    if not rows:
        raise DataError(f"task {task!r}: no decision with a propensity has an edit: {DRAW}")
    targets = _targets(target or [*candidates, UNIFORM], task, candidates)
    base = _one(against, task, candidates) if against else next((arm for arm in candidates if arm == BASE), None)
    found: dict[str, Estimate] = {}
    leads: dict[str, Lead] = {}
    said: dict[str, str] = {}
    for name, shares in targets.items():
        if why := unsupported(rows, shares):
            said[name] = f"cannot be told: {why}"
            continue
        found[name] = estimate(rows, shares, most=most)
        if found[name].effective < THIN:
            said[name] = f"an effective sample of {found[name].effective:.0f} edits is too thin to say anything sure"
    for name in found:
        if base is not None and name != base and not unsupported(rows, {base: 1.0}):
            leads[name] = lead(rows, targets[name], {base: 1.0}, most=most)
            if leads[name].since:
                said[name] = f"costs less than {_short(base, task)}, sure since edit {leads[name].since:,}"
    data = {
        "task": task,
        "edits": len(rows),
        "cost": sum(row.cost for row in rows) / len(rows),
        "against": base,
        "targets": {name: _described(name, found, leads, said) for name in targets},
    }
    if not found:
        note(f"nothing was left to chance: {DRAW}")
    said["as served"] = f"{data['cost']:.2f} a decision, over {len(rows):,} edits"
    columns = {"choosing": [_short(name, task) for name in found], **_columns(list(found.values()))}
    then = f"redraft diagnose {task}, to see what this log can teach"
    emit(data, as_json, concluded(columns, {_short(name, task): text for name, text in said.items()}, then, []))


def _logged(resolved: Iterable[tuple[Decision, float]]) -> tuple[list[Logged], tuple[str, ...]]:
    """The decisions whose probabilities are known, and the candidates of the last one."""
    from redraft.select.ope import Logged

    rows: list[Logged] = []
    candidates: tuple[str, ...] = ()
    for decision, cost in resolved:
        if decision.propensities is not None:
            candidates = decision.candidates
            known = dict(zip(decision.candidates, decision.propensities, strict=True))
            rows.append(Logged(decision.chosen, cost, known))
    return rows, candidates


def _targets(names: Sequence[str], task: str, candidates: Sequence[str]) -> dict[str, Target]:
    even = dict.fromkeys(candidates, 1 / len(candidates))
    return {name: even if name == UNIFORM else {name: 1.0} for name in (_one(n, task, candidates) for n in names)}


def _one(name: str, task: str, candidates: Sequence[str]) -> str:
    """The candidate of this name; without a version its latest. Raises ``NotFoundError`` where there is none."""
    if name == UNIFORM:
        return name
    shorts = {arm: _short(arm, task) for arm in candidates}
    fitting = [arm for arm, short in shorts.items() if name in (arm, short, short.partition("@")[0])]
    if not fitting:
        raise NotFoundError(f"{name}: not among {', '.join(shorts.values())}, which could be chosen last")
    return fitting[-1]


def _short(name: str, task: str) -> str:
    return name.removeprefix(f"{task}/")


def _described(
    name: str, found: Mapping[str, Estimate], leads: Mapping[str, Lead], said: Mapping[str, str]
) -> dict[str, object]:
    return {
        "estimate": asdict(found[name]) if name in found else None,
        "lead": asdict(leads[name]) if name in leads else None,
        "said": said.get(name),
    }


def _columns(found: Sequence[Estimate]) -> dict[str, list[str]]:
    def drawn(interval: Interval) -> str:
        return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"

    return {
        "effective": [f"{one.effective:.0f}" for one in found],
        "DR": [drawn(one.dr) for one in found],
        "SNIPS": [drawn(one.snips) for one in found],
        "IPS": [drawn(one.ips) for one in found],
        "direct": [f"{one.direct:.2f}" for one in found],
    }
