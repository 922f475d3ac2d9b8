"""How the base model sees a response: its last hidden states, averaged over y, and how likely y is to it.

Frozen features of eq. 5's cost model; computed once for a text and kept, text by text: what a sample of one run shares
with another run, or with another split, is not read again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from redraft.cache import keep
from redraft.lm.encode import encode_prompt, encode_response
from redraft.lm.load import Base
from redraft.types import Message

__all__ = ["pooled"]

Row = NDArray[np.float64]


def pooled(
    base: Base,
    messages: Sequence[Sequence[Message]],
    responses: Sequence[str],
    cache: Path,
    *,
    max_prompt: int = 512,
    max_response: int = 512,
    batch_size: int = 8,
    on_batch: Callable[[int], None] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean hidden states [n, d] and mean log-probabilities in nats a token [n], known ones from the cache."""
    tokens = [
        (encode_prompt(base.tokenizer, x, max_prompt), encode_response(base.tokenizer, y)[:max_response])
        for x, y in zip(messages, responses, strict=True)
    ]
    files = [_file(base, ids, cache) for ids in tokens]
    missing = [n for n, file in enumerate(files) if base.revision == "unknown" or not file.exists()]
    found: dict[int, Row] = {}
    for n, row in _compute(base, tokens, missing, batch_size):
        found[n] = row
        if base.revision != "unknown":
            keep(files[n], partial(np.save, arr=row))
        if on_batch is not None:
            on_batch(1)
    rows = np.stack([found[n] if n in found else np.load(file) for n, file in enumerate(files)])
    return rows[:, :-1], rows[:, -1]


def _file(base: Base, tokens: tuple[list[int], list[int]], cache: Path) -> Path:
    digest = hashlib.sha256(f"{base.identity} {json.dumps(tokens)}".encode()).hexdigest()
    return cache / "pooled" / digest[:2] / f"{digest[2:26]}.npy"


@torch.no_grad()
def _compute(
    base: Base,
    tokens: Sequence[tuple[list[int], list[int]]],
    wanted: Sequence[int],
    batch_size: int,
) -> Iterator[tuple[int, Row]]:
    """The number of each wanted text, and its mean hidden state with its mean log-probability last [d + 1]."""
    model = base.model.eval()
    device, head = next(model.parameters()).device, model.get_output_embeddings()
    assert head is not None
    order = sorted(wanted, key=lambda i: sum(map(len, tokens[i])))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        width = max(sum(map(len, tokens[i])) for i in rows)
        ids = torch.full((len(rows), width), base.pad)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for row, i in enumerate(rows):
            prompt, response = tokens[i]
            ids[row, : len(prompt) + len(response)] = torch.tensor(prompt + response)
            mask[row, : len(prompt) + len(response)] = 1
        read = model(
            input_ids=ids.to(device), attention_mask=mask.to(device), output_hidden_states=True, logits_to_keep=1
        )
        states = read.hidden_states[-1]
        for row, i in enumerate(rows):
            begin, end = len(tokens[i][0]), sum(map(len, tokens[i]))
            logits = head(states[row, begin - 1 : end - 1]).float()
            token = logits.log_softmax(1).gather(1, ids[row, begin:end, None].to(device)).mean()
            yield i, np.append(states[row, begin:end].double().mean(0).cpu().numpy(), float(token))
