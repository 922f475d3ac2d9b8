"""How policies do on held-out human edits: how likely they find the texts, and what would be left to edit.

*Held-out edit cost* is the mean of Δ(π(x), y'), the policy's own answers, made as they will be served, against what
people made of other drafts. It is what a person who wants y' would still have to change, and errs by anchoring: y'
favours whatever resembles the draft it was made from (``redraft.edit_cost``, which says when two policies can be
told apart). Beside it stand the likelihood of the human's text and which of the two texts a policy prefers.

``Measure`` is the small form that ends each training run, on edits that chose nothing: it decides whether a policy is
served by default (``redraft.policies.store``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from redraft.edit_cost import LEAST, Difference, Priced, Standing, Verdict, against, anchoring_bias
from redraft.policies.adapter import AdapterHost
from redraft.policies.base import BASE
from redraft.stats import Interval, mean_interval
from redraft.train.heldout import some
from redraft.train.run import Progress, counter
from redraft.train.start import fitting, reference_model
from redraft.types import Contexts, Decoding, Interaction

if TYPE_CHECKING:
    from redraft.costs import Cost
    from redraft.lm.load import Base
    from redraft.train.packing import Limits, Triple
    from redraft.train.reference import Reference

__all__ = [
    "Asked",
    "Evaluation",
    "Measure",
    "author_of",
    "degenerate",
    "evaluate",
    "first",
    "recommendation",
    "verdict",
]

MOST = 64  # edits that a run's answers are measured on: a fixed choice, by their ids
_OWN = "own"  # the run's policy among those it is compared with, until it has a name
GROUPS = 20  # users or domains that an evaluation names, those with most edits

Asked = Callable[[AdapterHost, Contexts], Sequence[str]]
"""Whatever else answers contexts, as it is served: an upstream, the best of several of a host's answers."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One policy on one held-out set. Each number is a mean with its interval, ``None`` where there are no pairs.

    ``log_likelihood``: log π(y'|x) per token, averaged over texts, in nats. ``prefers_edit``: share of pairs in which
    log π(y') > log π(y), each per token. ``prefers_edit_over_reference``: the same of the log-ratios to the base model
    (whole texts, as eq. 4), nothing for the base itself. A policy that was only asked has none of these three.
    ``distance``: Δ(own answer, y'), the held-out edit cost. ``draft_distance``: Δ(y, y'),
    what the human did pay for the log's draft. ``against_base``: what its answers cost more than the base model's, of
    which kind that comparison is, and whether it tells them apart (``redraft.edit_cost``).
    ``degenerate``: the share of answers that are empty or repeat themselves. ``verdict``: a sentence; none for base.
    ``groups``: the mean distance and the number of edits, by user and by domain, where there are several.
    """

    policy: str
    log_likelihood: Interval | None
    prefers_edit: Interval | None
    prefers_edit_over_reference: Interval | None
    distance: Interval
    draft_distance: Interval
    against_base: Interval | None
    standing: Standing | None
    told: Verdict | None
    degenerate: float
    verdict: str
    groups: dict[str, dict[str, tuple[float, int]]]
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
    others: Mapping[str, Asked] | None = None,
) -> tuple[list[Evaluation], Interval | None, Difference | None]:
    """Evaluate base, every adapter (name → folder) and whatever else answers on interactions that have an edit.

    Returns with it the anchoring bias of these edits, where two of the policies wrote enough of their drafts, and the
    comparison of the two, of several, whose answers leave least to edit, the best first.
    """
    from redraft.train.packing import encode
    from redraft.train.reference import reference_logprobs

    for folder in adapters.values():
        fitting(base, folder)
    triples = encode(heldout, base.tokenizer, limits)
    reference = reference_logprobs(base, triples, cache, on_batch=counter(progress, "reference", len(triples)))
    names, others = [BASE, *adapters], others or {}
    believed: dict[str, dict[str, list[float]]] = {}
    for number, name in enumerate(names, 1):  # before the host puts its adapters into the base model
        believed[name] = _believed(base, adapters.get(name), triples, reference)
        progress("scoring", number, len(names))
    contexts, total = [i.completion.messages for i in heldout], len(heldout) * len(names)
    host = AdapterHost(base, max_prompt=limits.prompt, on_batch=counter(progress, "answering", total))
    for name, folder in adapters.items():
        host.load(name, folder)
    answers = dict(zip(names, host.respond_many([(name, contexts) for name in names], decoding), strict=True))
    answers |= {name: list(asked(host, contexts)) for name, asked in others.items()}
    own = {name: [*map(cost, texts, (i.edited or "" for i in heldout))] for name, texts in answers.items()}
    priced = _priced(heldout, own, cost, base)
    bias = anchoring_bias(priced)
    told = {name: None if name == BASE else against(name, BASE, priced, bias) for name in answers}
    return (
        [
            _evaluation(
                name, believed.get(name, {}), texts, heldout, cost=cost, own=own[name], base=own[BASE], told=told[name]
            )
            for name, texts in answers.items()
        ],
        bias,
        first(own, priced, bias),
    )


def first(own: Mapping[str, Sequence[float]], priced: Sequence[Priced], bias: Interval | None) -> Difference | None:
    """The policy whose answers leave least to edit beside the next."""
    if len(own) < 2:
        return None
    best, other = sorted(own, key=lambda name: fmean(own[name]))[:2]
    found = against(best, other, priced, bias)  # which may know better than the means, that favour drafts' authors
    return against(other, best, priced, bias) if found.told == "worse" else found


def author_of(interaction: Interaction, base: Base) -> str:
    """The policy of ours that wrote a draft, as comparisons name it; "" where another model, or nobody knows which."""
    completion = interaction.completion
    if completion.model not in base.identities | {base.name}:
        return ""
    return completion.policy or BASE


def _priced(edits: Sequence[Interaction], own: Mapping[str, Sequence[float]], cost: Cost, base: Base) -> list[Priced]:
    """Each edit with what the policies' answers cost under it."""
    return [
        Priced(
            i.completion.id,
            author_of(i, base),
            cost(i.completion.response, i.edited or ""),
            {name: prices[number] for name, prices in own.items()},
        )
        for number, i in enumerate(edits)
    ]


@dataclass(frozen=True)
class Measure:
    """Held-out edit cost of a finished run's policy and of what it is compared with, on edits that chose nothing.

    That is the base model, and the policy that the run started from (full name and folder), if it did.
    ``known`` keeps their distances by policy and completion, for all runs that share one ``Measure``.
    """

    base: Base
    cost: Cost
    decoding: Decoding
    progress: Progress
    start: tuple[str, Path] | None = None
    known: dict[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])

    def __call__(self, folder: Path, heldout: Sequence[Interaction]) -> dict[str, Any]:
        """What a manifest keeps as ``evaluation`` of the policy in ``folder``."""
        edits, folders = some(heldout, MOST), {_OWN: folder}
        if self.start is not None:
            folders[self.start[0]] = self.start[1]
        asked = {name: [i for i in edits if (name, i.completion.id) not in self.known] for name in (BASE, *folders)}
        advance = counter(self.progress, "answering", sum(map(len, asked.values())))
        host = AdapterHost(self.base, max_prompt=fitting(self.base, folder).limits.get("prompt"), on_batch=advance)
        try:
            for name, place in folders.items():
                host.load(name, place)
            contexts = [(name, [i.completion.messages for i in missing]) for name, missing in asked.items()]
            answers = host.respond_many(contexts, self.decoding)
        finally:
            host.close()
        found = {
            (name, i.completion.id): self.cost(y, i.edited or "")
            for (name, missing), texts in zip(asked.items(), answers, strict=True)
            for i, y in zip(missing, texts, strict=True)
        }
        self.known.update({key: distance for key, distance in found.items() if key[0] != _OWN})
        own = {name: [(found | self.known)[name, i.completion.id] for i in edits] for name in asked}
        return self._told(own, _priced(edits, own, self.cost, self.base))

    def _told(self, own: Mapping[str, Sequence[float]], priced: Sequence[Priced]) -> dict[str, Any]:
        found: dict[str, Any] = {"distance": fmean(own[_OWN])}
        for what, name in (("base", BASE), *((("start", self.start[0]),) if self.start else ())):
            told = against(_OWN, name, priced, anchoring_bias(priced))
            found |= {
                f"{what}_distance": fmean(own[name]),
                f"against_{what}": [told.difference.low, told.difference.high],
                f"{what}_standing": told.standing,
                f"{what}_edits": told.edits,
            }
        return found | {
            "edits": len(priced),
            "cost": self.cost.name,
            "decoding": self.decoding.logged,
            "model": self.base.identity,
        }


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


def verdict(own: Interval, base: Interval, found: Difference, degenerate: float) -> str:
    """Say in a sentence what a policy's answers leave to edit beside the base model's."""
    moved = f"{base.mean:.2f} → {own.mean:.2f}"
    if degenerate >= 0.5:
        return f"broken, do not serve: {degenerate:.0%} of its answers are empty or repeat themselves ({moved})"
    if found.difference.low > base.mean:  # surely more than twice as far
        return f"broken, do not serve: much farther from the edited texts than base, {moved}"
    if found.told is not None:
        return f"{found.told} than base, {moved}"
    why = ""
    if found.edits < LEAST:
        why = f": {found.edits} edits are too few"
    elif found.standing == "undecided" and found.difference.mean > 0:
        why = ": base wrote these drafts, and edits favour whoever did"
    return f"cannot be told from base, {moved}{why}"


def recommendation(found: Difference, best: float, other: float) -> str:
    """Say which policy leaves least to edit, from its comparison with the next and both mean distances."""
    said = f"{found.one} leaves least to edit, {best:.2f}; next {found.other}, {other:.2f}"
    if found.told == "better":
        return said
    few = f": {found.edits} edits are too few" if found.edits < LEAST else ""
    return f"{said}, which cannot be told from it{few}"


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
    own: Sequence[float],
    base: Sequence[float],
    told: Difference | None,
) -> Evaluation:
    """Put one policy's numbers together; ``own`` and ``base`` are distances of its answers and the base model's."""
    drafts = [cost(i.completion.response, i.edited or "") for i in heldout]
    intervals = {key: mean_interval(values) if values else None for key, values in believed.items()}
    distance, broken = mean_interval(own), fmean(map(degenerate, answers))
    examples = [
        {"draft": i.completion.response, "edited": i.edited or "", "own": answer}
        for i, answer in list(zip(heldout, answers, strict=True))[:3]
    ]
    return Evaluation(
        name,
        *(intervals.get(key) for key in ("log_likelihood", "prefers_edit", "prefers_edit_over_reference")),
        distance=distance,
        draft_distance=mean_interval(drafts),
        against_base=None if told is None else told.difference,
        standing=None if told is None else told.standing,
        told=None if told is None else told.told,
        degenerate=broken,
        verdict="" if told is None else verdict(distance, mean_interval(base), told, broken),
        groups=_groups(heldout, own),
        examples=examples,
    )


def _groups(heldout: Sequence[Interaction], own: Sequence[float]) -> dict[str, dict[str, tuple[float, int]]]:
    """Mean distance and number of edits of each user and each domain, where there are two or more."""
    found: dict[str, dict[str, list[float]]] = {"user": defaultdict(list), "domain": defaultdict(list)}
    for i, distance in zip(heldout, own, strict=True):
        user = i.completion.user_id if i.edit is None or i.edit.user_id is None else i.edit.user_id
        for what, name in (("user", user), ("domain", i.completion.metadata.get("domain"))):
            if name is not None:
                found[what][str(name)].append(distance)
    largest = {what: sorted(by.items(), key=lambda one: -len(one[1]))[:GROUPS] for what, by in found.items()}
    return {
        what: {name: (fmean(costs), len(costs)) for name, costs in by} for what, by in largest.items() if len(by) > 1
    }
