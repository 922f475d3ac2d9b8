"""What can be logged, and the one form in which it is kept.

``canonical`` brings an interaction into the form in which it comes back from the log (JSON values, UTC), so that
"the same content" is plain equality, and refuses what could not be stored faithfully.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

from redraft.errors import DataError
from redraft.types import Completion, Decision, Edit, Interaction

__all__ = ["NO_TASK", "canonical", "canonical_edit", "check_task", "check_text", "decision_problems", "utc"]

NO_TASK = "task is missing: name it in the row, or give --task"

_TASK = re.compile(r"[^/@\s]+")
_FIELDS = {kind: [field.name for field in fields(kind)] for kind in (Completion, Edit, Decision)}
_MAX_REVISION = 2**31 - 1


def canonical(interaction: Interaction, max_text_chars: int) -> Interaction:
    """Check an interaction and give it the form in which the log returns it.

    Raises ``DataError`` naming the field, the value and the remedy.
    """
    completion, edit, decision = interaction.completion, interaction.edit, interaction.decision
    for record in (edit, decision):
        if record is not None and record.completion_id != completion.id:
            raise DataError(f"completion_id {record.completion_id!r}: must be {completion.id!r}, its completion's id")
    return Interaction(
        _canonical_completion(completion, max_text_chars),
        edit and canonical_edit(edit, max_text_chars),
        decision and _canonical_decision(decision, max_text_chars),
    )


def _canonical_completion(completion: Completion, max_text_chars: int) -> Completion:
    _check_texts(completion, max_text_chars)
    for index, message in enumerate(completion.messages):
        check_text(f"messages[{index}]", message.content, max_text_chars)
    if not completion.id:
        raise DataError("id is empty: give every completion its own id")
    check_task(completion.task)
    return replace(
        completion,
        created_at=utc(completion.created_at),
        decoding=_json("decoding", completion.decoding),
        metadata=_json("metadata", completion.metadata),
    )


def check_task(task: str) -> None:
    """Raise ``DataError`` unless ``task`` can name a task."""
    if not task:
        raise DataError(NO_TASK)
    if not _TASK.fullmatch(task):
        raise DataError(f"task {task!r}: give a name (--task) without spaces, '/' and '@', e.g. email")


def canonical_edit(edit: Edit, max_text_chars: int) -> Edit:
    """Check an edit and give it the form in which the log returns it; raises ``DataError`` as ``canonical``."""
    _check_texts(edit, max_text_chars)
    if not 0 <= edit.revision <= _MAX_REVISION:
        raise DataError(f"revision {edit.revision}: must be between 0 and {_MAX_REVISION}")
    return replace(edit, created_at=utc(edit.created_at), metadata=_json("edit metadata", edit.metadata))


def _check_texts(record: Completion | Edit | Decision, max_text_chars: int) -> None:
    for name in _FIELDS[type(record)]:
        value = getattr(record, name)
        if isinstance(value, str):
            check_text(name, value, max_text_chars)


def check_text(name: str, text: str, max_text_chars: int) -> None:
    """Raise ``DataError`` unless a text can be stored as it is."""
    if len(text) > max_text_chars:
        size = f"{len(text):,} characters, more than {max_text_chars:,}"
        raise DataError(f"{name} has {size}: shorten it, or raise [log] max_text_chars")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{name} is not valid Unicode at character {error.start}: save the text as UTF-8") from error


def utc(moment: datetime | None) -> datetime | None:
    """The same instant in UTC; a naive time is taken to be UTC."""
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _json(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    if not value:
        return {}
    try:
        return json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{name} cannot be written as JSON ({error}): use strings, finite numbers, lists") from error


def _canonical_decision(decision: Decision, max_text_chars: int) -> Decision:
    _check_texts(decision, max_text_chars)
    problems = decision_problems(decision)
    if problems:
        raise DataError(f"decision of {decision.completion_id!r}: {'; '.join(problems)}")
    return replace(
        decision,
        candidates=tuple(decision.candidates),
        parameters=_json("decision parameters", decision.parameters),
        scores=None if decision.scores is None else tuple(float(score) for score in decision.scores),
        propensities=None if decision.propensities is None else tuple(float(p) for p in decision.propensities),
    )


def decision_problems(decision: Decision) -> list[str]:
    """Name everything that makes a decision useless for replay or off-policy estimates."""
    arms, scores, propensities = len(decision.candidates), decision.scores, decision.propensities
    checks = {
        f"chosen {decision.chosen!r} is not among the candidates": decision.chosen in decision.candidates,
        f"t = {decision.t} is below 1": decision.t >= 1,
        f"scores are not one number for each of {arms} candidates": scores is None
        or (len(scores) == arms and not any(math.isnan(score) for score in scores)),
        f"propensities are not one probability for each of {arms} candidates, summing to 1": propensities is None
        or (
            len(propensities) == arms
            and all(0 <= p <= 1 for p in propensities)
            and math.isclose(math.fsum(propensities), 1, abs_tol=1e-6)
        ),
    }
    return [problem for problem, fine in checks.items() if not fine]
