"""Held-out edit cost of a model in training: how much a person would still have to change in what it answers.

The mean of Δ(π(x), y') over held-out edits (x, y, y'), answers made as they will be served. It stands in for the cost
of edits that nobody has made yet, and errs by anchoring: y' was made from y, and so favours what resembles y. Between
epochs and trials of one run this is the same for all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from redraft.errors import ConfigError
from redraft.lm.encode import encode_prompt
from redraft.lm.trim import trim
from redraft.train.options import RL
from redraft.types import Interaction

if TYPE_CHECKING:
    from redraft.train.run import Run
    from redraft.train.scoring import Scores

__all__ = ["MOST_CHOOSING", "choice", "heldout_cost", "some"]

MOST_CHOOSING = 32  # edits that are answered after each epoch
LIKELIHOOD = 2  # edits that the likelihood of edited texts counts as


def some(edits: Sequence[Interaction], most: int) -> list[Interaction]:
    """At most so many of them: a fixed choice, by their ids."""
    return sorted(edits, key=lambda each: hashlib.sha256(each.completion.id.encode()).digest())[:most]


def heldout_cost(run: Run, model: Any) -> float:
    """Mean Δ of a model's answers to the edits that choose, in units of the task's cost.

    Raises ``ModelError`` for a model that cannot answer here.
    """
    from redraft.lm.generate import generate

    assert run.answering is not None
    training, tokenizer = model.training, run.base.tokenizer
    edits = some(run.data.choosing, MOST_CHOOSING)
    prompts = [encode_prompt(tokenizer, i.completion.messages, run.options.max_prompt) for i in edits]
    plain, decoding = model.eval().get_base_model(), run.answering.decoding
    try:  # without the trainer's wrapper, which multiplies in bfloat16 where it can: served answers do not
        answers = generate(plain, tokenizer, prompts, decoding)
    except ConfigError:  # a policy that has gone astray may write in float32 only
        answers = generate(plain, tokenizer, prompts, replace(decoding, precision="float32"))
    finally:
        model.train(training)
    return fmean(run.answering.cost(trim(y), i.edited or "") for y, i in zip(answers, edits, strict=True))


def choice(run: Run, cost: float, before: float, scores: Scores) -> float:
    """What chooses by held-out edit cost, lower is better: cost and NLL of y', each in units of the start's, weighed.

    Few answers are a rough measure, and which epoch writes the edited texts likelier says something too: as much as
    ``LIKELIHOOD`` edits (results/epochs). RL, which may learn from samples alone, is chosen by cost.
    """
    if run.options.method == RL:
        return cost
    known = {each.completion.id for each in run.data.choosing}
    rows = [place for place, triple in enumerate(run.data.heldout) if triple.id in known]
    edits = min(len(rows), MOST_CHOOSING)
    nll = float(scores.chosen[rows].sum() / scores.ref_chosen[rows].sum())
    return (edits * cost / (before or 1.0) + LIKELIHOOD * nll) / (edits + LIKELIHOOD)
