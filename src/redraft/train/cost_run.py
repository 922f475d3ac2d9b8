"""From logged edits to a cost model in a folder, and back to what prices texts.

``cost@VERSION``, beside the policies, holds ``cost_model.json``, arrays, and the ids of what was learnt from.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redraft.costs import Cost
from redraft.data import context_groups, context_key, split
from redraft.errors import DataError
from redraft.files import ROOT, whole, write_json
from redraft.lm.load import Base
from redraft.lm.pooled import pooled
from redraft.train.cost_features import TEXT_FEATURES, text_features
from redraft.train.cost_model import CostModel, Examples, Quality, check_contexts, fit_cost, measured
from redraft.train.runs import versions, write_sources
from redraft.types import Interaction, Message

__all__ = ["Bound", "Features", "LearntCost", "learn_cost", "read_bound", "read_cost", "write_cost"]

MANIFEST, ARRAYS = "cost_model.json", "cost_model.npz"
LINEAR = "linear"


@dataclass(frozen=True)
class Features:
    """Features of responses by a base model, each context and response cut to so many tokens."""

    base: Base
    cache: Path
    max_prompt: int = 512
    max_response: int = 512
    on_batch: Callable[[int], None] | None = None

    def __call__(
        self, messages: Sequence[Sequence[Message]], responses: Sequence[str]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Text features with the mean log-probability last [n, a + 1], and mean hidden states [n, d]."""
        hidden, logprobs = pooled(
            self.base,
            messages,
            responses,
            self.cache,
            max_prompt=self.max_prompt,
            max_response=self.max_response,
            on_batch=self.on_batch,
        )
        return np.hstack([text_features(messages, responses), logprobs[:, None]]), hidden


