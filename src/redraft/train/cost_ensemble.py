"""A neural cost model: several regression heads on one LoRA'd trunk, and their disagreement as doubt (eqs. 5 and 6).

f_h(x, y) = w_h·φ + b_h with φ the mean last hidden state over y. All heads share the trunk; each is fitted to a
bootstrap of the contexts, so that they agree where there is data. The mean is f̂, and κ times the standard deviation
over heads is the bonus: an approximation of the confidence set F̃, which the linear model has exactly
(``cost_model.py``). κ is the smallest with which the bound holds for ``COVERAGE`` of responses of contexts that no head
has seen. y' with cost 0 does not join in: most of it would be learnt from its form alone.

Losses are weighted by length as the linear model's are, for the same reason. It takes minutes where that one takes
seconds. The trunk is a copy of the base model, so that policies may have
their adapters in the original meanwhile.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from redraft.lm.encode import encode_prompt, encode_response
from redraft.lm.load import Base
from redraft.train.cost_model import COVERAGE
from redraft.types import Message

__all__ = ["Encoded", "EnsembleModel", "EnsembleOptions", "Priced", "fit_ensemble", "read_ensemble"]

HEADS = "heads.npz"
Tokens = list[tuple[list[int], list[int]]]
Array = NDArray[np.float64]
OnStep = Callable[[int], None] | None


@dataclass(frozen=True, slots=True)
class EnsembleOptions:
    """How an ensemble is trained."""

    heads: int = 5
    rank: int = 8
    learning_rate: float = 5e-4
    epochs: int = 3
    batch_size: int = 8
    calibration: float = 0.2
    seed: int = 0


@dataclass(frozen=True)
class Encoded:
    """Texts as an ensemble reads them: what stands in for ``Features`` beside it."""

    base: Base
    max_prompt: int = 512
    max_response: int = 512

    def __call__(self, messages: Sequence[Sequence[Message]], responses: Sequence[str]) -> tuple[Tokens]:
        """Token ids of each context and response."""
        tokenizer = self.base.tokenizer
        return (
            [
                (encode_prompt(tokenizer, x, self.max_prompt), encode_response(tokenizer, y)[: self.max_response])
                for x, y in zip(messages, responses, strict=True)
            ],
        )


@dataclass(frozen=True)
class Priced:
    """Encoded responses with their costs, contexts (numbers) and lengths: [n] each."""

    tokens: Tokens
    costs: Array
    contexts: NDArray[np.int64]
    sizes: Array

    def take(self, rows: NDArray[np.bool_]) -> Priced:
        """Some of the rows."""
        tokens = [pair for pair, wanted in zip(self.tokens, rows, strict=True) if wanted]
        return Priced(tokens, self.costs[rows], self.contexts[rows], self.sizes[rows])


@dataclass(frozen=True)
class EnsembleModel:
    """A trunk with an adapter, and heads [h, d] with biases [h]. Predicts as ``CostModel`` does."""

    trunk: Any
    heads: nn.Linear
    pad: int
    kappa: float

    def predict(self, tokens: Tokens) -> tuple[Array, Array]:
        """Return f̂ [n] and the bonus [n], both in units of the cost."""
        with torch.no_grad():
            self.trunk.eval()
            order = sorted(range(len(tokens)), key=lambda i: sum(map(len, tokens[i])))
            told = torch.zeros(len(tokens), self.heads.out_features, dtype=torch.float64)
            for start in range(0, len(order), 16):
                rows = order[start : start + 16]
                told[rows] = self.heads(_pooled(self.trunk, [tokens[i] for i in rows], self.pad)).double().cpu()
        return told.mean(1).numpy(), self.kappa * told.std(1).numpy()

    def save(self, folder: Path) -> None:
        """Write adapter and heads into a folder; ``read_ensemble`` reads them."""
        self.trunk.save_pretrained(folder)
        weight, bias = self.heads.weight.detach().cpu().numpy(), self.heads.bias.detach().cpu().numpy()
        np.savez(folder / HEADS, weight=weight, bias=bias)


def fit_ensemble(base: Base, rows: Priced, options: EnsembleOptions, *, on_step: OnStep = None) -> EnsembleModel:
    """Fit on most contexts, and calibrate κ on the others."""
    from peft import LoraConfig, get_peft_model

    rng = np.random.default_rng(options.seed)
    contexts = rng.permutation(np.unique(rows.contexts))
    kept = np.isin(rows.contexts, contexts[max(1, round(options.calibration * len(contexts))) :])
    lora = LoraConfig(r=options.rank, lora_alpha=2 * options.rank, target_modules="all-linear", task_type="CAUSAL_LM")
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        trunk: Any = get_peft_model(copy.deepcopy(base.model), lora)
        heads = nn.Linear(base.model.config.hidden_size, options.heads)
    heads.to(next(trunk.parameters()).device)
    nn.init.zeros_(heads.weight)
    nn.init.constant_(heads.bias, float(np.average(rows.costs[kept], weights=rows.sizes[kept] ** 2)))
    model = EnsembleModel(trunk, heads, base.pad, 1.0)
    _train(model, rows.take(kept), options, rng, on_step)
    unseen = rows.take(~kept)
    mean, deviation = model.predict(unseen.tokens)
    ratios = np.sort((unseen.costs - mean) / np.maximum(deviation, 1e-9))
    place = min(int(np.ceil((len(ratios) + 1) * COVERAGE)) - 1, len(ratios) - 1)
    return replace(model, kappa=max(0.0, float(ratios[place])))


def read_ensemble(base: Base, folder: Path, kappa: float) -> EnsembleModel:
    """Read what ``EnsembleModel.save`` wrote, over a copy of its base model."""
    from peft import PeftModel

    trunk: Any = PeftModel.from_pretrained(copy.deepcopy(base.model), str(folder))
    with np.load(folder / HEADS) as arrays:
        heads = nn.Linear(arrays["weight"].shape[1], len(arrays["bias"]))
        heads.weight.data = torch.from_numpy(arrays["weight"])
        heads.bias.data = torch.from_numpy(arrays["bias"])
    return EnsembleModel(trunk, heads.to(next(trunk.parameters()).device), base.pad, kappa)


def _train(
    model: EnsembleModel, rows: Priced, options: EnsembleOptions, rng: np.random.Generator, on_step: OnStep
) -> None:
    """Minimise the mean over heads of Σ m_hi (s_i (f_h − c_i))², m_h a bootstrap of contexts."""
    numbers = {context: place for place, context in enumerate(np.unique(rows.contexts))}
    counts = rng.multinomial(len(numbers), [1 / len(numbers)] * len(numbers), size=options.heads)
    drawn = torch.from_numpy(counts[:, [numbers[c] for c in rows.contexts]].T.copy()).float()  # [n, heads]
    sizes = rows.sizes / np.sqrt(np.mean(rows.sizes**2))
    weights = drawn * torch.from_numpy(sizes**2).float()[:, None]
    costs = torch.from_numpy(rows.costs).float()
    trained = [part for part in (*model.trunk.parameters(), *model.heads.parameters()) if part.requires_grad]
    search = torch.optim.AdamW(trained, lr=options.learning_rate, weight_decay=0.0)
    device = model.heads.weight.device
    for _ in range(options.epochs):
        model.trunk.train()
        order = rng.permutation(len(rows.costs))
        for start in range(0, len(order), options.batch_size):
            part = order[start : start + options.batch_size]
            told = model.heads(_pooled(model.trunk, [rows.tokens[i] for i in part], model.pad))
            errors = (told - costs[part, None].to(device)) ** 2 * weights[part].to(device)
            search.zero_grad()
            errors.mean().backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            search.step()
            if on_step is not None:
                on_step(len(part))


def _pooled(trunk: Any, tokens: Tokens, pad: int) -> torch.Tensor:
    """Mean last hidden states over the responses [n, d]."""
    width = max(sum(map(len, pair)) for pair in tokens)
    ids = torch.full((len(tokens), width), pad)
    mask, inside = torch.zeros((len(tokens), width), dtype=torch.long), torch.zeros((len(tokens), width))
    for row, (prompt, response) in enumerate(tokens):
        end = len(prompt) + len(response)
        ids[row, :end] = torch.tensor([*prompt, *response])
        mask[row, :end] = 1
        inside[row, len(prompt) : end] = 1 / len(response)
    device = next(trunk.parameters()).device
    read = trunk(input_ids=ids.to(device), attention_mask=mask.to(device), output_hidden_states=True, logits_to_keep=1)
    return (read.hidden_states[-1].float() * inside.to(device)[:, :, None]).sum(1)
