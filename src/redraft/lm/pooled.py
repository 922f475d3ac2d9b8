"""How the base model sees a response: its last hidden states, averaged over y, and how likely y is to it.

Frozen features of eq. 5's cost model; computed once for a text and kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from redraft.errors import ConfigError
from redraft.lm.encode import encode_prompt, encode_response
from redraft.lm.load import Base
from redraft.types import Message

__all__ = ["pooled"]


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
    digest = hashlib.sha256(f"{base.identity} {json.dumps(tokens)}".encode()).hexdigest()[:24]
    file = cache / "pooled" / f"{digest}.npz"
    if base.revision != "unknown" and file.exists():
        with np.load(file) as kept:
            return kept["hidden"], kept["logprobs"]
    hidden, logprobs = _compute(base, tokens, batch_size, on_batch)
    if base.revision != "unknown":
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            scratch = file.with_suffix(".new.npz")
            np.savez(scratch, hidden=hidden, logprobs=logprobs)
            scratch.replace(file)
        except OSError as error:
            raise ConfigError(f"cache {cache}: cannot be written ({error.strerror}): set [model] cache") from error
    return hidden, logprobs


@torch.no_grad()
def _compute(
    base: Base,
    tokens: Sequence[tuple[list[int], list[int]]],
    batch_size: int,
    on_batch: Callable[[int], None] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    model = base.model.eval()
    device, head = next(model.parameters()).device, model.get_output_embeddings()
    assert head is not None
    found: list[tuple[NDArray[np.float64], float]] = [(np.zeros(0), 0.0)] * len(tokens)
    order = sorted(range(len(tokens)), key=lambda i: sum(map(len, tokens[i])))
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
            found[i] = states[row, begin:end].double().mean(0).cpu().numpy(), float(token)
        if on_batch is not None:
            on_batch(len(rows))
    return np.stack([hidden for hidden, _ in found]), np.array([logprob for _, logprob in found])
