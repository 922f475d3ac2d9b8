"""Which field of ours is read from which key or column of theirs: by name, or as ``--map`` says.

A path names a key; ``final.text`` and ``messages[0].content`` go into objects, lists and JSON in cells. Case, blanks,
``_`` and ``-`` in names do not count. Only names that say what they hold are taken by themselves: where two columns
could be the same field, neither is, and the person is asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from operator import itemgetter
from typing import Any, cast

from redraft.errors import ConfigError, DataError, did_you_mean

__all__ = ["FIELDS", "Steps", "getter", "guessed", "mapping_of", "named", "near", "steps_of", "without"]

FIELDS = (
    *("prompt", "response", "edited", "accepted", "id", "task", "user_id", "created_at", "policy", "model", "system"),
    *("edit_user_id", "edit_created_at"),
)
"""What ``--map`` can fill. ``user_id`` also names who edited, unless ``edit_user_id`` does."""
TEXTS = ("prompt", "response", "edited")
ALIASES = {"context": "prompt", "messages": "prompt"}

NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": (
        "prompt context question query instruction instructions request messages conversation conversations userprompt "
        "usermessage userquery userquestion",
        "input inputs source sourcetext src article document text",
    ),
    "response": (
        "response draft completion modeloutput modelresponse modelanswer originalresponse originaloutput airesponse "
        "aioutput aidraft llmresponse llmoutput botresponse generatedtext generatedresponse generation "
        "machinetranslation drafttext draftresponse assistantresponse generated",
        "output outputs answer reply original originaltext candidate prediction hypothesis before mt "
        "suggestion generatedoutput",
    ),
    "edited": (
        "edited final corrected correction editedresponse editedtext editedoutput editedanswer finaltext finalresponse "
        "finalanswer finalversion correctedoutput correctedresponse correctedtext correctedanswer postedit postedited "
        "postedittext humanedit humanedited useredit useredited userinput humancorrection usercorrection revised "
        "revisedresponse revisedtext fixed rewritten finaloutput humanrevision",
        "after rewrite edit edits pe humanresponse improved",
    ),
    "accepted": ("accepted approved", ""),
    "id": ("id completionid uuid rowid recordid", ""),
    "user_id": ("userid user editor annotator annotatorid editedby completedby reviewer username", ""),
    "created_at": ("createdat timestamp", ""),
    "edit_created_at": ("editcreatedat editedat", ""),
    "edit_user_id": ("edituserid", ""),
    "policy": ("policy", ""),
    "model": ("model modelname modelid", ""),
    "system": ("system systemprompt systemmessage", ""),
}
"""Names by field, in their shortest writing: those that say it, and those that mean it where none of the first is."""
BY_NAME = {field: tuple(frozenset(names.split()) for names in tiers) for field, tiers in NAMES.items()}
ABOUT = {"id", "ids", "at", "time", "date", "by", "type", "count", "expected", "reference"}  # in names of no such text
STEP = re.compile(r"\[(\d+)\]|([^.\[]+)")


def mapping_of(texts: Iterable[str]) -> dict[str, str]:
    """Read ``field=path,…`` as ``--map`` takes it; a path may hold commas, unless a field and ``=`` follow them.

    >>> mapping_of(["context=Question, asked,edited=final.text", "user_id=a=b"])
    {'prompt': 'Question, asked', 'edited': 'final.text', 'user_id': 'a=b'}

    Raises ``ConfigError`` for what is no pair, or no field of ours.
    """
    known = (*FIELDS, *ALIASES)
    pairs = re.compile(rf",\s*(?=(?:{'|'.join(known)})\s*=)")
    found: dict[str, str] = {}
    for part in (part for text in texts for part in pairs.split(text) if part.strip()):
        name, equals, path = (piece.strip() for piece in part.partition("="))
        if not (name and equals and path):
            raise ConfigError(f"--map {part!r}: names no column: write prompt=…,response=…,edited=…")
        if name not in known:
            remedy = did_you_mean(name, known) or f"use {', '.join(FIELDS)}"
            raise ConfigError(f"--map {part!r}: unknown field {name}: {remedy}")
        found[ALIASES.get(name, name)] = path
    return found


Steps = tuple[str | int, ...]
"""The keys and places on a path."""


def getter(steps: Steps) -> Callable[[Mapping[str, Any]], Any]:
    """How to find a path in records: ``None`` where a record has nothing there."""
    if len(steps) == 1:
        key = cast("str", steps[0])
        return lambda record: record.get(key)
    return lambda record: _at(record, steps)


def steps_of(path: str, keys: Collection[str]) -> Steps:
    """Read a path in records with these keys; a key that holds dots goes before a path."""
    same = [path] if path in keys else [key for key in keys if _plain(key) == _plain(path)]
    if len(same) == 1:
        return (same[0],)
    return tuple(int(number) if number else name for number, name in STEP.findall(path)) or (path,)


def _at(record: object, steps: Steps) -> Any:
    """Go down into objects, lists and JSON in cells; ``None`` where a step leads nowhere."""
    value: Any = record
    for step in steps:
        try:
            value = (json.loads(value) if isinstance(value, str) else value)[step]
        except (ValueError, RecursionError, KeyError, IndexError, TypeError):
            return None
    return value


def without(value: Any, steps: Steps) -> Any:
    """A value without what is at these steps; what is left empty by that goes too."""
    if isinstance(value, dict) and steps[0] in value:
        inside = cast("dict[Any, Any]", value)
        rest = {key: part for key, part in inside.items() if key != steps[0]}
        left = without(inside[steps[0]], steps[1:]) if steps[1:] else None
        return rest | ({steps[0]: left} if left else {})
    if isinstance(value, list) and isinstance(steps[0], int) and steps[0] < len(cast("list[Any]", value)):
        parts = [*cast("list[Any]", value)]
        inner = parts.pop(steps[0])
        left = without(inner, steps[1:]) if steps[1:] else None
        return [*parts[: steps[0]], left, *parts[steps[0] :]] if left else parts
    return value


def _plain(name: str) -> str:
    """A name as it is compared.

    >>> _plain(" Model-Output ")
    'modeloutput'
    """
    return re.sub(r"[\s_\-\u200b\ufeff]", "", name).lower()


def guessed(
    columns: Collection[str], taken: Collection[str] = (), fields: Iterable[str] = tuple(NAMES)
) -> dict[str, str]:
    """Field → column, as far as the names say; ``taken`` columns are none of ours.

    Raises ``DataError`` naming the columns of which each could be the same field.
    """
    plain = {column: _plain(column) for column in columns if column not in taken}
    found: dict[str, str] = {}
    for field in fields:
        for tier in BY_NAME[field]:
            given = [column for column in plain if column not in found.values()]
            meant = [column for column in given if plain[column] in tier]
            if meant and field in TEXTS:  # a table may name two columns alike
                meant += [column for column in given if re.fullmatch(re.escape(meant[0]) + r"\.\d+", column)]
            if len(meant) > 1 and field not in TEXTS:
                meant = [column for column in meant if plain[column] == _plain(field)]
            elif len(meant) > 1:
                raise DataError(f"{' and '.join(meant)} may each be the {field}: choose with --map {field}={meant[0]}")
            if meant:
                found[field] = meant[0]
                break
    return found


def named(column: str, field: str) -> bool:
    """Whether a column's name says or means a field."""
    return any(_plain(column) in tier for tier in BY_NAME[field])


def near(columns: Iterable[str], field: str) -> str | None:
    """The column whose name is nearest to those of a field, if any is near."""
    names = sorted(frozenset[str]().union(*BY_NAME[field]))
    means = BY_NAME[field][1] if field != "edited" else frozenset({"sent", "human", "correct"})
    scored: list[tuple[float, str]] = []
    for column in columns:
        words = {_plain(word) for word in re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", column)}
        if words & ABOUT:
            continue
        if words & BY_NAME[field][0]:
            scored.append((0.7, column))
        elif words & means:
            scored.append((0.6, column))
        elif get_close_matches(_plain(column), names, n=1, cutoff=0.8):
            scored.append((1.0, column))
    return max(scored, key=itemgetter(0))[1] if scored else None
