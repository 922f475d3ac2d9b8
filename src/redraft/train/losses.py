"""Equations 3, 4, 6 and 7 of arXiv 2601.19055 as pure functions of log-probabilities.

All log-probabilities are sums over a whole response, in nats. Two departures, both the field's custom (TRL's too):
eqs. 3 and 7 sum over tokens and we average the likelihood over the response tokens of a batch, so that the learning
rate does not depend on lengths, while sequence sums stay inside eq. 4; and the paper's β in eq. 4, its τ here, keeps
the option name ``beta``.

Eq. 6, min E_{y~π}[f̄(x, y) + β log(π/π_ref)], is solved by regression on responses that are there already (REBEL's
objective, arXiv 2404.16767): at π* ∝ π_ref exp(−f̄/β) two responses' log-ratios differ by the difference of their costs
over β, whoever wrote them; π is fitted to that.
"""

from __future__ import annotations

import torch
from torch.nn import functional

__all__ = ["early_loss", "preference_loss", "regression_loss", "sft_loss"]


def sft_loss(chosen: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """−(1/Σ tokens) Σ log π(y'|x), a scalar: eq. 3 per token. ``chosen`` [B], ``tokens`` [B] or their sum []."""
    return -chosen.sum() / tokens.sum()  # eq. 3


def preference_loss(
    chosen: torch.Tensor, rejected: torch.Tensor, ref_chosen: torch.Tensor, ref_rejected: torch.Tensor, beta: float
) -> torch.Tensor:
    """−log σ(τ log[π(y'|x)/π_ref(y'|x)] − τ log[π(y|x)/π_ref(y|x)]) for each pair, [B]: eq. 4."""
    return -functional.logsigmoid(beta * ((chosen - ref_chosen) - (rejected - ref_rejected)))  # eq. 4


def early_loss(preference: torch.Tensor, nll: torch.Tensor, nll_weight: float) -> torch.Tensor:
    """L_DPO + λ·NLL(y'), a scalar: eq. 7. ``preference`` [] is the mean over pairs, ``nll`` [] per token."""
    return preference + nll_weight * nll  # eq. 7


def regression_loss(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    ref_chosen: torch.Tensor,
    ref_rejected: torch.Tensor,
    gap: torch.Tensor,
    *,
    beta: float,
) -> torch.Tensor:
    """{β log[π(y')/π_ref(y')] − β log[π(y)/π_ref(y)] − [f̄(x,y) − f̄(x,y')]}² for each pair [B], in squared costs."""
    return (beta * ((chosen - ref_chosen) - (rejected - ref_rejected)) - gap) ** 2
