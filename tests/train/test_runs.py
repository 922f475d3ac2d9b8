"""What held-out scores let one say of a policy, and what they do not."""

from __future__ import annotations

import pytest

from redraft.train.runs import Manifest, alarm, recommended, verdict


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        ({"nll": 1.4, "reference_nll": 2.1}, "likelier than base on held-out edits (nll 2.10 → 1.40)"),
        ({"nll": 2.2, "reference_nll": 2.1}, "no likelier than base on held-out edits (nll 2.10 → 2.20): do not serve"),
        (
            {"nll": 3.0, "reference_nll": 2.1, "chosen_above_reference": -35.2},
            "held-out edits became less likely than under base (-35 nats each): do not serve",
        ),
        ({"nll": 1.4}, "held-out edits have nll 1.40"),  # a manifest of an earlier version
        ({"nll": 1.4, "own_cost": 0.2}, "predicted to cost less than those of base (0.31 → 0.20); only edits tell"),
        ({"nll": 1.4, "own_cost": 0.4}, "no less than those of base (0.31 → 0.40): do not serve"),
    ],
)
def test_a_verdict_says_what_was_measured(metrics: dict[str, float], says: str) -> None:
    history = [{"eval_own_cost": 0.31}, {"eval_own_cost": 0.25}]
    manifest = Manifest("email/sft@1", "complete", {}, {}, {}, {"method": "sft"}, metrics=metrics, history=history)
    assert says in verdict(manifest)


def test_a_verdict_says_whether_the_answers_let_it_be_served() -> None:
    metrics = {"nll": 2.2, "reference_nll": 2.1}

    def said(own: float, edits: int = 12, **more: object) -> str:
        measured = {"distance": own, "base_distance": 0.93, "edits": edits} | more
        return verdict(Manifest("a/sft@1", "complete", {}, {}, {}, {}, metrics=metrics, evaluation=measured))

    worse = "no likelier than base on held-out edits (nll 2.10 → 2.20)"
    assert said(0.21) == f"{worse}; its answers are 0.21 from 12 held-out edits, base's 0.93: served by default"
    candidate = "a candidate; redraft policies promote a/sft@1 serves it all the same"
    assert said(3.3) == f"{worse}; its answers are 3.30 from 12 held-out edits, base's 0.93: {candidate}"
    few = "a candidate (so few may err: 4 are needed); redraft policies promote"
    assert f"0.21 from 3 held-out edits, base's 0.93: {few}" in said(0.21, 3)
    assert said(0.21, 4).endswith("served by default")
    assert "base's 0.93: a candidate (it may be chance); redraft" in said(0.21, against_base=[-1.6, 0.1])
    assert said(0.93).endswith(candidate)
    assert "0.21 from 1 held-out edit, base's" in said(0.21, 1)


def test_a_policy_that_costs_more_than_it_began_with_is_told() -> None:
    def said(start: str = "", **measured: object) -> str:
        return alarm(Manifest("a/sft@1", "complete", {}, {}, {}, {"start": start}, evaluation=measured))

    assert said() == said(distance=0.2, base_distance=0.9) == ""
    dearer = "Its answers cost more than those of base, 0.86 → 1.28"
    assert said(distance=1.28, base_distance=0.86, base_standing="direct") == dearer
    favoured = said(distance=1.28, base_distance=0.86, base_standing="undecided")
    assert favoured.startswith(f"{dearer}, on edits of drafts that base wrote, which favour it")
    assert said("a/sft@1", distance=0.5, base_distance=0.4) == ""  # what it began as was not measured
    second = {"distance": 0.5, "base_distance": 0.9, "start_distance": 0.4, "start_standing": "symmetric"}
    assert said("a/sft@1", **second) == "Its answers cost more than those of a/sft@1, 0.40 → 0.50"


def test_the_policy_that_leaves_least_to_edit_is_recommended_or_base() -> None:
    def told(edits: int, **costs: float) -> tuple[str, str] | None:
        measured = {name: {"distance": cost, "base_distance": 0.5, "edits": edits} for name, cost in costs.items()}
        return recommended(
            [Manifest(f"a/{name}@1", "complete", {}, {}, {}, {}, evaluation=found) for name, found in measured.items()]
        )

    assert told(20, sft=0.31, early=0.3, dpo=0.7) == (
        "a/early@1", "a/early@1, whose answers leave least to edit: 0.30 (sft@1 0.31, base 0.50, dpo@1 0.70)"
    )  # fmt: skip
    unsure = {"distance": 0.4, "base_distance": 0.5, "edits": 20, "against_base": [-0.3, 0.1]}
    _, said = recommended([Manifest("a/dpo@1", "complete", {}, {}, {}, {}, evaluation=unsure)]) or ("", "")
    assert said == "a/dpo@1, whose answers leave least to edit: 0.40 (base 0.50); no surer than chance"
    assert told(1, sft=0.6) == (
        "base", "base, whose answers leave least to edit: 0.50 (sft@1 0.60); held out: 1, too few to be sure"
    )  # fmt: skip
    assert told(9, sft=0.5) == (
        "base", "base, whose answers leave least to edit: 0.50 (sft@1 0.50); held out: 9, too few to be sure"
    )  # fmt: skip
    assert recommended([Manifest("a/sft@1", "diverged", {}, {}, {}, {})]) is None
