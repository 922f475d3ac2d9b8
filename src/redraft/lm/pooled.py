"""How the base model sees a response: its last hidden states, averaged over y, and how likely y is to it.

Frozen features of eq. 5's cost model; computed once for each text and kept: a text that several runs or splits
share is read once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from redraft.files import CACHE, whole
from redraft.lm.encode import encode_prompt, encode_response
from redraft.lm.load import Base
from redraft.lm.probe import reading_of
from redraft.lm.reading import TWO_PASSES
from redraft.types import Message

__all__ = ["pooled"]

Row = NDArray[np.float64]
Text = tuple[list[int], list[int]]
"""Tokens of a prompt and of a response to it."""
Read = tuple[torch.Tensor, torch.Tensor]


def pooled(
    base: Base,
    messages: Sequence[Sequence[Message]],
    responses: Sequence[str],
    cache: Path,
    *,
    max_prompt: int = 512,
    max_response: int = 512,
    batch_size: int = 16,
    on_batch: Callable[[int], None] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean hidden states [n, d] and mean log-probabilities in nats a token [n], known ones from the cache."""
    tokens = [
        (encode_prompt(base.tokenizer, x, max_prompt), encode_response(base.tokenizer, y)[:max_response])
        for x, y in zip(messages, responses, strict=True)
    ]
    read = _branched if reading_of(base.model).way != TWO_PASSES and _branches(base.model.eval()) else _alone
    files = [_file(base, ids, cache, "" if read is _branched else " alone") for ids in tokens]
    missing = [n for n, file in enumerate(files) if base.revision == "unknown" or not file.exists()]
    found: dict[int, Row] = {}
    for n, row in _compute(base, tokens, missing, batch_size, read):
        found[n] = row
        if base.revision != "unknown":
            with whole(files[n], CACHE) as scratch:
                np.save(scratch, row)
        if on_batch is not None:
            on_batch(1)
    rows = np.stack([found[n] if n in found else np.load(file) for n, file in enumerate(files)])
    return rows[:, :-1], rows[:, -1]


def _file(base: Base, tokens: Text, cache: Path, way: str) -> Path:
    digest = hashlib.sha256(f"{base.identity} {base.model.dtype} {json.dumps(tokens)}{way}".encode()).hexdigest()
    return cache / "pooled" / digest[:2] / f"{digest[2:26]}.npy"


@torch.no_grad()
def _compute(
    base: Base,
    tokens: Sequence[Text],
    wanted: Sequence[int],
    batch_size: int,
    read: Callable[[Any, Sequence[Text], int], Iterator[Read]],
) -> Iterator[tuple[int, Row]]:
    """The number of each wanted text, and its mean hidden state with its mean log-probability last [d + 1]."""
    model = base.model.eval()
    order = sorted(wanted, key=lambda i: (len(tokens[i][0]), tokens[i]))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        for i, (states, logits) in zip(rows, read(model, [tokens[i] for i in rows], base.pad), strict=True):
            response = torch.tensor(tokens[i][1], device=states.device)
            token = logits.float().log_softmax(1).gather(1, response[:, None]).mean()
            yield i, np.append(states.double().mean(0).cpu().numpy(), float(token))


@torch.no_grad()
def _branches(model: Any) -> bool:
    """Whether the last hidden states times the head are the logits: some models scale or cap them."""
    head, ids = model.get_output_embeddings(), torch.tensor([[0, 1, 2]], device=next(model.parameters()).device)
    try:
        read = model(input_ids=ids, use_cache=True, output_hidden_states=True)
        read.past_key_values.batch_select_indices(torch.tensor([0], device=ids.device))
        return torch.allclose(head(read.hidden_states[-1]), read.logits, rtol=1e-3, atol=1e-3)
    except (RuntimeError, TypeError, AttributeError):  # another kind of cache or of head
        return False


def _branched(model: Any, texts: Sequence[Text], pad: int) -> Iterator[Read]:
    """Last hidden states of each response [m, d] and the logits of its tokens [m, V]; shared prompts are read once."""
    head = model.get_output_embeddings()
    device = next(model.parameters()).device
    distinct = list(dict.fromkeys(tuple(prompt) for prompt, _ in texts))
    places = torch.tensor([distinct.index(tuple(prompt)) for prompt, _ in texts], device=device)
    prompts, mask = _padded(distinct, pad, left=True)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    read = model(
        input_ids=prompts.to(device),
        attention_mask=mask.to(device),
        position_ids=positions.to(device),
        use_cache=True,
        output_hidden_states=True,
        logits_to_keep=1,
    )
    before, cache = read.hidden_states[-1][places, -1], read.past_key_values
    cache.batch_select_indices(places)
    responses, filled = _padded([response for _, response in texts], pad, left=False)
    mask, positions = mask[places.cpu()], positions[places.cpu(), -1:]
    read = model(
        input_ids=responses.to(device),
        attention_mask=torch.cat([mask, filled], dim=1).to(device),
        position_ids=(positions + filled.cumsum(1)).to(device),
        past_key_values=cache,
        output_hidden_states=True,
        logits_to_keep=1,
    )
    for row, (_, response) in enumerate(texts):
        states = read.hidden_states[-1][row, : len(response)]
        yield states, head(torch.cat([before[row, None], states[:-1]]))


def _alone(model: Any, texts: Sequence[Text], pad: int) -> Iterator[Read]:
    """As ``_branched``, one text after the other from its start: right for any model."""
    del pad
    for prompt, response in texts:
        ids = torch.tensor([prompt + response], device=next(model.parameters()).device)
        read = model(input_ids=ids, use_cache=False, output_hidden_states=True)
        yield read.hidden_states[-1][0, len(prompt) :], read.logits[0, len(prompt) - 1 : -1]


def _padded(rows: Sequence[Sequence[int]], pad: int, *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [n, width], filled up on one side, and the mask of what is no filling."""
    width = max(map(len, rows))
    sides = [(width - len(row), 0) if left else (0, width - len(row)) for row in rows]
    ids = [[pad] * before + list(row) + [pad] * after for row, (before, after) in zip(rows, sides, strict=True)]
    mask = [[0] * before + [1] * len(row) + [0] * after for row, (before, after) in zip(rows, sides, strict=True)]
    return torch.tensor(ids), torch.tensor(mask)
