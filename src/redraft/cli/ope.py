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
        float | None,
        typer.Option(help="What no edit can cost more than; without it nothing is said to be surely cheaper."),
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
    targets = dict(_target(name, task, candidates) for name in target or [*candidates, UNIFORM])
    against = against or (BASE if BASE in candidates else None)
    beside = _target(against, task, candidates) if against else None
    found: dict[str, Estimate] = {}
    leads: dict[str, Lead] = {}
    said: dict[str, str] = {}
    for name, shares in targets.items():
        if why := unsupported(rows, shares):
            said[name] = f"cannot be told: {why}"
            continue
        found[name] = one = estimate(rows, shares, most=most)
        if one.effective < THIN:
            said[name] = f"an effective sample of {one.effective:.0f} edits is too thin to say anything sure"
        elif beside is not None and name != beside[0] and most is not None and not unsupported(rows, beside[1]):
            leads[name] = lead(rows, shares, beside[1], most=most)
            if leads[name].since:
                said[name] = f"costs less than {_short(beside[0], task)}, sure since edit {leads[name].since:,}"
    if beside is not None and (why := unsupported(rows, beside[1])):
        said.setdefault(beside[0], f"cannot be told: {why}")
    if not found:
        note(f"nothing was left to chance: {DRAW}")
    cost = sum(row.cost for row in rows) / len(rows)
    data = {
        "task": task,
        "edits": len(rows),
        "cost": cost,
        "against": beside and beside[0],
        "targets": {name: _described(name, found, leads, said) for name in targets},
    }
    verdicts = {_short(name, task): text for name, text in said.items()}
    verdicts["as served"] = f"{cost:.2f} a decision, over {len(rows):,} edits"
    columns = {"choosing": [_short(name, task) for name in found], **_columns(list(found.values()))}
    emit(data, as_json, concluded(columns, verdicts, f"redraft diagnose {task}, to see what this log can teach", []))


def _logged(resolved: Iterable[tuple[Decision, float]]) -> tuple[list[Logged], tuple[str, ...]]:
    """The decisions whose probabilities are known, and the candidates of the last one that had a choice."""
    from redraft.select.ope import Logged

    rows: list[Logged] = []
    candidates: tuple[str, ...] = ()
    for decision, cost in resolved:
        if decision.propensities is not None:
            if not candidates or len(decision.candidates) > 1:
                candidates = decision.candidates
            known = dict(zip(decision.candidates, decision.propensities, strict=True))
            rows.append(Logged(decision.chosen, cost, known))
    return rows, candidates


def _target(name: str, task: str, candidates: Sequence[str]) -> tuple[str, Target]:
    """What to choose instead: all candidates evenly, or the one of this name, without a version its latest.

    Raises ``NotFoundError`` where there is none.
    """
    if name == UNIFORM:
        return name, dict.fromkeys(candidates, 1 / len(candidates))
    if name not in candidates:
        versions = {arm: _short(arm, task).partition("@") for arm in candidates}
        asked = _short(name, task)
        fitting = [arm for arm, (of, at, number) in versions.items() if asked in (of, f"{of}{at}{number}")]
        if not fitting:
            shown = ", ".join(_short(arm, task) for arm in candidates)
            raise NotFoundError(f"{name}: not among {shown}, which could be chosen last")
        name = max(fitting, key=lambda arm: int(versions[arm][2]) if versions[arm][2].isdigit() else 0)
    return name, {name: 1.0}


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
