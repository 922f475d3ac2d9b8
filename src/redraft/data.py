"""From interactions to training rows, and to splits that leak no context. Pure: no torch, no files.

Rows are plain dictionaries in TRL's conversational form, so that any trainer reads them. An interaction without
feedback gives no row at all, and neither does one that teaches nothing (``LeftOut``). One whose y' equals y
(accepted, or an edit that changed nothing) supervises, is an "approved" label and a cost of 0, but prefers nothing.

Splits keep contexts together that are the same or nearly so, because a held-out context that was trained on in
other words measures memory. *Nearly* means that the sets of three-word shingles have a Jaccard similarity of at
least ``NEAR``; words are compared without case, punctuation and spacing, and are characters in scripts without blanks
(``redraft.words``). A shingle in more than half of the contexts,
or in more than 2 % of them (at least 20), belongs to a template that wraps them and tells none apart: it is ignored.
"""

from __future__ import annotations

import hashlib
import random
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redraft import transport
from redraft.costs import COSTS, DEFAULT_COST, Cost
from redraft.errors import ConfigError, DataError
from redraft.types import Interaction, Message
from redraft.words import spaced, unspaced

__all__ = [
    "LeftOut",
    "as_typed",
    "context_groups",
    "context_key",
    "cost_rows",
    "parts",
    "preference_rows",
    "sft_rows",
    "split",
    "unpaired_rows",
]

NEAR = 0.5
FEW = 8  # edits that are held out at least, half to choose by and half to report on; of fewer than twice as many, half
SHINGLE = 3
BANDS, BAND_ROWS = 32, 3  # finds a pair at NEAR with probability 0.986, at 0.7 with 1 − 10⁻⁶

CostOf = Callable[[str], Cost]

_WORD = re.compile(r"\w+")


def _default(_task: str) -> Cost:
    return COSTS[DEFAULT_COST]


def sft_rows(interactions: Iterable[Interaction], cost_of: CostOf = _default) -> Iterator[dict[str, Any]]:
    """Supervision (eq. 3): ``prompt`` x and ``completion`` y', one row for each interaction with feedback."""
    for _, prompt, _, edited in _with_feedback(interactions, cost_of):
        yield {"prompt": prompt, "completion": edited}


def preference_rows(interactions: Iterable[Interaction], cost_of: CostOf = _default) -> Iterator[dict[str, Any]]:
    """Preference (eq. 4): ``prompt`` x, ``chosen`` y', ``rejected`` y, where the two differ."""
    for interaction, prompt, response, edited in _with_feedback(interactions, cost_of):
        if not interaction.unchanged:
            yield {"prompt": prompt, "chosen": edited, "rejected": response}


def unpaired_rows(interactions: Iterable[Interaction], cost_of: CostOf = _default) -> Iterator[dict[str, Any]]:
    """Labels, as KTO takes them: y' is ``label`` true; y, where it was changed, is false."""
    for interaction, prompt, response, edited in _with_feedback(interactions, cost_of):
        yield {"prompt": prompt, "completion": edited, "label": True}
        if not interaction.unchanged:
            yield {"prompt": prompt, "completion": response, "label": False}


def cost_rows(interactions: Iterable[Interaction], cost_of: CostOf) -> Iterator[dict[str, Any]]:
    """Cost (eq. 5): ``prompt`` x, ``completion`` y, ``cost`` Δ(y, y') and the ``raw`` count, Δ being the task's."""
    for interaction, prompt, response, _ in _with_feedback(interactions, cost_of):
        text, cost = interaction.completion.response, cost_of(interaction.completion.task)
        raw = cost.typed(text, interaction.edited or "")
        yield {"prompt": prompt, "completion": response, "cost": float(cost.of_raw(raw, text)), "raw": raw}


class LeftOut:
    """Interactions that teach a text model nothing, left out and counted by why.

    What software did to an edit is no lesson either: it is taken back, as far as the cost of the task looks past it.

    >>> from redraft.types import Completion
    >>> left = LeftOut()
    >>> list(left.of([Interaction(Completion("a", "email", (), "I can't.", untaught="refusal"))])), str(left)
    ([], '1 left out: refusal 1')
    """

    def __init__(self, cost_of: CostOf = _default) -> None:
        self.counts, self._cost_of = Counter[str](), cost_of

    def of(self, interactions: Iterable[Interaction]) -> Iterator[Interaction]:
        """Pass on what can be taught: no refusal, no empty answer, no context with what a text model cannot see."""
        for interaction in interactions:
            if why := interaction.completion.untaught or _unseen(interaction.completion.messages):
                self.counts[why] += 1
            else:
                yield as_typed(interaction, self._cost_of(interaction.completion.task))

    def __str__(self) -> str:
        """Say in one line how many were left out; empty where none was."""
        why = ", ".join(f"{name} {count:,}" for name, count in sorted(self.counts.items()))
        return f"{self.counts.total():,} left out: {why}" if why else ""


