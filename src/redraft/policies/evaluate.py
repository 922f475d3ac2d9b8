"""How policies do on held-out human edits: how likely they find the texts, and what they write themselves.

The human edited the *log's* draft, not the policy's answer, so no edit cost of a policy can be read off such data. What
can be: the likelihood of the human's text, which of the two texts the policy prefers, and how far its own answer, in
the task's decoding, is from the human's. Every number has a bootstrap interval over interactions.

``Measure`` is the small form that ends each training run: mean distances of a policy and of the base model, which
decide whether it is served by default (``redraft.policies.store``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from redraft.policies.adapter import AdapterHost
from redraft.policies.base import BASE
from redraft.stats import Interval, compare, mean_interval
from redraft.train.run import Progress, counter
from redraft.train.start import fitting, reference_model
from redraft.types import Decoding, Interaction

if TYPE_CHECKING:
    from redraft.costs import Cost
    from redraft.lm.load import Base
    from redraft.policies.adapter import AdapterPolicy
    from redraft.train.packing import Limits, Triple
    from redraft.train.reference import Reference

__all__ = ["Evaluation", "Measure", "degenerate", "evaluate", "verdict"]

MOST = 64  # edits that a run's answers are measured on: a fixed choice, by their ids


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One policy on one held-out set. Each number is a mean with its interval, ``None`` where there are no pairs.

    ``log_likelihood``: log π(y'|x) per token, averaged over texts, in nats. ``prefers_edit``: share of pairs in which
    log π(y') > log π(y), each per token. ``prefers_edit_over_reference``: the same of the log-ratios to the base model
    (whole texts, as eq. 4), nothing for the base itself. ``distance``: Δ(own answer, y'). ``draft_distance``: Δ(y, y'),
    what the human did pay for the log's draft. ``against_base``: ``distance`` minus the base model's on the same texts.
    ``degenerate``: the share of answers that are empty or repeat themselves. ``verdict``: a sentence; none for base.
    """

    policy: str
    log_likelihood: Interval
    prefers_edit: Interval | None
    prefers_edit_over_reference: Interval | None
    distance: Interval
    draft_distance: Interval
    against_base: Interval | None
    degenerate: float
    verdict: str
    examples: list[dict[str, str]]


def evaluate(
    base: Base,
    adapters: Mapping[str, Path],
    heldout: Sequence[Interaction],
    cost: Cost,
    *,
    limits: Limits,
    cache: Path,
    decoding: Decoding,
    progress: Progress,
) -> list[Evaluation]:
    """Evaluate the base model and every adapter (name → folder) on interactions that have an edit."""
    from redraft.train.packing import encode
    from redraft.train.reference import reference_logprobs

    for folder in adapters.values():
        fitting(base, folder)
    triples = encode(heldout, base.tokenizer, limits)
    reference = reference_logprobs(base, triples, cache, on_batch=counter(progress, "reference", len(triples)))
    names = [BASE, *adapters]
    believed: dict[str, dict[str, list[float]]] = {}
    for number, name in enumerate(names, 1):  # before the host puts its adapters into the base model
        believed[name] = _believed(base, adapters.get(name), triples, reference)
        progress("scoring", number, len(names))
    host = AdapterHost(base, max_prompt=limits.prompt)
    found: list[Evaluation] = []
    edits, own = [i.edited or "" for i in heldout], dict[str, list[float]]()
    for number, name in enumerate(names, 1):
        policy = host.policy() if name == BASE else host.load(name, adapters[name])
        answers = policy.respond([i.completion.messages for i in heldout], decoding)
        own[name] = [cost(answer, edited) for answer, edited in zip(answers, edits, strict=True)]
        found.append(_evaluation(name, believed[name], answers, heldout, cost=cost, own=own))
        progress("answering", number, len(names))
    return found