@dataclass(frozen=True)
class Bound:
    """f̄ = f̂ + p · κ‖φ‖_{Λ⁻¹} of texts: a pessimist's estimate of an edit's cost; p = 1 is the calibrated bound."""

    model: CostModel
    features: Features
    pessimism: float = 1.0

    def __call__(self, messages: Sequence[Sequence[Message]], responses: Sequence[str]) -> NDArray[np.float64]:
        """One number for each response to its messages [n], in units of the cost."""
        mean, bonus = self.predict(messages, responses)
        return mean + self.pessimism * bonus

    def at_most(self, messages: Sequence[Sequence[Message]], responses: Sequence[str]) -> NDArray[np.float64]:
        """The same as a cost [n], none below 0, where a linear model may fall. To rank, take the bound itself."""
        return np.maximum(self(messages, responses), 0.0)

    def predict(
        self, messages: Sequence[Sequence[Message]], responses: Sequence[str]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """f̂ [n] and κ‖φ‖_{Λ⁻¹} [n]."""
        return self.model.predict(*self.features(messages, responses))


@dataclass(frozen=True)
class LearntCost:
    """A cost model, how it does on contexts that were held out (over all and by user), and what it learnt from."""

    model: CostModel
    heldout: Quality
    by_user: Mapping[str, Quality]
    sources: Sequence[str]
    seconds: float


def learn_cost(
    interactions: Sequence[Interaction], features: Features, cost: Cost, *, holdout: float, seed: int
) -> LearntCost:
    """Fit on some contexts, measure on the others, and fit again on all with what was chosen.

    Raises ``DataError`` when there are too few contexts.
    """
    edited = [i for i in interactions if i.edited is not None]
    check_contexts(len(set(context_groups(i.completion.messages for i in edited).values())))
    train, heldout = split(edited, holdout=holdout, seed=seed)
    if not train or not heldout:
        raise DataError(f"{len(heldout)} of {len(edited)} edits held out to measure a cost model on: raise --holdout")
    check_contexts(len(set(context_groups(i.completion.messages for i in train).values())))
    examples = _examples([*train, *heldout], features, cost)
    started = time.perf_counter()
    first = fit_cost(examples.take(np.arange(len(train))))
    unseen = examples.take(np.arange(len(train), len(examples)))
    told = (*first.predict(unseen.text, unseen.hidden), unseen.costs)
    users = np.array([(i.edit and i.edit.user_id) or "" for i in heldout])
    by_user = {str(user): measured(*(part[users == user] for part in told)) for user in np.unique(users) if user}
    final = fit_cost(examples, choices=[first.choice])
    ids = [i.completion.id for i in (*train, *heldout)]
    return LearntCost(final, measured(*told), by_user, ids, round(time.perf_counter() - started, 3))


def _examples(interactions: Sequence[Interaction], features: Features, cost: Cost) -> Examples:
    """Every response with its cost."""
    messages = [i.completion.messages for i in interactions]
    responses = [i.completion.response for i in interactions]
    text, hidden = features(messages, responses)
    groups = context_groups(messages)
    _, contexts = np.unique([groups[context_key(x)] for x in messages], return_inverse=True)
    costs = np.array([cost(i.completion.response, i.edited or "") for i in interactions])
    sizes = np.array([max(1.0, len(response.split())) for response in responses])
    return Examples(text, hidden, costs, contexts, sizes)


def write_cost(folder: Path, run: LearntCost, features: Features, cost: Cost) -> dict[str, Any]:
    """Write a cost model into a folder that does not exist yet, and return its manifest."""
    manifest = {
        "kind": LINEAR,
        "base": {"name": features.base.name, "revision": features.base.revision},
        "limits": {"prompt": features.max_prompt, "response": features.max_response},
        "cost": cost.name,
        "kappa": run.model.kappa,
        "choice": asdict(run.model.choice),
        "features": [*TEXT_FEATURES, "log-probability a token"],
        "responses": len(run.sources),
        "heldout": asdict(run.heldout),
        "by_user": {user: asdict(found) for user, found in run.by_user.items()},
        "seconds": run.seconds,
        "versions": versions(),
    }
    with whole(folder, ROOT) as scratch:
        scratch.mkdir()
        np.savez(scratch / ARRAYS, **run.model.arrays())  # pyright: ignore[reportArgumentType]
        write_json(scratch / MANIFEST, manifest)
        write_sources(scratch, run.sources)
    return manifest


def read_cost(folder: Path) -> tuple[CostModel, dict[str, Any]]:
    """Read a cost model and its manifest; raises ``DataError`` where there is none, or one of an earlier kind."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        if (kind := manifest.get("kind", LINEAR)) != LINEAR:
            raise DataError(f"{folder}: a cost model of kind {kind}, which is gone: redraft train cost makes another")
        with np.load(folder / ARRAYS) as arrays:
            return CostModel.from_arrays(dict(arrays), manifest["kappa"], manifest["choice"]), manifest
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: not a cost model ({error}): redraft train cost makes one") from error


def read_bound(
    root: Path, task: str, base: Base, cache: Path, cost: Cost | None = None, *, pessimism: float = 1.0
) -> Bound:
    """The latest cost model of a task below a folder of policies, ready to price texts.

    Raises ``DataError`` where there is none, or it is of another base model or, if it matters, another cost.
    """
    found = sorted(root.glob(f"{task}/cost@*/{MANIFEST}"), key=lambda file: int(file.parent.name.rpartition("@")[2]))
    if not found:
        raise DataError(f"task {task!r} has no cost model in {root}: redraft train cost {task} makes one")
    folder = found[-1].parent
    model, manifest = read_cost(folder)
    learnt = f"{manifest['base']['name']}:{manifest['base']['revision']}"
    for what, was, wanted in (
        ("base model", base.identity if learnt in base.identities else learnt, base.identity),
        ("cost", manifest["cost"], cost.name if cost else manifest["cost"]),
    ):
        if was != wanted:
            raise DataError(f"{folder}: learnt with {what} {was}, not {wanted}: run redraft train cost {task}")
    limits = manifest["limits"]
    return Bound(model, Features(base, cache, limits["prompt"], limits["response"]), pessimism)