def as_typed(interaction: Interaction, cost: Cost) -> Interaction:
    """What a person did: accepted, where all else was software's doing; their text with the response's line ends."""
    edit, response = interaction.edit, interaction.completion.response
    if edit is None or edit.edited in (None, response):
        return interaction
    text = None if cost.same(response, edit.edited) else edit.edited
    if text and "line ends" in cost.kinds and "\r" not in response:
        text = transport.without(text, ["line ends"])
    return interaction if text == edit.edited else replace(interaction, edit=replace(edit, edited=text))


def _unseen(messages: Iterable[Message]) -> str:
    """The first part of a context that is not text, such as ``context with image_url``."""
    parts = (part for m in messages if isinstance(found := m.more.get("content"), list) for part in _parts(found))
    return next((f"context with {kind}" for part in parts if (kind := str(part.get("type"))) != "text"), "")


def _parts(content: list[Any]) -> Iterator[Mapping[str, Any]]:
    return (part for part in content if isinstance(part, Mapping))


_Messages = list[dict[str, str]]


def _with_feedback(
    interactions: Iterable[Interaction], cost_of: CostOf
) -> Iterator[tuple[Interaction, _Messages, _Messages, _Messages]]:
    """Interactions that have feedback and can be taught, with x, y and y' as messages."""
    for interaction in LeftOut(cost_of).of(interactions):
        if interaction.edited is not None:
            prompt = [message.plain for message in interaction.completion.messages]
            yield interaction, prompt, _answer(interaction.completion.response), _answer(interaction.edited)


def _answer(text: str) -> _Messages:
    return [{"role": "assistant", "content": text}]


def context_key(messages: Sequence[Message]) -> str:
    """Return a name that contexts share when they differ in case, punctuation and spacing only.

    >>> one, other = [Message("user", "Write  to Ann!")], [Message("user", "write to ann")]
    >>> context_key(one) == context_key(other)
    True
    """
    text = "\n".join(f"{message.role}:{' '.join(_words(message.content))}" for message in messages)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _words(text: str) -> list[str]:
    folded = spaced(unicodedata.normalize("NFKC", text).casefold())
    found = [[piece] if unspaced(piece) else _WORD.findall(piece) for piece in folded.split()]
    return [word for words in found for word in words] or folded.split()


def context_groups(contexts: Iterable[Sequence[Message]]) -> dict[str, str]:
    """Group contexts that are nearly the same: ``context_key`` → key that names its group.

    Transitive, and independent of the order in which the contexts come. Candidate pairs are found by MinHash in
    ``BANDS`` bands and decided by their exact similarity.
    """
    distinct = {context_key(messages): messages for messages in contexts}
    own = _without_templates({key: _shingles(distinct[key]) for key in sorted(distinct)})
    groups = {key: key for key in own}
    for one, other in _candidates(own):
        first, second = _root(groups, one), _root(groups, other)
        if first != second and _jaccard(own[one], own[other]) >= NEAR:
            groups[max(first, second)] = min(first, second)
    return {key: _root(groups, key) for key in groups}