@dataclass(frozen=True)
class Measure:
    """Mean Δ(answer, y') of a finished run's policy and of the base model, on edits that the run held out.

    ``against_base`` is the 95 % interval of their difference.

    ``known`` keeps the base model's distances by completion, for all runs that share one ``Measure``.
    """

    base: Base
    interactions: Sequence[Interaction]
    cost: Cost
    decoding: Decoding
    progress: Progress
    known: dict[str, float] = field(default_factory=dict[str, float])

    def __call__(self, folder: Path, heldout: Collection[str]) -> dict[str, Any]:
        """What a manifest keeps as ``evaluation``; ``heldout`` are ids of completions, ``folder`` the policy's."""
        ids = set(sorted(set(heldout), key=lambda each: hashlib.sha256(each.encode()).digest())[:MOST])
        edits = [i for i in self.interactions if i.completion.id in ids]
        missing = [i for i in edits if i.completion.id not in self.known]
        advance = counter(self.progress, "answering", len(edits) + len(missing))
        host = AdapterHost(self.base, max_prompt=fitting(self.base, folder).limits.get("prompt"), on_batch=advance)
        try:
            self.known.update(self._distances(host.policy(), missing))
            own = self._distances(host.load("measured", folder), edits)
        finally:
            host.close()
        base = [self.known[each] for each in own]
        against = compare([*own.values()], base).difference
        return {
            "distance": fmean(own.values()),
            "base_distance": fmean(base),
            "against_base": [against.low, against.high],
            "edits": len(own),
            "cost": self.cost.name,
            "decoding": self.decoding.logged,
            "model": self.base.identity,
        }

    def _distances(self, policy: AdapterPolicy, edits: Sequence[Interaction]) -> dict[str, float]:
        answers = policy.respond([i.completion.messages for i in edits], self.decoding)
        return {i.completion.id: self.cost(y, i.edited or "") for i, y in zip(edits, answers, strict=True)}


def _believed(
    base: Base, adapter: Path | None, triples: Sequence[Triple], reference: Reference
) -> dict[str, list[float]]:
    """Score the triples with a policy; the base model is as it was afterwards."""
    from redraft.lm.load import compute_dtype
    from redraft.lm.logprobs import frozen_head
    from redraft.train.scoring import score

    with reference_model(base, adapter) as policy:  # which any policy may be
        model = policy.model.requires_grad_(False)
        scores = score(model, triples, reference, pad=base.pad, head=frozen_head(model, compute_dtype()))
    up, down = scores.above_reference
    return {
        "log_likelihood": (scores.chosen / scores.chosen_tokens).tolist(),
        "prefers_edit": scores.prefers_edit.double().tolist(),
        "prefers_edit_over_reference": [] if adapter is None else (up > down).double().tolist(),
    }


def verdict(own: Interval, base: Interval, against: Interval, degenerate: float) -> str:
    """Say in a sentence how far a policy's answers are from the edited texts beside the base model's."""
    moved = f"{base.mean:.2f} → {own.mean:.2f}"
    if degenerate >= 0.5:
        return f"broken, do not serve: {degenerate:.0%} of its answers are empty or repeat themselves ({moved})"
    if against.low > base.mean:  # surely more than twice as far
        return f"broken, do not serve: much farther from the edited texts than base, {moved}"
    if against.high < 0:
        return f"better than base, {moved}"
    return f"worse than base, {moved}" if against.low > 0 else f"cannot be told from base, {moved}"


def degenerate(text: str) -> bool:
    """Whether an answer is empty, or of a dozen words and more at most a third are different ones."""
    words = text.lower().split()
    return not words or (len(words) >= 12 and len(set(words)) <= len(words) / 3)


def _evaluation(
    name: str,
    believed: Mapping[str, list[float]],
    answers: Sequence[str],
    heldout: Sequence[Interaction],
    *,
    cost: Cost,
    own: Mapping[str, Sequence[float]],
) -> Evaluation:
    """Put one policy's numbers together; ``own`` has the distances of its answers, and of the base model's."""
    drafts = [cost(i.completion.response, i.edited or "") for i in heldout]
    intervals = {key: mean_interval(values) if values else None for key, values in believed.items()}
    likelihood = intervals.pop("log_likelihood")
    assert likelihood is not None
    distance, base, broken = mean_interval(own[name]), mean_interval(own[BASE]), fmean(map(degenerate, answers))
    against = None if name == BASE else compare(own[name], own[BASE]).difference
    examples = [
        {"draft": i.completion.response, "edited": i.edited or "", "own": answer}
        for i, answer in list(zip(heldout, answers, strict=True))[:3]
    ]
    return Evaluation(
        name,
        likelihood,
        **intervals,
        distance=distance,
        draft_distance=mean_interval(drafts),
        against_base=against,
        degenerate=broken,
        verdict="" if against is None else verdict(distance, base, against, broken),
        examples=examples,
    )
