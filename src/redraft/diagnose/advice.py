"""Which methods a log supports. Every threshold is a named constant with its reason.

This is a reading of the paper (arXiv 2601.19055, theorems 1 to 3 and table 1), not a promise: held-out scores decide.
"""

from __future__ import annotations

from dataclasses import dataclass

from redraft.diagnose.measure import POOLED, UNRECORDED, Measures

__all__ = ["Advice", "advise", "cautions", "prefer"]

MIN_EXAMPLES = 100
"""A fifth held out leaves 20, on which a share has a standard error of 0.11: with fewer, no setting can be told from
another. A floor for trying, not for success: the paper has 10,000 and more."""
RISKY_SHARE = 0.2
"""Share of near-duplicates among the pairs from which DPO alone is advised against. A judgement, not a theorem."""
STEADY = 1.0
"""Standard deviation / mean of a user's costs up to which the user counts as steady; 1 is what edits of purely random
(exponential) length show. A stand-in for theorem 1's users who converge, which a log does not show directly."""
MIN_SPREAD = 0.1
"""Standard deviation / mean of all costs below which a cost model has nothing to explain."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Whether the log supports a method, on how many examples (policies, for ``late``), and why."""

    method: str
    supported: bool
    count: int
    reason: str


def advise(measures: Measures) -> tuple[Advice, ...]:
    """Judge each method, in the order of the paper."""
    return (_sft(measures), _dpo(measures), _early(measures), _rl(measures), _late(measures))


def _sft(measures: Measures) -> Advice:
    n, steady = measures.edits, steadiness(measures)
    if measures.changed == 0:
        return Advice("sft", False, n, "Nothing was changed: the edits ask for what the model already does.")
    if n < MIN_EXAMPLES:
        return Advice("sft", False, n, f"{n} targets y', and validation needs at least {MIN_EXAMPLES}.")
    reason = f"{n} targets y'; SFT works where users converge (theorem 1), "
    if steady is None:
        reason += "which only a log that says who edited can show."
    elif steady > STEADY:
        reason += f"but their costs scatter (std/mean {steady:.2f})."
    else:
        reason += f"and they edit steadily (std/mean {steady:.2f})."
    return Advice("sft", True, n, reason)


def _dpo(measures: Measures) -> Advice:
    n = measures.changed
    if n < MIN_EXAMPLES:
        return _too_few_pairs("dpo", n)
    reason = f"{n} pairs y' over y, {measures.near_duplicates / n:.0%} of them near-duplicates: "
    if risky(measures):
        reason += "DPO alone would lower the likelihood of y' too."
    else:
        reason += "few enough for DPO, which does not need users who converge (theorem 2)."
    return Advice("dpo", True, n, reason)


def _early(measures: Measures) -> Advice:
    n = measures.changed
    if n < MIN_EXAMPLES:
        return _too_few_pairs("early", n)
    return Advice("early", True, n, f"{n} pairs; the likelihood of y' in its loss (eq. 7) keeps DPO from lowering it.")


def _too_few_pairs(method: str, n: int) -> Advice:
    return Advice(method, False, n, f"{n} changed pairs, and validation needs at least {MIN_EXAMPLES}.")


def _rl(measures: Measures) -> Advice:
    n, costs = measures.edits, measures.divided
    if n < MIN_EXAMPLES or costs is None:
        return Advice("rl", False, n, f"{n} costs, and validation needs at least {MIN_EXAMPLES}.")
    if costs.std <= MIN_SPREAD * costs.mean:
        return Advice("rl", False, n, f"Costs are all about {costs.mean:.3g}: a cost model has nothing to explain.")
    reason = f"{n} costs with spread (std {costs.std:.3g}) to fit a cost model on; it must be simple (theorem 3)."
    return Advice("rl", True, n, reason)


def _late(measures: Measures) -> Advice:
    n = len(measures.policies)
    if n < 2:
        who = f"only {measures.policies[0].name} was" if n else "no policy was"
        reason = f"Of all that was edited, {who} chosen by a selector: serve at least two policies to compare them."
        return Advice("late", False, n, reason)
    best = min(measures.policies, key=lambda group: group.mean)
    return Advice(
        "late", True, n, f"Edits of {n} policies compare them; so far {best.name} costs least ({best.mean:.3g})."
    )


def prefer(measures: Measures) -> tuple[str, str]:
    """Return the method to train first and why; ``base`` means to go on collecting.

    ``early`` goes before ``dpo`` even without near-duplicates: a sweep of λ from 0 contains DPO, and its mean cost
    over the paper's four settings is the least of all (0.350; Late 0.378, SFT 0.584, DPO 0.645, base 0.723).
    """
    if measures.changed >= MIN_EXAMPLES:
        if risky(measures):
            return "early", "Near-duplicate pairs endanger DPO alone, and the likelihood term of eq. 7 is the cure."
        return "early", "A sweep of its λ from 0 contains DPO, and the paper found no lower mean cost."
    if measures.edits >= MIN_EXAMPLES and measures.changed:
        return "sft", "There are enough targets, but too few changed pairs to learn preferences."
    return "base", f"Too few edits to learn from: collect at least {MIN_EXAMPLES}, better 1,000."


def cautions(measures: Measures) -> tuple[str, ...]:
    """What to keep in mind when training on this log."""
    found: list[str] = []
    unknown, known = measures.models.get(UNRECORDED, 0), len(set(measures.models) - {UNRECORDED})
    if unknown:
        found.append(
            f"{unknown} completions do not say which base model wrote them: the reference π_ref of DPO and RL must be "
            "the policy that wrote the log."
        )
    if known > 1:
        found.append(f"{known} base models wrote this log: train on what each wrote, with it as the reference.")
    if measures.repeated_contexts:
        found.append(
            f"{measures.repeated_contexts} contexts repeat, up to {measures.largest_context} times: split by context."
        )
    if measures.censored:
        found.append(f"{measures.censored} completions never got an edit: silence is not approval, it teaches nothing.")
    return tuple(found)


def risky(measures: Measures) -> bool:
    """Whether near-duplicates make DPO alone unsafe."""
    return measures.near_duplicates >= RISKY_SHARE * max(1, measures.changed)


def steadiness(measures: Measures) -> float | None:
    """Average standard deviation / mean of users' costs, weighted by their edits; ``None`` where no user is known."""
    known = [
        (user.edits, user.variation)
        for user in measures.users
        if user.variation is not None and user.name not in (POOLED, UNRECORDED)
    ]
    return sum(n * variation for n, variation in known) / sum(n for n, _ in known) if known else None
