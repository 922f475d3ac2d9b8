"""Eq. 6 off-line: price existing responses, and give them to the trainer as pairs with a gap.

Two solvers of min E_{y~π}[f̄(x, y) + β log(π/π_ref)] with one loss (``losses.py``): two responses are asked to differ in
log-ratio by the difference of their prices over β. *Regression*: each logged pair, y' at the price 0; it may be what
π_ref would not write. *Contrast*: of K responses that π_ref draws for each context, once, the cheapest and the dearest.
What π_ref never writes they cannot teach. Held-out contexts are priced alike, and their loss chooses the epoch.

``Tracker`` follows a run on answers of its own: what the bound predicts for them, and the KL from π_ref. Left out:
on-policy rollouts. A response that the token limit cut counts as one that ended there, as it does in the log.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from redraft.files import CACHE, write_text
from redraft.lm.encode import encode_prompt
from redraft.lm.generate import generate, generate_ids, spoken, stop_tokens
from redraft.lm.load import Base
from redraft.train.cost_run import Bound
from redraft.train.dataset import Dataset, prepare
from redraft.train.options import TrainOptions
from redraft.train.packing import Limits, Triple, encode
from redraft.train.run import Run
from redraft.train.scoring import score
from redraft.train.start import reference_model
from redraft.types import Contexts, Decoding, Edit, Interaction

__all__ = ["Tracker", "draw_samples", "prepare_rl", "priced_run"]

SEEDS = 1_000_003  # apart enough that the samples of two seeds never coincide


def prepare_rl(
    interactions: Sequence[Interaction],
    bound: Bound,
    options: TrainOptions,
    cache: Path,
    *,
    start: Path | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Dataset:
    """Split as ``prepare`` does, and give the trainer what eq. 6 needs of both sides.

    π_ref is the policy in ``start``, or the base model. ``on_batch`` counts responses as they are drawn. Raises
    ``DataError`` as ``prepare`` does, and ``ConfigError`` when the cache cannot be written.
    """
    base = bound.features.base
    data = prepare(interactions, base, options)
    by_id = {i.completion.id: i for i in interactions}
    decoding = _decoding(interactions, options)
    parts: list[list[Triple]] = []
    for triples in (data.train, data.heldout):
        side = [by_id[triple.id] for triple in triples]
        if options.solver == "regression":
            parts.append(_gaps(triples, side, bound))
            continue
        with reference_model(base, start) as reference:
            messages = [i.completion.messages for i in side]
            drawn = draw_samples(reference, messages, options, decoding, cache, on_batch=on_batch)
        parts.append(_contrasted(side, drawn, bound, options))
    return replace(data, train=parts[0], heldout=parts[1])


def draw_samples(
    base: Base,
    contexts: Contexts,
    options: TrainOptions,
    decoding: Decoding,
    cache: Path,
    *,
    on_batch: Callable[[int], None] | None = None,
) -> list[list[str]]:
    """K responses of π_ref, which ``base`` is here, to each context, drawn once and kept: K for each context."""
    prompts = [encode_prompt(base.tokenizer, messages, options.max_prompt) for messages in contexts]
    key = json.dumps(
        [base.identity, str(base.model.dtype), prompts, options.samples, options.seed, decoding.max_new_tokens]
    )
    file = cache / "samples" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    known = base.revision != "unknown"
    if known and file.exists():
        return json.loads(file.read_text("utf-8"))
    k = options.samples
    repeated = [prompt for prompt in prompts for _ in range(k)]
    seeds = [options.seed * SEEDS + number for number in range(k)] * len(prompts)
    found = generate(base.model.eval(), base.tokenizer, repeated, decoding, on_batch=on_batch, seeds=seeds)
    drawn = [found[place : place + k] for place in range(0, len(found), k)]
    if known:
        write_text(file, json.dumps(drawn, ensure_ascii=False), CACHE)
    return drawn


@dataclass(frozen=True)
class Tracker:
    """A policy's own answers to contexts [n], one each at temperature 1: their price, and how far they are from π_ref.

    ``own_cost`` is the mean bound, in units of the cost, and ``own_below_zero`` the share of bounds below 0, counted as
    0; ``own_kl`` the mean of log π(y|x) − log π_ref(y|x) over the answers, an unbiased estimate of KL(π‖π_ref) in
    nats a response. Only a user can tell whether a lower price is real.
    """

    bound: Bound
    contexts: Contexts
    options: TrainOptions
    decoding: Decoding

    def __call__(self, model: Any, as_reference: Callable[[], AbstractContextManager[None]]) -> dict[str, float]:
        """Measure a model in training (``redraft.train.run.Track``)."""
        base, options = self.bound.features.base, self.options
        prompts = [encode_prompt(base.tokenizer, messages, options.max_prompt) for messages in self.contexts]
        training = model.training
        model.eval()
        decoding = replace(self.decoding, seed=options.seed * SEEDS - 1)  # no sample's
        stop = stop_tokens(model, base.tokenizer)
        answers = generate_ids(model.get_base_model(), prompts, decoding, stop)  # in float32, as they are served
        triples = [Triple(str(n), x, y, None) for n, (x, y) in enumerate(zip(prompts, answers, strict=True))]
        nothing = {triple.id: (0.0, 0.0) for triple in triples}
        own = score(model, triples, nothing, pad=base.pad, head=None).chosen
        with as_reference():
            reference = score(model, triples, nothing, pad=base.pad, head=None).chosen
        texts = [spoken(base.tokenizer, ids, stop) for ids in answers]
        with model.disable_adapter():
            bounds = self.bound(self.contexts, texts)
        model.train(training)
        costs, below = np.maximum(bounds, 0.0), float((bounds < 0).mean())  # no edit costs less than nothing
        return {"own_cost": float(costs.mean()), "own_below_zero": below, "own_kl": float((own - reference).mean())}


def priced_run(run: Run, interactions: Sequence[Interaction], bound: Bound) -> Run:
    """The run, measured on the contexts that are held out of these interactions."""
    if not run.data.heldout:
        return run
    messages = {i.completion.id: i.completion.messages for i in interactions}
    held = [messages[triple.id] for triple in run.data.heldout]
    return replace(run, track=Tracker(bound, held, run.options, _decoding(interactions, run.options)))


def _decoding(interactions: Sequence[Interaction], options: TrainOptions) -> Decoding:
    """Samples of π itself, as long as those of the log might become where it says so."""
    said = [int((i.completion.decoding or {}).get("max_new_tokens", 0)) for i in interactions]
    return Decoding(min(max(said) or options.max_response, options.max_response - 1), temperature=1.0)


def _contrasted(
    side: Sequence[Interaction], drawn: Sequence[Sequence[str]], bound: Bound, options: TrainOptions
) -> list[Triple]:
    """The cheapest sample of each context against its dearest, with what that one costs more."""
    triples: list[Triple] = []
    if not side:
        return triples
    messages = [i.completion.messages for i, part in zip(side, drawn, strict=True) for _ in part]
    prices = bound(messages, [y for part in drawn for y in part]).reshape(len(side), -1)  # [contexts, K]
    for interaction, responses, costs in zip(side, drawn, prices, strict=True):
        best, worst = responses[int(costs.argmin())], responses[int(costs.argmax())]
        completion = replace(interaction.completion, response=worst)
        limits = Limits(options.max_prompt, options.max_response)
        edit = Edit(completion.id, best)
        made = encode([Interaction(completion, edit)], bound.features.base.tokenizer, limits)
        triples += [replace(triple, gap=float(np.ptp(costs))) for triple in made]
    return triples


def _gaps(triples: Sequence[Triple], side: Sequence[Interaction], bound: Bound) -> list[Triple]:
    """Every pair with the predicted cost of y; y' costs nothing, as its author showed by writing it."""
    if not triples:
        return []
    worse = bound.at_most([i.completion.messages for i in side], [i.completion.response for i in side])
    return [replace(t, gap=float(gap)) for t, gap in zip(triples, worse, strict=True)]
