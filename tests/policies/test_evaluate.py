"""When a policy is called better, worse, or broken, and what its answers leave to edit."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from redraft.costs import COSTS
from redraft.edit_cost import Difference, Priced, Standing, Verdict
from redraft.lm.load import Base
from redraft.policies.adapter import AdapterHost
from redraft.policies.evaluate import Measure, author_of, degenerate, evaluate, first, recommendation, verdict
from redraft.stats import Interval
from redraft.train.packing import Limits
from redraft.types import Completion, Contexts, Decoding, Edit, Interaction, Message

COST, DECODING = COSTS["character"], Decoding(6)
SFT, DPO = "email/sft@1", "email/dpo@1"


@pytest.fixture
def base(tiny_base: Base) -> Base:
    return replace(tiny_base, model=copy.deepcopy(tiny_base.model))


def drafted(base: Base, policy: str, n: int) -> list[Interaction]:
    """Edits of drafts that a policy wrote, by two people."""
    return [
        Interaction(
            Completion(f"{policy}{i}", "email", (Message("user", f"{i} {i * i}"),), "y", policy, base.identity,
                       metadata={"domain": "office"}),
            Edit(f"{policy}{i}", "z" * (i % 5 + 1), user_id=("ann", "bob")[i % 3 == 0]),
        )
        for i in range(n)
    ]  # fmt: skip


def silent(*_: object) -> None:
    return None


def found(mean: float, told: Verdict | None, standing: Standing = "direct", edits: int = 20) -> Difference:
    return Difference("p", "base", Interval(mean, mean - 0.1, mean + 0.1), standing, edits, told)


@pytest.mark.parametrize(
    ("mean", "against", "broken", "says"),
    [
        (0.18, found(-0.23, "better"), 0.0, "better than base, 0.41 → 0.18"),
        (0.55, found(0.14, "worse"), 0.0, "worse than base, 0.41 → 0.55"),
        (0.40, found(-0.01, None), 0.4, "cannot be told from base, 0.41 → 0.40"),
        (0.40, found(-0.2, None, edits=15), 0.4, "cannot be told from base, 0.41 → 0.40: 15 edits are too few"),
        (0.60, found(0.2, None, "undecided"), 0.0, "cannot be told from base, 0.41 → 0.60: base wrote these drafts"),
        (3.90, found(3.5, None, "undecided"), 0.0, "broken, do not serve: much farther"),
        (0.18, found(-0.23, "better"), 0.5, "broken, do not serve: 50% of its answers"),
    ],
)
def test_a_verdict_says_what_edits_can_tell(mean: float, against: Difference, broken: float, says: str) -> None:
    assert verdict(Interval(mean, 0, 9), Interval(0.41, 0.3, 0.5), against, broken).startswith(says)


def test_what_leaves_least_to_edit_is_recommended_and_whether_that_is_sure() -> None:
    found = Difference("sft+consensus8", "sft", Interval(-0.1, -0.2, -0.01), "direct", 20, "better")
    said = "sft+consensus8 leaves least to edit, 0.40; next sft, 0.50"
    assert recommendation(found, 0.4, 0.5) == said
    unsure = replace(found, told=None)
    assert recommendation(unsure, 0.4, 0.5) == f"{said}, which cannot be told from it"
    assert recommendation(replace(unsure, edits=9), 0.4, 0.5).endswith("from it: 9 edits are too few")


def test_a_mean_that_favours_the_drafts_author_does_not_make_it_the_first() -> None:
    """Forty edits of base's drafts and ten of sft's: each side favours its author, and together sft is better."""
    edits = [Priced(f"b{i}", "base", 0.2, {"base": 0.30, SFT: 0.41}) for i in range(40)]
    edits += [Priced(f"s{i}", SFT, 0.2, {"base": 0.60, SFT: 0.30}) for i in range(10)]
    own = {name: [edit.prices[name] for edit in edits] for name in ("base", SFT)}
    assert fmean(own["base"]) < fmean(own[SFT])
    found = first(own, edits, None)
    assert found is not None
    assert (found.one, found.told) == (SFT, "better")


def test_degenerate_answers_are_empty_or_repeat_themselves() -> None:
    assert degenerate(" \n")
    assert degenerate("we meet on " * 6)
    assert not degenerate("Hi Ann, we meet on Monday at ten in room two. Please bring the budget. Bob")
    assert not degenerate("Yes, yes, yes.")


def test_who_wrote_a_draft(base: Base) -> None:
    draft = drafted(base, "", 1)[0]
    assert author_of(draft, base) == "base"
    by = {p: author_of(replace(draft, completion=replace(draft.completion, policy=p)), base) for p in ("base", SFT)}
    assert by == {"base": "base", SFT: SFT}
    for model in ("", "gpt-4"):  # whose drafts may resemble none of ours
        assert author_of(replace(draft, completion=replace(draft.completion, model=model)), base) == ""


def test_policies_are_compared_as_their_drafts_allow(base: Base, tiny_policies: Path, tmp_path: Path) -> None:
    def asked(host: AdapterHost, contexts: Contexts) -> Sequence[str]:
        return ["z"] * len(contexts)

    heldout = [*drafted(base, "base", 12), *drafted(base, SFT, 10)]
    folders = {SFT: tiny_policies / SFT, DPO: tiny_policies / DPO}
    rows, bias, told = evaluate(
        base, folders, heldout, COST, limits=Limits(32, 16), cache=tmp_path, decoding=DECODING, progress=silent,
        others={"upstream": asked},
    )  # fmt: skip
    by_name = {row.policy: row for row in rows}
    assert told is not None
    assert {told.one, told.other} == set(sorted(by_name, key=lambda name: by_name[name].distance.mean)[:2])
    assert list(by_name) == ["base", SFT, DPO, "upstream"]
    assert {name: row.standing for name, row in by_name.items()} == {
        "base": None, SFT: "symmetric", DPO: "undecided", "upstream": "undecided"
    }  # fmt: skip
    assert bias is not None
    wanted = [i.edited or "" for i in heldout]
    assert by_name["upstream"].distance.mean == pytest.approx(fmean(COST("z", edited) for edited in wanted))
    assert by_name["upstream"].log_likelihood is None
    assert by_name[SFT].log_likelihood is not None
    users = by_name["upstream"].groups["user"]
    assert {name: count for name, (_, count) in users.items()} == {"ann": 14, "bob": 8}
    assert sum(mean * count for mean, count in users.values()) == pytest.approx(22 * by_name["upstream"].distance.mean)
    assert "domain" not in by_name["upstream"].groups  # there is one


def test_a_run_is_measured_against_base_and_what_it_began_as(base: Base, tiny_policies: Path) -> None:
    heldout = drafted(base, SFT, 9)
    measure = Measure(base, COST, DECODING, silent, start=(SFT, tiny_policies / SFT))
    found = measure(tiny_policies / DPO, heldout)
    assert found["edits"] == 9
    assert (found["base_standing"], found["start_standing"]) == ("direct", "undecided")
    own, begun, plain = ([measure.known.get((name, i.completion.id)) for i in heldout] for name in ("own", SFT, "base"))
    assert found["start_distance"] == pytest.approx(fmean(filter(None, begun)))
    assert found["base_distance"] == pytest.approx(fmean(filter(None, plain)))
    assert own == [None] * 9  # another run's policy is another one
    assert measure(tiny_policies / SFT, heldout)["distance"] == pytest.approx(found["start_distance"])
