"""Log-probabilities of packed responses: the one forward pass that every loss and every report reads.

The vocabulary is the widest part of a small model, so its logits decide memory and much of the time. Where the output
head is frozen (LoRA leaves it so) a row's gradient with respect to its hidden state h is known as soon as its logits
are, ∂ log p(y)/∂h = W[y] − Σ_v p(v) W[v], and one pass in chunks yields both: no logits are kept and none
are computed twice. ``frozen_head`` proves on the model at hand that this equals its logits, else the plain path runs.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from redraft.lm.attention import shared_heads
from redraft.lm.reading import PLAIN, TWO_PASSES, Reading, visible

__all__ = ["PackedLogprobs", "frozen_head", "packed_logprobs"]

_IGNORED = -100
_CHUNK = 192  # rows of logits at a time, 38 MB of SmolLM2's; with fewer, reading the head costs more than using it
_SHORT = 256  # tokens; from some 300 on, torch's fused attention is the faster


@dataclass(frozen=True, slots=True)
class PackedLogprobs:
    """log π of y' and y for a batch: sums in nats [B] (the log-probability of the whole text) and token counts [B]."""

    chosen: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected: torch.Tensor
    rejected_tokens: torch.Tensor


def packed_logprobs(
    model: Any, batch: Mapping[str, torch.Tensor], head: torch.Tensor | None = None, reading: Reading = PLAIN
) -> PackedLogprobs:
    """Run ``model`` on a batch laid out by ``redraft.train.packing.collate``: once, or twice where it must be.

    ``rejected`` is 0 where there is no y. ``head`` is what ``frozen_head(model)`` returned, ``reading`` what
    ``reading_of(model)`` did. The softmax is in float32 whatever the model's precision.
    """
    split = int(batch["rejected_from"])
    # y[0] follows x as y'[0] does: both are predicted by the column that ends x, which therefore comes twice.
    labels = torch.cat([batch["labels"], batch["first_rejected"][:, None]], dim=1)
    if reading.way == TWO_PASSES:
        rejected = torch.cat([batch["first_rejected"][:, None], batch["labels"][:, split:]], dim=1)
        chosen = _apart(model, batch, 2, batch["labels"][:, :split], head)
        other = _apart(model, batch, 3, rejected, head)
        token = torch.cat([chosen, other[:, 1:], other[:, :1]], dim=1)
    else:
        segment, positions = batch["segment"], batch["position_ids"]
        mask = reading.mask(visible(segment), positions, model.dtype)
        inputs = {"input_ids": batch["input_ids"], "position_ids": positions, "attention_mask": mask}
        states = _states(model, head, **inputs, logits_to_keep=batch["logits_to_keep"])
        if head is None:  # a second tensor of logits would cost more than a second loss
            parts = (states, batch["labels"]), (states[:, :1], batch["first_rejected"][:, None])
            token = torch.cat([_logp(*part, head) for part in parts], dim=1)
        else:
            token = _logp(torch.cat([states, states[:, :1]], dim=1), labels, head)
    count = labels != _IGNORED
    return PackedLogprobs(
        token[:, :split].sum(1), count[:, :split].sum(1), token[:, split:].sum(1), count[:, split:].sum(1)
    )


def _apart(
    model: Any, batch: Mapping[str, torch.Tensor], kind: int, labels: torch.Tensor, head: torch.Tensor | None
) -> torch.Tensor:
    """Give log π of one response's labels, read behind its prompt in a sequence padded on the right: [B, K] both.

    Nothing before a token is padding, so that no layer of whatever kind can have seen any.
    """
    if not (labels != _IGNORED).any():  # SFT has no y
        return torch.zeros(labels.shape, device=labels.device)
    segment = batch["segment"]
    kept = (segment == 1) | (segment == kind)
    order = torch.argsort((~kept).long(), dim=1, stable=True)[:, : int(kept.sum(1).max())]
    mask = kept.gather(1, order)
    states = _states(model, head, input_ids=batch["input_ids"].gather(1, order), attention_mask=mask.long())
    columns = (segment == 1).sum(1, keepdim=True) - 1 + torch.arange(labels.shape[1], device=labels.device)
    columns = columns.clamp(max=states.shape[1] - 1)
    return _logp(states.gather(1, columns[..., None].expand(-1, -1, states.shape[2])), labels, head)


