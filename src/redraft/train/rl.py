"""Eq. 6 off-line: price responses that are there already, and give them to the trainer as weights or gaps.

Two solvers of min E_{y~π}[f̄(x, y) + β log(π/π_ref)]; ``losses.py`` has their losses. *Projection*: K responses are
drawn from π_ref for each context, once, and count in the likelihood by exp(−f̄/β); what π_ref never writes cannot be
learnt. *Regression*: each logged pair is asked to differ in log-ratio by (f̄(x,y) − f̄(x,y'))/β; y' may be what π_ref
would not write. Held-out contexts are priced alike, and the epoch is chosen by the solver's own loss on them.

Left out: on-policy rollouts, and a reference other than the base model. A response that the token limit cut counts as
one that ended there, as it does in the log.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from redraft.errors import ConfigError
from redraft.lm.encode import encode_prompt, encode_response
from redraft.lm.generate import generate
from redraft.lm.load import Base
from redraft.train.cost_run import Bound
from redraft.train.fit import Dataset, prepare
from redraft.train.losses import projection_weights
from redraft.train.options import TrainOptions
from redraft.train.packing import Limits, Triple
from redraft.types import Decoding, Interaction, Message

__all__ = ["draw_samples", "prepare_rl"]

NEGLIGIBLE = 0.01  # of a context's weight: samples that count less are left out
SEEDS = 1_000_003  # apart enough that the samples of two seeds never coincide

Contexts = Sequence[Sequence[Message]]


def prepare_rl(
    interactions: Sequence[Interaction],
    bound: Bound,
    options: TrainOptions,
    cache: Path,
    *,
    on_batch: Callable[[int], None] | None = None,
) -> Dataset:
    """Split as ``prepare`` does, and give the trainer what eq. 6 needs of both sides.

    ``on_batch`` is told of responses as they are drawn. Raises ``DataError`` as ``prepare`` does, and ``ConfigError``
    when the cache cannot be written.
    """
    base = bound.features.base
    data = prepare(interactions, base, options)
    by_id = {i.completion.id: i for i in interactions}
    sides = [[by_id[triple.id] for triple in side] for side in (data.train, data.heldout)]
    if not options.projects:
        train, heldout = (_gaps(*side, bound) for side in zip((data.train, data.heldout), sides, strict=True))
        return Dataset(train, heldout)
    decoding = _decoding(interactions, options)
    parts: list[list[Triple]] = []
    for side in sides:
        messages = [i.completion.messages for i in side]
        drawn = draw_samples(base, messages, options, decoding, cache, on_batch=on_batch)
        parts.append(_weighted(side, drawn, bound, options))
    return Dataset(*parts)


def draw_samples(
    base: Base,
    contexts: Contexts,
    options: TrainOptions,
    decoding: Decoding,
    cache: Path,
    *,
    on_batch: Callable[[int], None] | None = None,
) -> list[list[str]]:
    """K responses of the base model to each context, drawn once and kept: a list of K for each context."""
    prompts = [encode_prompt(base.tokenizer, messages, options.max_prompt) for messages in contexts]
    key = json.dumps([base.identity, prompts, options.samples, options.seed, decoding.max_new_tokens])
    file = cache / "samples" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    known = base.revision != "unknown"
    if known and file.exists():
        return json.loads(file.read_text("utf-8"))
    drawn: list[list[str]] = [[] for _ in contexts]
    for number in range(options.samples):
        own = replace(decoding, seed=options.seed * SEEDS + number)
        found = generate(base.model.eval(), base.tokenizer, prompts, own, on_batch=on_batch)
        for responses, text in zip(drawn, found, strict=True):
            responses.append(text)
    if known:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            scratch = file.with_suffix(".new")
            scratch.write_text(json.dumps(drawn, ensure_ascii=False), "utf-8")
            scratch.replace(file)
        except OSError as error:
            raise ConfigError(f"cache {cache}: cannot be written ({error.strerror}): set [model] cache") from error
    return drawn


def _decoding(interactions: Sequence[Interaction], options: TrainOptions) -> Decoding:
    """Samples of π itself, as long as those of the log might become where it says so."""
    said = [int((i.completion.decoding or {}).get("max_new_tokens", 0)) for i in interactions]
    return Decoding(min(max(said) or options.max_response, options.max_response - 1), temperature=1.0)


def _weighted(
    side: Sequence[Interaction], drawn: Sequence[Sequence[str]], bound: Bound, options: TrainOptions
) -> list[Triple]:
    """Every sample as a target that counts by its price; those of a context sum to about 1."""
    tokenizer, limits = bound.features.base.tokenizer, Limits(options.max_prompt, options.max_response)
    messages = [i.completion.messages for i in side]
    costs = bound([x for x in messages for _ in range(options.samples)], [y for part in drawn for y in part])
    triples: list[Triple] = []
    for place, (interaction, responses) in enumerate(zip(side, drawn, strict=True)):
        own = torch.from_numpy(costs[place * options.samples : (place + 1) * options.samples])
        prompt = encode_prompt(tokenizer, messages[place], limits.prompt)
        for number, weight in enumerate(projection_weights(own, options.beta).tolist()):
            if weight >= NEGLIGIBLE:
                identity, full = interaction.completion.id, encode_response(tokenizer, responses[number])
                kept = full[: limits.response]
                cut = len(full) > limits.response or len(prompt) == limits.prompt
                made = Triple(f"{identity}/{number}", prompt, kept, None, cut, weight, source=identity)
                triples.append(made)
    return triples


def _gaps(triples: Sequence[Triple], side: Sequence[Interaction], bound: Bound) -> list[Triple]:
    """Every pair with what y costs more than y', as far as the bound can tell."""
    messages = [i.completion.messages for i in side]
    worse = bound(messages, [i.completion.response for i in side])
    better = bound(messages, [i.edited or "" for i in side])
    return [replace(t, gap=float(gap)) for t, gap in zip(triples, worse - better, strict=True)]