def _shingles(messages: Sequence[Message]) -> NDArray[np.uint32]:
    """Sorted hashes of all runs of ``SHINGLE`` words; CRC because ``hash`` differs from process to process."""
    words = [word for message in messages for word in _words(message.content)]
    runs = {" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))} if words else set()
    return np.unique(np.fromiter((zlib.crc32(run.encode("utf-8", "surrogatepass")) for run in runs), np.uint32))


def _without_templates(shingles: Mapping[str, NDArray[np.uint32]]) -> dict[str, NDArray[np.uint32]]:
    if not shingles:
        return {}
    common = max(3.0, min(len(shingles) / 2, max(20.0, 0.02 * len(shingles))))
    values, counts = np.unique(np.concatenate(list(shingles.values())), return_counts=True)
    template = values[counts > common]
    return {key: np.setdiff1d(own, template, assume_unique=True) for key, own in shingles.items()}


def _candidates(shingles: Mapping[str, NDArray[np.uint32]]) -> Iterator[tuple[str, str]]:
    rng = np.random.default_rng(0)
    # Multiply-and-add modulo 2⁶⁴, of which the high half is kept: fast, and good enough to find candidates.
    factors = rng.integers(1, 2**63, size=BANDS * BAND_ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    offsets = rng.integers(0, 2**63, size=BANDS * BAND_ROWS, dtype=np.uint64)
    signatures: dict[str, NDArray[np.uint32]] = {}
    for key, own in shingles.items():
        if own.size:
            hashes = (own.astype(np.uint64)[:, None] * factors + offsets) >> np.uint64(32)
            signatures[key] = hashes.min(axis=0).astype(np.uint32).reshape(BANDS, BAND_ROWS)
    for band in range(BANDS):
        buckets: dict[bytes, list[str]] = {}
        for key, signature in signatures.items():
            buckets.setdefault(signature[band].tobytes(), []).append(key)
        for keys in buckets.values():
            yield from combinations(keys, 2)


def _root(groups: dict[str, str], key: str) -> str:
    while groups[key] != key:
        groups[key] = groups[groups[key]]
        key = groups[key]
    return key


def _jaccard(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> float:
    shared = np.intersect1d(one, other, assume_unique=True).size
    return shared / (one.size + other.size - shared)


def split(
    interactions: Iterable[Interaction], *, holdout: float, seed: int
) -> tuple[list[Interaction], list[Interaction]]:
    """Divide into (train, held out) so that no context, nor a near-repeat of one, stands on both sides.

    The same interactions and seed give the same two lists in any order of input; both are sorted by completion id.
    Whole groups are held out until about ``holdout`` of all interactions are, and never fewer than one, or two of
    ``FEW`` and more.

    Raises
    ------
    ConfigError
        ``holdout`` is not in [0, 1).
    DataError
        All contexts are near-repeats of each other, so that nothing can be held out.
    """
    train, *held = parts(interactions, holdout=holdout, seed=seed, least=2)
    return train, sorted(held[0] + held[1], key=_id)


def parts(
    interactions: Iterable[Interaction], *, holdout: float, seed: int, least: int = FEW
) -> tuple[list[Interaction], list[Interaction], list[Interaction]]:
    """``split`` into (train, choosing, reporting): what is held out in two halves, of different contexts again.

    What was chosen by some edits looks too good on them, and one or two say little: of ``FEW`` and more never fewer
    than ``least`` are held out, or half. Nothing chooses where a single group of contexts is held out.
    """
    if not 0 <= holdout < 1:
        raise ConfigError(f"holdout = {holdout}: must be at least 0 and below 1, e.g. 0.1")
    ordered = sorted(interactions, key=_id)
    if holdout == 0 or not ordered:
        return ordered, [], []
    group_of = context_groups(interaction.completion.messages for interaction in ordered)
    groups = [group_of[context_key(interaction.completion.messages)] for interaction in ordered]
    sizes = Counter(groups)
    least = min(least, len(ordered) // 2) if len(ordered) >= FEW else 1
    held = _held_out(sizes, max(least, round(holdout * len(ordered))), seed)
    kept = Counter({group: size for group, size in sizes.items() if group in held})
    choosing = _held_out(kept, max(1, round(kept.total() / 2)), seed) if len(kept) > 1 else set[str]()
    sides: tuple[list[Interaction], list[Interaction], list[Interaction]] = ([], [], [])
    for interaction, group in zip(ordered, groups, strict=True):
        sides[0 if group not in held else 1 if group in choosing else 2].append(interaction)
    return sides


def _id(interaction: Interaction) -> str:
    return interaction.completion.id


def _held_out(sizes: Counter[str], target: int, seed: int) -> set[str]:
    if len(sizes) < 2:
        edits = "a single edit" if sizes.total() == 1 else f"{sizes.total()} edits of one context or near-repeats of it"
        remedy = "log edits of other contexts, or use --holdout 0 to train unchecked"
        raise DataError(f"{edits}: nothing can be held out; {remedy}")
    order = list(sizes)
    random.Random(seed).shuffle(order)
    held = set[str]()
    for group in order:
        if sizes[group] <= target:
            held.add(group)
            target -= sizes[group]
    # Every group is larger than the target, or all of them fit into it: hold out the smallest.
    return held if 0 < len(held) < len(sizes) else {min(order, key=lambda group: sizes[group])}
