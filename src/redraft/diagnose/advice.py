"""Which methods a log supports and which to train first. Every threshold is a named constant with its reason.

Nearest evidence first: edits of what was served, then how far trained policies' answers are from held-out edits
(``Trained``), then what was measured in results/, on simulated users and a model of 135M. None of it is a promise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from redraft.diagnose.measure import POOLED, UNRECORDED, Measures

__all__ = ["Advice", "Trained", "advise", "cautions", "prefer"]

MIN_EXAMPLES = 2
"""The fewest edits that were seen to suffice, one to learn from and one held out: sft cost 0.68 of base with 2, 0.27
and 0.33 with 4, 0.23 and 0.34 with 20 of simulated users of office emails, 1.15 with 8 of summaries (results/advice).
"""
MANY_EXAMPLES = 64
"""Edits that most of results/ was measured with: sft cost 0.17 to 0.24 of base (demo), 0.29 to 0.68 (cpu), 0.21 and
0.91 (advice)."""
FOREIGN_EXAMPLES = 64
"""Edits of another model's texts with which no policy wrote nearer to people's (results/defacto, results/mlqe)."""
MIN_CONTEXTS = 2
"""One side of a split for each: of a single context nothing can be held out."""
RL_EXAMPLES = 64
"""Fewer were not measured (results/rl)."""
RL_CONTEXTS = 7
"""A cost model is cross-validated over 5 contexts of the four fifths that are not held out."""
MIN_SERVED = 20
"""Edits of each served policy from which their mean costs decide: where std/mean is 1, a standard error of 0.22."""
MIN_HELDOUT = 10
"""Held-out edits from which they tell a policy from base, either way. By 4, dpo was surely nearer and early perhaps by
chance, which then cost less than half of it: a bootstrap of so few is too sure (results/advice, office/weak/20)."""
GROWN = 2.0
"""By what factor a log must grow before policies no better than base are worth training again. A judgement: nearly the
same edits teach nearly the same."""
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


@dataclass(frozen=True, slots=True)
class Trained:
    """A policy of the task: its answers' mean distance from edits its run held out, base's, and these edits' number.

    ``edits`` is how many the run had in all; ``high`` the upper end of the difference's interval, where it was kept.
    """

    policy: str
    method: str
    distance: float
    base_distance: float
    heldout: int
    edits: int
    high: float | None = None

    @property
    def surely_nearer(self) -> bool:
        """Whether it is nearer than base by more than chance, as far as that is known."""
        return self.heldout >= MIN_HELDOUT and (self.farther if self.high is None else self.high) < 0

    @property
    def farther(self) -> float:
        """How much farther than base's its answers are; negative where they are nearer."""
        return self.distance - self.base_distance


def advise(measures: Measures) -> tuple[Advice, ...]:
    """Judge each method, in the order of the paper."""
    return (_sft(measures), _dpo(measures), _early(measures), _rl(measures), _late(measures))


def _sft(measures: Measures) -> Advice:
    n, steady = measures.edits, steadiness(measures)
    if n and not measures.changed:
        return Advice("sft", False, n, "Nothing was changed: the edits ask for what the log's model already does.")
    if why := _too_few(n, "target y'", "targets y'", measures):
        return Advice("sft", False, n, why)
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
    if why := _no_pairs(measures):
        return Advice("dpo", False, n, why)
    reason = f"{n} pairs y' over y, {measures.near_duplicates / n:.0%} of them near-duplicates: "
    if risky(measures):
        reason += "DPO alone would lower the likelihood of y' too."
    else:
        reason += "few enough of those for DPO, which does not need users who converge (theorem 2)."
    return Advice("dpo", True, n, f"{reason} It cost more than sft in every setting of results/cpu.")


def _early(measures: Measures) -> Advice:
    n = measures.changed
    if why := _no_pairs(measures):
        return Advice("early", False, n, why)
    return Advice(
        "early",
        True,
        n,
        f"{n} pairs; the likelihood of y' in its loss (eq. 7) keeps DPO from lowering it. It cost 0.05 to 0.77 more "
        "than sft (results/cpu), and less where a quarter to three quarters of edits were random (results/assumption).",
    )


def _no_pairs(measures: Measures) -> str:
    """Why the pairs are none or too few, or nothing."""
    if measures.edits and not measures.changed:
        return "Nothing was changed: no text is preferred to another."
    return _too_few(measures.changed, "changed pair", "changed pairs", measures)


def _too_few(n: int, one: str, many: str, measures: Measures, least: int = MIN_EXAMPLES) -> str:
    """Why so many examples are not enough, or nothing."""
    if n and measures.contexts < MIN_CONTEXTS:
        return f"{_count(n, one, many)} for one context: nothing can be held out."
    return f"{_count(n, one, many)}; the fewest that sufficed here were {least}." if n < least else ""


