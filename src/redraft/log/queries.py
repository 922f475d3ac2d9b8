"""The log's queries. The edit that holds is always the one with the highest revision.

Statements in capitals take parameters: building one costs more than executing it, and each edit executes several.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    Update,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
    true,
    tuple_,
    update,
)

from redraft.log.schema import RESPONSE, completions, decisions, edits, texts

__all__ = [
    "EVENTS",
    "HOLDING",
    "LOGGED",
    "REVISION",
    "edited_text",
    "edits_of",
    "erasing",
    "interactions_of",
    "learnt_of",
    "resolved_of",
    "shared_of",
    "tally",
    "written_by",
]

AnySelect = TypeVar("AnySelect", bound="Select[*tuple[Any, ...]]")

edited_text = texts.alias("edited_text")
answer_columns = texts.c.messages, texts.c.content, texts.c.partial, texts.c.answer, texts.c.untaught

_response = and_(texts.c.completion_id == completions.c.id, texts.c.revision == RESPONSE)
_edit_text = and_(edited_text.c.completion_id == edits.c.completion_id, edited_text.c.revision == edits.c.revision)


_answered_as_chosen = and_(
    decisions.c.completion_id == completions.c.id,
    or_(completions.c.policy == decisions.c.chosen, completions.c.policy == ""),  # "": a log that does not say
)


def _holding() -> ColumnElement[bool]:
    other = edits.alias("other")
    highest = select(func.max(other.c.revision)).where(other.c.completion_id == completions.c.id)
    return and_(edits.c.completion_id == completions.c.id, edits.c.revision == highest.scalar_subquery())


LOGGED = (
    select(completions, *answer_columns)
    .outerjoin(texts, _response)
    .where(completions.c.id == bindparam("completion_id"))
)
"""One completion with its texts."""

_OF_COMPLETION = (
    select(edits, edited_text.c.content)
    .outerjoin(edited_text, _edit_text)
    .where(edits.c.completion_id == bindparam("completion_id"))
)

REVISION = _OF_COMPLETION.where(edits.c.revision == bindparam("revision"))
"""One edit event with its text."""

EVENTS = _OF_COMPLETION.order_by(edits.c.revision)
"""All edit events of one completion with their texts; the last one holds."""

HOLDING = _OF_COMPLETION.order_by(edits.c.revision.desc()).limit(1)
"""The edit event that holds for a completion, with its text."""


def interactions_of(task: str | None, *, edited_only: bool = False, completion_id: str | None = None) -> Select[Any]:
    """Completions with the edit that holds and their decision, in order of arrival, if their texts are still there.

    Streams that are not finished are left out, except where one of them is asked for.
    """
    said = texts.c.content.is_not(None)
    statement = (
        select(completions, *answer_columns, edits, edited_text.c.content, decisions)
        .join(texts, _response)
        .join(edits, _holding(), isouter=not edited_only)
        .outerjoin(edited_text, _edit_text)
        .outerjoin(decisions, decisions.c.completion_id == completions.c.id)
        .where(said if completion_id is None else said | texts.c.partial.is_not(None))
        .where(edits.c.accepted.is_not(False) | edited_text.c.content.is_not(None))
        .order_by(completions.c.position)
    )
    return _narrow(statement, task, completion_id)


def resolved_of(task: str | None) -> Select[Any]:
    """Decisions with their holding edit, in the order in which first edits arrived, as a live selector saw them."""
    other = edits.alias("first")
    first = select(func.min(other.c.position)).where(other.c.completion_id == completions.c.id)
    costs = edits.c.revision, edits.c.cost, edits.c.cost_name
    statement = learnt_of(task).with_only_columns(decisions, completions.c.task, *costs)
    return statement.where(edits.c.position.is_not(None)).order_by(first.scalar_subquery())


def learnt_of(task: str | None) -> Select[Any]:
    """Decisions whose chosen policy answered, with the costs of their holding edits where these teach anything."""
    statement = (
        select(decisions.c.completion_id, decisions.c.chosen, completions.c.task)
        .add_columns(edits.c.revision, edits.c.cost, edits.c.cost_name)
        .select_from(completions)
        .join(decisions, _answered_as_chosen)
        .outerjoin(texts, _response)
        .outerjoin(edits, and_(_holding(), texts.c.untaught.is_(None)))
    )
    return _narrow(statement, task)


def edits_of(completion_id: str | None = None) -> Select[Any]:
    """Every edit event with response and edited text, which are NULL where erased or missing."""
    statement = (
        select(edits, completions.c.task, texts.c.content, edited_text.c.completion_id, edited_text.c.content)
        .select_from(edits)
        .join(completions, completions.c.id == edits.c.completion_id)
        .outerjoin(texts, _response)
        .outerjoin(edited_text, _edit_text)
        .order_by(edits.c.position)
    )
    return _narrow(statement, None, completion_id)


def tally(task: str | None, horizon: datetime) -> Select[*tuple[Any, ...]]:
    """Numbers of completions by what became of them; silence before ``horizon`` (or undated) is censored."""
    silent = edits.c.position.is_(None)
    recent = and_(completions.c.created_at.is_not(None), completions.c.created_at > horizon)
    revisions = select(func.count()).select_from(edits).join(completions, completions.c.id == edits.c.completion_id)
    statement = (
        select(
            func.count().label("completions"),
            func.count().filter(edits.c.unchanged.is_(False)).label("edited"),
            func.count().filter(edits.c.unchanged.is_(True)).label("unchanged"),
            func.count().filter(edits.c.accepted.is_(True)).label("accepted"),
            func.count().filter(and_(silent, recent)).label("awaiting"),
            func.count().filter(and_(silent, ~recent)).label("censored"),
            _narrow(revisions, task).scalar_subquery().label("revisions"),
        )
        .select_from(completions)
        .outerjoin(edits, _holding())
    )
    return _narrow(statement, task)


def shared_of(task: str | None) -> Select[int, int]:
    """Numbers of completions with edits of several people, and of those where their last texts differ."""
    said = case((edits.c.unchanged, texts.c.content), else_=edited_text.c.content)
    last = (
        select(edits.c.completion_id, edits.c.user_id, func.max(edits.c.revision).label("revision"))
        .join(completions, completions.c.id == edits.c.completion_id)
        .where(edits.c.user_id.is_not(None))
        .group_by(edits.c.completion_id, edits.c.user_id)
    )
    theirs = _narrow(last, task).subquery()
    of_each = (
        select(func.count(said.distinct()).label("texts"))
        .select_from(theirs)
        .join(edits, and_(edits.c.completion_id == theirs.c.completion_id, edits.c.revision == theirs.c.revision))
        .outerjoin(texts, and_(texts.c.completion_id == edits.c.completion_id, texts.c.revision == RESPONSE))
        .outerjoin(edited_text, _edit_text)
        .group_by(theirs.c.completion_id)
        .having(func.count() > 1)
        .subquery()
    )
    return select(func.count(), func.count().filter(of_each.c.texts > 1)).select_from(of_each)


def _theirs(user_id: str, tasks: Sequence[str] | None) -> tuple[Select[Any], Select[Any, Any]]:
    """A person's completions, and their edits by completion and revision."""
    within = true() if tasks is None else completions.c.task.in_(tasks)
    edited = select(edits.c.completion_id, edits.c.revision).join(
        completions, completions.c.id == edits.c.completion_id
    )
    asked = select(completions.c.id).where(completions.c.user_id == user_id, within)
    return asked, edited.where(edits.c.user_id == user_id, within)


def written_by(user_id: str, tasks: Sequence[str] | None) -> CompoundSelect[Any]:
    """Ids of the completions that hold a text of a person, erased or not."""
    asked, edited = _theirs(user_id, tasks)
    return asked.union(edited.with_only_columns(edits.c.completion_id))


def erasing(user_id: str, tasks: Sequence[str] | None) -> Update:
    """What erases a person's texts: all of their completions, and of others' their edits."""
    asked, edited = _theirs(user_id, tasks)
    theirs = texts.c.completion_id.in_(asked) | tuple_(texts.c.completion_id, texts.c.revision).in_(edited)
    there = or_(texts.c.content.is_not(None), texts.c.messages.is_not(None))  # a stream that goes on has messages alone
    return update(texts).where(there, theirs).values(messages=None, content=None, partial=None, answer=None)


def _narrow(statement: AnySelect, task: str | None, completion_id: str | None = None) -> AnySelect:
    if task is not None:
        statement = statement.where(completions.c.task == task)
    if completion_id is not None:
        statement = statement.where(completions.c.id == completion_id)
    return statement
