"""Logged edits as a tokenised data set, split by context once for all methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redraft.data import parts
from redraft.errors import ConfigError, DataError
from redraft.lm.limits import context_of
from redraft.lm.load import Base
from redraft.train.options import TrainOptions
from redraft.train.packing import Limits, Triple, encode, fingerprint
from redraft.types import Interaction

__all__ = ["Dataset", "foreign_policies", "prepare"]

BASE = "base"  # the base model as a policy; redraft.policies has the same name for it


@dataclass(frozen=True)
class Dataset:
    """A tokenised data set, split once for every method.

    What is held out has two parts, ``choosing`` and ``reporting``, of different contexts: what was chosen by some edits
    looks too good on them. With a single context there is none to choose by.
    """

    train: list[Triple]
    heldout: list[Triple]
    choosing: list[Interaction] = field(default_factory=list[Interaction])
    reporting: list[Interaction] = field(default_factory=list[Interaction])

    @property
    def counts(self) -> dict[str, Any]:
        """What each signal has to learn from; rows with y' = y teach SFT and no preference."""
        pairs = sum(t.rejected is not None for t in self.train)
        return {
            "fingerprint": fingerprint([*self.train, *self.heldout]),
            "train": len(self.train),
            "train_pairs": pairs,
            "train_unchanged": len(self.train) - pairs,
            "heldout": len(self.heldout),
            "heldout_pairs": sum(t.rejected is not None for t in self.heldout),
            "cut": sum(t.cut for t in [*self.train, *self.heldout]),
        }


def prepare(interactions: Sequence[Interaction], base: Base, options: TrainOptions) -> Dataset:
    """Split by context and tokenise.

    Raises ``DataError`` when a side would be empty that must not be, and ``ConfigError`` when prompt and response
    together may be longer than the model's context.
    """
    context, longest = context_of(base.model), options.max_prompt + options.max_response
    if context is not None and longest > context:
        raise ConfigError(f"max_prompt + max_response = {longest}: {base.name} reads {context} tokens, lower one")
    edited = [i for i in interactions if i.edited is not None]
    train, choosing, reporting = parts(edited, holdout=options.holdout, seed=options.seed)
    if not train or (options.holdout and not reporting):
        raise DataError(f"{len(edited)} edits in too few distinct contexts to train and to hold out: log more edits")
    limits = Limits(options.max_prompt, options.max_response)
    heldout = sorted([*choosing, *reporting], key=lambda each: each.completion.id)
    learned, held = (encode(part, base.tokenizer, limits) for part in (train, heldout))
    return Dataset(learned, held, choosing, reporting)


def foreign_policies(interactions: Sequence[Interaction], base: Base, start: str = "") -> list[str]:
    """Who wrote this log, where it was not π_ref: the reference must be the policy that wrote y (spec §2).

    π_ref is the base model, or the policy ``start`` on it.
    """
    models = {i.completion.model or "an unknown model" for i in interactions} - {*base.identities, base.name}
    others = {i.completion.policy for i in interactions} - {"", start or BASE}
    return sorted(models | others)
