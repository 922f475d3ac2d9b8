"""Choosing and telling by held-out edits, on rows of which every price is known by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
from bench_rows import described

from redraft.costs import COSTS
from redraft.lab.bench.choosing import BAR, BEST, CHANGED, EDIT_COST, EDITS, Choosing, choosing, tell
from redraft.lab.bench.folder import TrainedRun
from redraft.lab.bench.matrix import MatrixRow
from redraft.lab.bench.tables import LATE, complete_cells, read_plan

WANTED = "a b c d"
ANSWERS = {"sft": "a b x x", "dpo": "x x x x", "base": "x x x d"}
# Δ to what is wanted: sft 1/2, dpo 1, base 3/4. Δ(sft, dpo) = 1/2, Δ(sft, base) = 3/4, Δ(dpo, base) = 1/4
COST = COSTS["word"]
ROUNDS = 20
Accepts = Callable[[int], bool]


def never(_: int) -> bool:
    return False


def half(t: int) -> bool:
    return t % 4 < 2


def rows_of(
    answers: Mapping[str, str], accepts: Accepts = never, rounds: int = ROUNDS, task: str = "email"
) -> list[MatrixRow]:
    """A user who accepts some rounds unread and in the others wants the same text."""
    rows: list[MatrixRow] = []
    for t in range(1, rounds + 1):
        for policy, answer in answers.items():
            edited = answer if accepts(t) else WANTED
            key = (1, "email", "weak", "strong", t, f"{t}", policy)
            rows.append(MatrixRow(*key, answer, edited, 0.0, COST(answer, edited), 0.0))
    return rows


def chosen(
    rows: Sequence[MatrixRow], losses: Mapping[str, Mapping[str, float]] | None = None, user: str = "strong"
) -> Choosing | None:
    settings = {"tasks": ["email"], "train_users": ["weak"], "test_users": [user], "seeds": [1], "methods": []}
    plan = read_plan(described(**settings, sizes={"online": 0}), rows)
    training = [
        TrainedRun(seed=1, task="email", train_user="weak", method=method, chosen=sign > 0, metrics=of)
        for method, metrics in (losses or {}).items()
        for sign in (1, -1)  # the other trials of a sweep, which say the opposite
        for of in [{name: sign * loss for name, loss in metrics.items()}]
    ]
    return choosing(complete_cells(rows, plan)[0], plan, rows, COST, training)


def paid(found: Choosing | None) -> dict[str, float]:
    assert found is not None
    return {name: rule.mean.mean for name, rule in found.rules.items()}


def test_each_rule_serves_what_it_believes_in() -> None:
    losses = {"sft": {"nll": 2.0, "preference_loss": 0.1}, "dpo": {"nll": 1.0, "preference_loss": 0.2}}
    found = chosen(rows_of(ANSWERS), losses)
    late = (0.5 + 0.75 + 1 + 0.5) / 4  # four rounds remain: each arm once, then sft
    expected = {EDIT_COST: 0.5, CHANGED: 0.5, "likelihood": 1.0, "preference loss": 0.5, BEST: 0.5, LATE: late}
    assert paid(found) == pytest.approx({**expected, "sft": 0.5, "dpo": 1.0, "base": 0.75})
    assert found is not None
    assert found.orders == 4 * ROUNDS
    likelihood = found.rules["likelihood"]
    assert (likelihood.by_setting, likelihood.above.mean) == ({"email weak": 1.0}, pytest.approx(1 - BAR * 0.5))
    assert {name: rule.max_subopt and rule.max_subopt.mean for name, rule in found.rules.items()} == pytest.approx(
        {name: None if name == BEST else cost - 0.5 for name, cost in paid(found).items()}
    )


def test_what_not_every_trained_policy_has_a_loss_for_chooses_nothing() -> None:
    rules = paid(chosen(rows_of(ANSWERS), {"sft": {"nll": 2.0}, "dpo": {"nll": 1.0, "preference_loss": 0.2}}))
    assert "likelihood" in rules
    assert "preference loss" not in rules
    assert not {"likelihood", "preference loss"} & paid(chosen(rows_of(ANSWERS))).keys()


def test_acceptances_of_a_lazy_user_make_base_look_best() -> None:
    """γ = 1/4: base's price is 3/16 against 1/2·1/4 + 3/4·3/4 of sft, though sft costs two thirds of it."""
    rules = paid(chosen(rows_of(ANSWERS, lambda t: t % 4 > 0)))
    assert rules[EDIT_COST] == pytest.approx(rules["base"])
    assert rules[CHANGED] == pytest.approx(rules["sft"])
    assert rules["sft"] / rules["base"] == pytest.approx(2 / 3)


def test_means_over_orders_are_of_rounds_that_were_not_seen() -> None:
    """One round of EDITS + 1 remains, each as often: sft is worse in the first one, which a rule never knows of."""
    rows = [
        replace(row, response="", cost=4.0) if (row.t, row.policy) == (1, "sft") else row
        for row in rows_of(ANSWERS, rounds=EDITS + 1)
    ]
    rules = paid(chosen(rows))
    assert (4.0 + 15 * 0.5) / 16 < 0.75  # sft's price where that round was seen is still below base's
    assert rules[EDIT_COST] == pytest.approx((4.0 + 16 * 0.5) / 17)
    assert rules[BEST] == pytest.approx((0.75 + 16 * 0.5) / 17)


def test_users_who_change_are_served_in_order() -> None:
    rows = [replace(row, test_user="strong+fatigue=30") for row in rows_of(ANSWERS, lambda t: t > EDITS)]
    found = chosen(rows, user="strong+fatigue=30")
    assert found is not None
    assert found.orders == 1
    assert set(paid(found).values()) == {0.0}  # of the last four rounds, all accepted


def test_too_few_rounds_or_no_base_choose_nothing() -> None:
    assert chosen(rows_of(ANSWERS, rounds=EDITS)) is None
    assert chosen(rows_of({"sft": ANSWERS["sft"]})) is None


def test_forms_on_a_lazy_user_by_hand() -> None:
    """γ = 1/2: the difference is ½·(1/2 − 1); each form adds its own ½·Δ between answers."""
    (told,) = tell(rows_of(ANSWERS, half), COST, [("sft", "dpo")])
    assert (told.setting, told.online.mean) == ("email weak", -0.25)
    assert told.one_sided.difference.mean == -0.25 + 0.25
    assert told.symmetric.difference.mean == -0.25
    assert (told.symmetric.standing, told.symmetric.edits) == ("symmetric", ROUNDS)
    assert told.bounded is not None
    assert told.direct is not None
    assert told.bounded.difference.mean == 0 - 0.25 / 2  # the bias between base and dpo
    assert told.direct.difference.mean == -0.25 + (0.75 - 0.25) / 2


def test_base_is_no_third_party_to_itself() -> None:
    told = tell(rows_of(ANSWERS), COST, [("sft", "base"), ("sft", "nobody")])
    assert [(row.other, row.bounded, row.direct) for row in told] == [("base", None, None)]