def _states(model: Any, head: torch.Tensor | None, **inputs: Any) -> torch.Tensor:
    """Logits, or with ``head`` the hidden states that it would have read."""
    with _attention(inputs["input_ids"]), nullcontext() if head is None else _hidden_states(model):
        return model(**inputs, use_cache=False).logits


def _attention(ids: torch.Tensor) -> AbstractContextManager[Any]:
    """Attention to train with: ``shared_heads`` where texts are short."""
    short = ids.device.type == "cpu" and ids.shape[1] <= _SHORT and torch.is_grad_enabled()
    return shared_heads() if short else nullcontext()


def _logp(states: torch.Tensor, labels: torch.Tensor, head: torch.Tensor | None) -> torch.Tensor:
    """Give the log softmax at the labels [B, K], and 0 where there is none."""
    if head is None:
        loss = functional.cross_entropy(states.flatten(0, 1).float(), labels.flatten(), reduction="none")
        return -loss.view_as(labels)
    counted = labels != _IGNORED
    rows = _FrozenHead.apply(states[counted], head, labels[counted])
    return torch.zeros(labels.shape, device=states.device).masked_scatter(counted, rows)


def frozen_head(model: Any, dtype: torch.dtype | None = None) -> torch.Tensor | None:
    """The output head's weight [V, d] if it is frozen and the model's logits are exactly hidden states times it.

    In ``dtype``, the precision to multiply in, when given. ``None`` for heads that train, have a bias, scale or cap
    their logits, or live inside a distributed wrapper.
    """
    find = getattr(model, "get_output_embeddings", None)
    layer = find() if callable(find) else None
    if not isinstance(layer, nn.Linear) or getattr(layer, "bias", None) is not None or layer.weight.requires_grad:
        return None
    probe = torch.tensor([[0, 1, 2]], device=layer.weight.device)
    with torch.no_grad():
        expected = model(input_ids=probe, use_cache=False).logits
        with _hidden_states(model):
            hidden = model(input_ids=probe, use_cache=False).logits
        same = hidden.shape[-1] == layer.in_features and torch.allclose(layer(hidden), expected, rtol=1e-3, atol=1e-3)
    if not same:
        return None
    weight = layer.weight.detach()
    return weight if dtype is None else weight.to(dtype)


@contextmanager
def _hidden_states(model: Any) -> Generator[None]:
    """Within it, the model's "logits" are the hidden states that its head would have read."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = base.get_output_embeddings()
    base.set_output_embeddings(nn.Identity())
    try:
        yield
    finally:
        base.set_output_embeddings(head)


class _FrozenHead(torch.autograd.Function):
    """log softmax(h Wᵀ)[label] for rows h [N, d], and its gradient with respect to h, in one pass."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        rows = hidden.detach().to(weight.dtype)
        logp = torch.empty(len(rows), device=hidden.device)
        gradient = torch.empty_like(rows) if ctx.needs_input_grad[0] else None
        size = min(_CHUNK, len(rows)), len(weight)
        products = rows.new_empty(size)
        weights = products if rows.dtype == torch.float32 else torch.empty(size, device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(rows), _CHUNK):
                part = slice(start, start + _CHUNK)
                label = labels[part, None]
                raw = torch.mm(rows[part], weight.T, out=products[: len(label)])
                logits = raw if weights is products else weights[: len(raw)].copy_(raw)
                top = logits.amax(1, keepdim=True)
                own = logits.gather(1, label) - top
                total = logits.sub_(top).exp_().sum(1, keepdim=True)
                logp[part] = (own - total.log())[:, 0]
                if gradient is not None:
                    if logits is not raw:
                        raw.copy_(logits)
                    gradient[part] = weight[label[:, 0]] - (raw @ weight) / total
        ctx.save_for_backward(gradient)
        ctx.input_dtype = hidden.dtype
        return logp

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (outer[0][:, None] * gradient).to(ctx.input_dtype), None, None
