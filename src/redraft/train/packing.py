"""One triple, one forward pass: pack [x | y' | y] so that y' and y both see x and not each other.

Both responses take the positions that follow x, so that every token has the log-probability it would have in a
sequence of its own; ``redraft.lm.reading`` finds out which models read it so. Columns are aligned across a batch
(prompts end in the same one), which lets a model compute logits at response columns only (``logits_to_keep``) and
keeps wrappers such as FSDP in charge of the forward call. The last token of each response is predicted, never read, and
so left out.

    column        0 … P-1        P … P+C-2      P+C-1 … P+C+R-3
    holds         padding, x     y'[:-1]        y[:-1]
    predicts      P-1 → y'[0]    y'[1:]         y[1:]             and P-1 → y[0] too
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.utils.data import Sampler

from redraft.errors import DataError
from redraft.lm.encode import encode_prompt, encode_response
from redraft.types import Interaction

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["IGNORED", "LengthBuckets", "Limits", "Triple", "collate", "encode", "fingerprint"]

IGNORED = -100  # the label that cross-entropy leaves out, as everywhere in PyTorch


@dataclass(frozen=True, slots=True)
class Limits:
    """How many tokens of each part are kept."""

    prompt: int = 512
    response: int = 512


@dataclass(frozen=True, slots=True)
class Triple:
    """Token ids of one edit. ``rejected`` is ``None`` where y' = y: a target, and no preference.

    ``id`` is the logged completion's. ``cut`` says that a text was longer than its limit; a cut response has no
    end-of-turn. ``gap`` is what ``rejected`` costs more than ``chosen``, where that is predicted (eq. 6).
    """

    id: str
    prompt: list[int]
    chosen: list[int]
    rejected: list[int] | None
    cut: bool = False
    gap: float | None = None

    @property
    def length(self) -> int:
        """Tokens in the packed sequence, for bucketing."""
        return len(self.prompt) + len(self.chosen) + len(self.rejected or ())


def encode(interactions: Sequence[Interaction], tokenizer: PreTrainedTokenizerBase, limits: Limits) -> list[Triple]:
    """Tokenise every interaction that has an edit, each text up to its limit.

    Raises ``DataError`` for a completion whose messages the chat template refuses.
    """
    triples: list[Triple] = []
    for interaction in interactions:
        if interaction.edited is None:
            continue
        try:
            prompt = encode_prompt(tokenizer, interaction.completion.messages, limits.prompt)
        except DataError as error:
            raise DataError(f"completion {interaction.completion.id!r}: {error}") from error
        chosen = encode_response(tokenizer, interaction.edited)
        rejected = encode_response(tokenizer, interaction.completion.response)
        cut = max(len(chosen), len(rejected)) > limits.response or len(prompt) == limits.prompt
        chosen, rejected = chosen[: limits.response], rejected[: limits.response]
        pair = None if rejected == chosen else rejected
        triples.append(Triple(interaction.completion.id, prompt, chosen, pair, cut))
    return triples


def fingerprint(triples: Sequence[Triple]) -> str:
    """Content hash of a tokenised data set: what a manifest and the reference cache are keyed by."""
    digest = hashlib.sha256()
    for triple in triples:
        priced = [] if triple.gap is None else [1.0, triple.gap]  # 1.0: runs of earlier versions keep their hash
        digest.update(json.dumps([triple.prompt, triple.chosen, triple.rejected, *priced]).encode())
    return digest.hexdigest()[:16]


def collate(triples: Sequence[Triple], pad: int, *, pairs: bool) -> dict[str, torch.Tensor]:
    """Lay a batch out as the module says.

    Returns ``input_ids``, ``position_ids``, ``segment`` [B, L] (0 padding, 1 x, 2 y', 3 y), ``logits_to_keep`` [K]
    column numbers, ``labels`` [B, K] for them, ``first_rejected`` [B], the label that column P-1 has for y, and
    ``gaps`` [B], no number where a gap is not known. With ``pairs=False`` y is left out and ``first_rejected`` is
    ``IGNORED``.
    """
    rejected = [(t.rejected or []) if pairs else [] for t in triples]
    prompt_width = max(len(t.prompt) for t in triples)
    chosen_width = max(len(t.chosen) for t in triples) - 1
    rejected_width = max(max((len(r) for r in rejected), default=0) - 1, 0)
    rows, width = len(triples), prompt_width + chosen_width + rejected_width
    ids = torch.full((rows, width), pad)
    positions = torch.zeros((rows, width), dtype=torch.long)
    segment = torch.zeros((rows, width), dtype=torch.long)  # 0 padding, 1 x, 2 y', 3 y
    labels = torch.full((rows, width - prompt_width + 1), IGNORED)
    first_rejected = torch.full((rows,), IGNORED)
    for row, (triple, other) in enumerate(zip(triples, rejected, strict=True)):
        size = len(triple.prompt)
        parts = ((prompt_width - size, triple.prompt, 0, 1), (prompt_width, triple.chosen[:-1], size, 2))
        for start, tokens, position, kind in (*parts, (prompt_width + chosen_width, other[:-1], size, 3)):
            columns = slice(start, start + len(tokens))
            ids[row, columns] = torch.tensor(tokens, dtype=torch.long)
            positions[row, columns] = torch.arange(position, position + len(tokens))
            segment[row, columns] = kind
        labels[row, : len(triple.chosen)] = torch.tensor(triple.chosen)
        if other:
            labels[row, chosen_width + 1 : chosen_width + len(other)] = torch.tensor(other[1:], dtype=torch.long)
            first_rejected[row] = other[0]
    return {
        "input_ids": ids,
        "position_ids": positions,
        "segment": segment,
        "logits_to_keep": torch.arange(prompt_width - 1, width),
        "labels": labels,
        "first_rejected": first_rejected,
        "rejected_from": torch.tensor(chosen_width + 1),
        "gaps": torch.tensor([math.nan if t.gap is None else t.gap for t in triples]),
    }


class LengthBuckets(Sampler[int]):
    """A seeded order in which neighbours have similar lengths, so that batches hold little padding.

    Every epoch shuffles, sorts within chunks of ``batch × chunk`` examples, and shuffles the batches; the order
    depends on (seed, epoch) alone, which is what resuming in the middle of an epoch needs.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int, chunk: int = 16) -> None:
        self.lengths, self.batch, self.seed, self.chunk, self.epoch = list(lengths), batch, seed, chunk, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before every pass over the data."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order: list[int] = torch.randperm(len(self.lengths), generator=generator).tolist()
        size = self.batch * self.chunk
        chunks = [sorted(order[i : i + size], key=self.lengths.__getitem__) for i in range(0, len(order), size)]
        batches = [part[i : i + self.batch] for part in chunks for i in range(0, len(part), self.batch)]
        full = [b for b in batches if len(b) == self.batch]
        last = [b for b in batches if len(b) < self.batch]  # stays last: the loader cuts by position
        for index in torch.randperm(len(full), generator=generator).tolist():
            yield from full[index]
        for part in last:
            yield from part
