"""Between the vocabulary and the rows of the tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping

from redraft.costs import Cost
from redraft.log import queries
from redraft.log.schema import RESPONSE, completions, decisions, edits, texts
from redraft.types import COST_UNIT, Completion, Decision, Edit, Interaction, Message

__all__ = [
    "Rows",
    "completion_from",
    "cost_today",
    "decision_from",
    "difference",
    "edit_event",
    "edit_from",
    "edit_rows",
    "interaction_json",
    "interaction_rows",
    "message_json",
]

Rows = dict[str, list[dict[str, Any]]]

_OF_COMPLETION = [column.name for column in completions.c if column.name != "position"]
_OF_DECISION = [column.name for column in decisions.c]
_NO_TEXT: dict[str, Any] = dict.fromkeys(column.name for column in texts.c)
_OF_EDIT = ("completion_id", "revision", "user_id", "created_at", "metadata")


def difference(one: Completion | Decision, other: Completion | Decision) -> str:
    """Name the fields in which two records of one kind differ."""
    names = (field.name for field in fields(one))
    return ", ".join(name for name in names if getattr(one, name) != getattr(other, name))


def cost_today(connection: Connection, row: RowMapping, cost_of: Callable[[str], Cost]) -> int | None:
    """Cost, in 10⁻⁹ units, of a decision's holding edit under the Δ its task has now; ``None`` where there is none.

    ``row`` is one of ``queries.resolved_of`` or ``learnt_of``. What was logged under another Δ is computed anew
    from the texts; where these were erased there is no cost any more.
    """
    if row[edits.c.cost] is None:
        return None
    cost = cost_of(row[completions.c.task])
    if row[edits.c.cost_name] == cost.name:
        return row[edits.c.cost]
    found = queries.edits_of(row[decisions.c.completion_id]).where(edits.c.revision == row[edits.c.revision])
    edit = connection.execute(found).mappings().one()
    response, edited = edit[texts.c.content], edit[queries.edited_text.c.content]
    if response is None or (edited is None and not edit[edits.c.accepted]):
        return None
    return cost.priced(response, edited)[1]


def interaction_rows(interaction: Interaction, cost: Cost, price: tuple[float, int] | None = None) -> Rows:
    """Table name → rows that record this interaction; ``price`` is what its edit is known to cost."""
    completion, decision = interaction.completion, interaction.decision
    rows: Rows = {edits.name: [], texts.name: []}
    if interaction.edit is not None:
        rows = edit_rows(interaction.edit, completion.response, cost, price)
    if decision is not None:
        row = {name: getattr(decision, name) for name in _OF_DECISION}
        rows[decisions.name] = [row | {"scores": _finite(decision.scores)}]
    rows[completions.name] = [{name: getattr(completion, name) for name in _OF_COMPLETION}]
    rows[texts.name].insert(0, _text_row(completion))
    return rows


def _text_row(completion: Completion) -> dict[str, Any]:
    return {
        "completion_id": completion.id,
        "revision": RESPONSE,
        "messages": [message_json(message) for message in completion.messages],
        "content": completion.response,
        "partial": None,
        "answer": completion.answer or None,
        "untaught": completion.untaught or None,
    }


def message_json(message: Message) -> dict[str, Any]:
    """A message as it is stored and exported; ``more`` only where there is any."""
    plain = message.plain
    return plain | {"more": message.more} if message.more else plain


def edit_rows(edit: Edit, response: str, cost: Cost, price: tuple[float, int] | None = None) -> Rows:
    """Table name → rows that record this edit of this response."""
    raw, units = price or cost.priced(response, edit.edited)
    row = {name: getattr(edit, name) for name in _OF_EDIT} | {
        "accepted": edit.edited is None,
        "unchanged": edit.edited is None or (raw == 0 and cost.same(response, edit.edited)),  # the same costs 0
        "raw": raw,
        "cost": units,
        "cost_name": cost.name,
    }
    text = _NO_TEXT | {"completion_id": edit.completion_id, "revision": edit.revision, "content": edit.edited}
    return {edits.name: [row], texts.name: [] if edit.edited is None else [text]}


def _finite(scores: tuple[float, ...] | None) -> list[float | str] | None:
    """JSON has no infinity, and an arm that was never played may well score −inf: it is written as text."""
    return None if scores is None else [score if math.isfinite(score) else str(score) for score in scores]


def completion_from(row: RowMapping) -> Completion:
    """Read a completion with its row of ``texts``; erased texts are empty, a running stream's is its part."""
    about = {column.name: row[column] for column in completions.c if column.name != "position"}
    messages = tuple(Message(**message) for message in row[texts.c.messages] or ())
    about |= {"answer": row[texts.c.answer] or {}, "untaught": row[texts.c.untaught] or ""}
    return Completion(messages=messages, response=row[texts.c.content] or row[texts.c.partial] or "", **about)


def edit_from(row: RowMapping, edited: str | None) -> Edit | None:
    """Read an edit with its text, or ``None`` where the join found none."""
    if row[edits.c.completion_id] is None:
        return None
    return Edit(edited=edited, **{name: row[edits.c[name]] for name in _OF_EDIT})


def edit_event(row: RowMapping) -> dict[str, Any]:
    """An edit event of ``queries.edits_of``, fit for JSON."""
    moment = row[edits.c.created_at]
    return {column.name: row[column] for column in edits.c} | {
        "task": row[completions.c.task],
        "edited": row[queries.edited_text.c.content],
        "cost": row[edits.c.cost] / COST_UNIT,
        "created_at": None if moment is None else moment.isoformat(),
    }


def decision_from(row: RowMapping) -> Decision | None:
    """Read a decision, or ``None`` where the join found none."""
    if row[decisions.c.completion_id] is None:
        return None
    about: dict[str, Any] = {column.name: row[column] for column in decisions.c}
    for name in ("scores", "propensities"):
        about[name] = None if about[name] is None else tuple(map(float, about[name]))
    about["candidates"] = tuple(about["candidates"])
    return Decision(**about)


def interaction_json(interaction: Interaction) -> dict[str, Any]:
    """An interaction fit for JSON: times in ISO 8601, infinite scores as text."""
    found = asdict(interaction, dict_factory=_jsonable)
    if interaction.decision is not None:
        found["decision"]["scores"] = _finite(interaction.decision.scores)
    return found


def _jsonable(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in pairs}
