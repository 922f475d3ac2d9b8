"""How policies do on held-out human edits: what they believe of the texts, and what they write themselves.

The human edited the *log's* draft, not the policy's answer, so no edit cost of a policy can be read off such data. What
can be: the likelihood of the human's text, which of the two texts the policy prefers, and how far its own greedy
answer is from the human's. Every number has a bootstrap interval over interactions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redraft.policies.adapter import AdapterHost
from redraft.policies.base import BASE
from redraft.stats import Interval, mean_interval
from redraft.train.run import Progress, counter
from redraft.train.start import fitting
from redraft.types import Decoding, Interaction

if TYPE_CHECKING:
    from redraft.costs import Cost
    from redraft.lm.load import Base
    from redraft.train.packing import Limits, Triple
    from redraft.train.reference import Reference

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One policy on one held-out set. Each number is a mean with its interval, ``None`` where there are no pairs.

    ``log_likelihood``: log π(y'|x) per token, averaged over texts, in nats. ``prefers_edit``: share of pairs in which
    log π(y') > log π(y), each per token. ``prefers_edit_over_reference``: the same of the log-ratios to the base model
    (whole texts, as eq. 4), nothing for the base itself. ``distance``: Δ(own answer, y'). ``draft_distance``: Δ(y, y'),
    what the human did pay for the log's draft.
    """

    policy: str
    log_likelihood: Interval
    prefers_edit: Interval | None
    prefers_edit_over_reference: Interval | None
    distance: Interval
    draft_distance: Interval
    examples: list[dict[str, str]]


def evaluate(
    base: Base,
    adapters: Mapping[str, Path],
    heldout: Sequence[Interaction],
    cost: Cost,
    *,
    limits: Limits,
    cache: Path,
    max_new_tokens: int,
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
    for number, name in enumerate(names, 1):
        policy = host.policy() if name == BASE else host.load(name, adapters[name])
        answers = policy.respond([i.completion.messages for i in heldout], Decoding(max_new_tokens))
        found.append(_evaluation(name, believed[name], answers, heldout, cost))
        progress("answering", number, len(names))
    return found


def _believed(
    base: Base, adapter: Path | None, triples: Sequence[Triple], reference: Reference
) -> dict[str, list[float]]:
    """Score the triples with a policy; the base model is as it was afterwards."""
    from redraft.lm.load import compute_dtype
    from redraft.lm.logprobs import frozen_head
    from redraft.train.scoring import score

    model: Any = base.model
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(base.model, str(adapter))
    scores = score(
        model, triples, reference, pad=base.pad, head=frozen_head(model.requires_grad_(False), compute_dtype())
    )
    if adapter is not None:
        model.unload()
    up, down = scores.above_reference
    return {
        "log_likelihood": (scores.chosen / scores.chosen_tokens).tolist(),
        "prefers_edit": scores.prefers_edit.double().tolist(),
        "prefers_edit_over_reference": [] if adapter is None else (up > down).double().tolist(),
    }


def _evaluation(
    name: str,
    believed: Mapping[str, list[float]],
    answers: Sequence[str],
    heldout: Sequence[Interaction],
    cost: Cost,
) -> Evaluation:
    edits = [i.edited or "" for i in heldout]
    own = [cost(answer, edited) for answer, edited in zip(answers, edits, strict=True)]
    drafts = [cost(i.completion.response, edited) for i, edited in zip(heldout, edits, strict=True)]
    intervals = {key: mean_interval(values) if values else None for key, values in believed.items()}
    likelihood = intervals.pop("log_likelihood")
    assert likelihood is not None
    examples = [
        {"draft": i.completion.response, "edited": edited, "own": answer}
        for i, edited, answer in list(zip(heldout, edits, answers, strict=True))[:3]
    ]
    return Evaluation(
        name,
        likelihood,
        **intervals,
        distance=mean_interval(own),
        draft_distance=mean_interval(drafts),
        examples=examples,
    )