def _count(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"


def _rl(measures: Measures) -> Advice:
    n, costs = measures.edits, measures.divided
    if n and not measures.changed:
        return Advice("rl", False, n, "Nothing was changed: no pair can be priced.")
    if why := _too_few(n, "cost", "costs", measures, RL_EXAMPLES):
        return Advice("rl", False, n, why)
    assert costs is not None  # there are edits
    if measures.contexts < RL_CONTEXTS:
        return Advice("rl", False, n, f"{measures.contexts} contexts: a cost model needs {RL_CONTEXTS}.")
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
    said = f"Edits of {n} policies compare them; so far {best.name} costs least ({best.mean:.3g})"
    if few := [group.name for group in measures.policies if group.edits < MIN_SERVED]:
        said += f", but {', '.join(few)} had fewer than {MIN_SERVED} edits"
    return Advice("late", True, n, f"{said}.")


def prefer(measures: Measures, trained: Sequence[Trained] = (), model: str = "") -> tuple[str, str, bool]:
    """Return the method to train first, or the policy to serve, why, and whether that was measured on such logs.

    A policy's name has a slash, a method's has none; ``base`` means to go on with what there is. ``model`` is the one
    to train.
    """
    if found := _served(measures) or _measured(measures, trained):
        return *found, True
    method, because, sure = _expected(measures, model)
    known = [policy for policy in trained if measures.edits < GROWN * policy.edits and policy.heldout < MIN_HELDOUT]
    nearer = [policy for policy in known if policy.farther < 0 and policy.heldout > 1]
    nearer = nearer or [policy for policy in known if policy.method == method][-1:]
    if method == "base" or not nearer:
        return method, because, sure
    best = min(nearer, key=lambda policy: policy.farther)
    held = _count(best.heldout, "held-out edit is", "held-out edits are")
    said = f"{held} too few to tell it from base ({best.distance:.2f}, base's {best.base_distance:.2f}): "
    return best.policy, f"{said}edits of its own answers will.", False


def _expected(measures: Measures, model: str) -> tuple[str, str, bool]:
    """What results/ let expect of such a log; not sure where its like was not measured, or went both ways."""
    if measures.edits and not measures.changed:
        return (
            "base",
            "Nothing was changed, so people want what the model that wrote this log writes: go on with it.",
            True,
        )
    if measures.edits and measures.contexts < MIN_CONTEXTS:
        return (
            "base",
            "All edits are of one context, so that nothing can be held out: collect edits of other contexts.",
            True,
        )
    if measures.edits < MIN_EXAMPLES:
        said = (
            f"Too few edits to expect a gain from: collect at least {MIN_EXAMPLES}, which sufficed in results/advice. "
            "Training on fewer is safe: what is not surely nearer to held-out edits than base is not served."
        )
        return "base", said, False
    foreign = _foreign(measures, model)
    if foreign and measures.edits < GROWN * FOREIGN_EXAMPLES:
        said = (
            f"{foreign}, and {FOREIGN_EXAMPLES} edits of another model's texts brought no policy nearer to people's "
            f"(results/defacto, mlqe): collect {GROWN * FOREIGN_EXAMPLES:g}, or train the model that wrote the log."
        )
        return "base", said, True
    because = "It cost least in all four settings of results/cpu (64 edits, three seeds)."
    if foreign:
        because = (
            f"{foreign}: whether {measures.edits:,} edits suffice then was not measured, {FOREIGN_EXAMPLES} did not."
        )
    if measures.edits < MANY_EXAMPLES:
        because += (
            " Fewer are uncertain: 4 brought 0.27 of base's cost on emails, 8 1.15 on summaries (results/advice)."
        )
    if risky(measures):
        because += " Near-duplicate pairs endanger dpo alone."
    return "sft", because, not foreign and measures.edits >= MANY_EXAMPLES


def _foreign(measures: Measures, model: str) -> str:
    """Who wrote the log, where nothing says that ``model`` did, which may be unknown itself."""
    names = [name for name in measures.models if name != UNRECORDED]
    if not names:
        return "The log does not say which model wrote it"
    if not model or any(name in (model, f"{model}:{name.rpartition(':')[2]}") for name in names):
        return ""
    return f"{names[0]} wrote {'the log' if len(measures.models) == 1 else 'most of the log'}, not {model}"


def _served(measures: Measures) -> tuple[str, str] | None:
    """What real edits of two policies or more say: nothing else measures their cost."""
    compared = [group for group in measures.policies if group.edits >= MIN_SERVED]
    if len(compared) < 2:
        return None
    best = min(compared, key=lambda group: group.mean)
    name = "base" if best.name.endswith("/base") else best.name
    others = ", ".join(f"{group.name} {group.mean:.3g}" for group in compared if group is not best)
    return name, f"Edits of what was served cost least with it: {best.mean:.3g} ({others})."


def _measured(measures: Measures, trained: Sequence[Trained]) -> tuple[str, str] | None:
    """What held-out edits say of the policies there are; nothing where they are few or the log has outgrown them."""
    if not trained:
        return None
    best = min(trained, key=lambda policy: (not policy.surely_nearer, policy.farther))
    held = _count(best.heldout, "held-out edit", "held-out edits")
    said = f"{best.distance:.2f} from {held}, base's {best.base_distance:.2f}"
    if best.surely_nearer:
        return best.policy, f"Its answers are {said}."
    if best.heldout < MIN_HELDOUT or measures.edits >= GROWN * max(policy.edits for policy in trained):
        return None
    return "base", (
        f"None of {len(trained)} trained policies writes significantly nearer to held-out edits than base (the best, "
        f"{best.policy}, is {said}): collect {GROWN:g} times as many edits before training again."
    )


def cautions(measures: Measures) -> tuple[str, ...]:
    """What to keep in mind when training on this log."""
    found: list[str] = []
    unknown, known = measures.models.get(UNRECORDED, 0), len(set(measures.models) - {UNRECORDED})
    if unknown:
        unnamed = _count(unknown, "completion does not name its model", "completions do not name their model")
        found.append(
            f"{unnamed}. It must be the one to train, since dpo, early and rl measure against it: import rows with "
            '"model" to record it.'
        )
    if known > 1:
        found.append(f"{known} base models wrote this log: train on what each wrote, with it as the reference.")
    if measures.repeated_contexts:
        found.append(
            f"{_count(measures.repeated_contexts, 'context repeats', 'contexts repeat')}, up to "
            f"{measures.largest_context} times. Where their edits contradict each other, a policy learns a mixture."
        )
    if measures.censored:
        silent = _count(measures.censored, "completion", "completions")
        found.append(f"{silent} never got an edit: silence is not approval, it teaches nothing.")
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
