"""How a model scores logged pairs: what epochs and trials are chosen by, and what DPO is watched with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from redraft.lm.load import compute_dtype
from redraft.lm.logprobs import packed_logprobs
from redraft.lm.probe import reading_of
from redraft.train.losses import preference_loss, regression_loss, sft_loss
from redraft.train.packing import Triple, collate
from redraft.train.reference import Reference

__all__ = ["Scores", "score", "with_reference"]


@dataclass(frozen=True)
class Scores:
    """Log-probabilities in nats of each triple's y' and y, by the model and by the reference, and token counts: [n].

    ``rejected_tokens`` is 0 where y' = y and there is no preference. ``gaps`` are the triples' own.
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor
    ref_chosen: torch.Tensor
    ref_rejected: torch.Tensor
    gaps: torch.Tensor

    @property
    def pair(self) -> torch.Tensor:
        """Which triples hold a preference, bool [n]."""
        return self.rejected_tokens > 0

    @property
    def prefers_edit(self) -> torch.Tensor:
        """Whether log π(y'|x) > log π(y|x), each per token since the texts differ in length: bool [pairs]."""
        return (self.chosen / self.chosen_tokens)[self.pair] > (self.rejected / self.rejected_tokens)[self.pair]

    @property
    def above_reference(self) -> tuple[torch.Tensor, torch.Tensor]:
        """How far log π of y' and of y stand above log π_ref, in nats: [pairs] each."""
        return (self.chosen - self.ref_chosen)[self.pair], (self.rejected - self.ref_rejected)[self.pair]

    def metrics(self, beta: float) -> dict[str, float]:
        """Return ``nll`` and ``reference_nll`` (nats per token of y') and, where there are pairs, means over them.

        ``preference_loss`` (eq. 4), ``regression_loss`` (eq. 6) where gaps are known, ``prefers_edit``,
        ``prefers_edit_over_reference`` (by log-ratios, shares of pairs), ``chosen_above_reference`` and
        ``rejected_above_reference`` (nats per response).
        """
        metrics = {
            "nll": float(sft_loss(self.chosen, self.chosen_tokens)),
            "reference_nll": float(sft_loss(self.ref_chosen, self.chosen_tokens)),
        }
        if not self.pair.any():
            return metrics
        up, down = self.above_reference
        zero = torch.zeros_like(up)
        if not self.gaps[self.pair].isnan().any():
            loss = regression_loss(up, down, zero, zero, self.gaps[self.pair], beta=beta)
            metrics["regression_loss"] = float(loss.mean())
        return metrics | {
            "preference_loss": float(preference_loss(up, down, zero, zero, beta).mean()),
            "prefers_edit": float(self.prefers_edit.double().mean()),
            "prefers_edit_over_reference": float((up > down).double().mean()),
            "chosen_above_reference": float(up.mean()),
            "rejected_above_reference": float(down.mean()),
        }


@torch.no_grad()
def score(
    model: Any,
    triples: Sequence[Triple],
    reference: Reference,
    *,
    pad: int,
    head: torch.Tensor | None,
    batch_size: int = 8,
) -> Scores:
    """Score every triple in its order. ``head`` is ``frozen_head(model)``."""
    model.eval()
    device, reading = next(model.parameters()).device, reading_of(model)
    order = sorted(range(len(triples)), key=lambda i: triples[i].length)
    rows = torch.zeros(7, len(triples), dtype=torch.float64)
    with torch.autocast(device.type, compute_dtype(), enabled=compute_dtype() == torch.bfloat16):
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            batch = with_reference([triples[i] for i in part], reference, pad=pad, pairs=True)
            found = packed_logprobs(model, {k: v.to(device) for k, v in batch.items()}, head, reading)
            columns = (found.chosen, found.rejected, found.chosen_tokens, found.rejected_tokens)
            given = (*batch["reference"].T, batch["gaps"])
            rows[:, part] = torch.stack([c.double().cpu() for c in (*columns, *given)])
    return Scores(*rows)


def with_reference(
    triples: Sequence[Triple], reference: Reference, *, pad: int, pairs: bool
) -> dict[str, torch.Tensor]:
    """``collate``, with the reference's log-probabilities ``reference`` [B, 2] where there are pairs."""
    batch = collate(triples, pad, pairs=pairs)
    if pairs:
        batch["reference"] = torch.tensor([reference[t.id] for t in triples])
    return batch
