from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.costs import COSTS, get_cost
from redraft.diagnose import Diagnosis, Trained, diagnose, plot
from redraft.diagnose.advice import MIN_EXAMPLES, MIN_HELDOUT, MIN_SERVED
from redraft.errors import ConfigError, DataError
from redraft.stats import compare
from redraft.train.runs import COMPLETE, Manifest
from redraft.types import Completion, Decision, Edit, Interaction, Message

WORD = COSTS["word"]
NOW = datetime(2026, 1, 31, tzinfo=UTC)
SAME, SILENT = object(), object()
RESULTS = Path(__file__).parent.parent / "results"


def interaction(
    edited: object,
    *,
    response: str = "a b c d",
    prompt: str = "x",
    user: str | None = None,
    model: str = "",
    policy: str = "",
    age: int | None = None,
) -> Interaction:
    """``edited`` is a text, ``SAME`` for accepted or ``SILENT`` for no edit; ``age`` in days."""
    made = None if age is None else NOW - timedelta(days=age)
    completion = Completion("c", "t", (Message("user", prompt),), response, policy=policy, model=model, created_at=made)
    edit = None if edited is SILENT else Edit("c", None if edited is SAME else str(edited), user_id=user)
    return Interaction(completion, edit, Decision("c", (policy,), policy, 1, "fixed") if policy else None)


def advice(diagnosis: Diagnosis, method: str) -> Any:
    return next(item for item in diagnosis.advice if item.method == method)


def test_counts() -> None:
    log = [
        interaction(SAME, prompt="X!"),  # the same context: case and punctuation aside
        interaction("a b c d"),  # sent back equal
        interaction("a  b c d"),  # changed, though no word is
        interaction("a b x d", prompt="z"),
        interaction("", prompt="w"),
        interaction(SILENT, age=13),
        interaction(SILENT, age=15),
        interaction(SILENT),  # of unknown age
    ]
    found = diagnose(log, WORD, now=NOW).measures
    assert (found.completions, found.edits, found.accepted, found.unchanged, found.changed) == (8, 5, 1, 2, 3)
    assert (found.awaiting, found.censored) == (1, 2)
    assert (found.contexts, found.repeated_contexts, found.largest_context) == (3, 1, 6)
    assert found.near_duplicates == 1
    late = diagnose(log, WORD, now=NOW, horizon=timedelta(days=30)).measures
    assert (late.awaiting, late.censored) == (2, 1)
    assert diagnose(log, WORD).measures.awaiting == 3


def test_a_naive_time_is_universal_time() -> None:
    completion = Completion("c", "t", (), "y", created_at=datetime(2026, 1, 1))
    assert diagnose([Interaction(completion)], WORD, now=NOW).measures.censored == 1


def test_distributions_by_hand() -> None:
    found = diagnose(map(interaction, [SAME, "a b c x", "w x y z", "q r s t u v w x"]), WORD).measures
    assert found.raw is not None
    assert found.divided is not None
    assert (found.raw.n, found.raw.mean, found.raw.q1, found.raw.median, found.raw.q3) == (4, 3.25, 0.75, 2.5, 5)
    assert (found.raw.max, found.raw.share_0) == (8, 0.25)
    assert (found.divided.mean, found.divided.share_0, found.divided.share_above_1) == (3.25 / 4, 0.25, 0.25)
    assert found.divided.std == pytest.approx(math.sqrt((1 / 16 + 1 + 4) / 4 - (3.25 / 4) ** 2))


def test_equal_costs_have_no_spread() -> None:
    divided = diagnose([interaction("a b c d", response="a b c d e")] * 12, WORD).measures.divided
    assert divided is not None
    assert (divided.mean, divided.std) == (pytest.approx(1 / 5), 0)


def test_an_unchanged_text_costs_nothing_under_any_cost() -> None:
    found = diagnose([interaction(SAME)], get_cost(lambda response, edited: 1)).measures
    assert found.raw is not None
    assert (found.raw.mean, found.raw.share_0) == (0, 1)


def test_the_chosen_cost_is_used_and_words_are_beside_it() -> None:
    found = diagnose([interaction("abcd", response="abc d")], COSTS["character"]).measures
    assert found.raw is not None
    assert found.whitespace_distance is not None
    assert (found.cost, found.raw.mean, found.whitespace_distance.mean) == ("character", 1, 2)


def test_histograms_hold_every_changed_text() -> None:
    edits = [SAME, *(" ".join(["x"] * n) for n in range(60)), " ".join(["x"] * 900)]
    found = diagnose(map(interaction, edits), WORD).measures
    for histogram in (found.raw_histogram, found.divided_histogram):
        assert histogram is not None
        assert sum(histogram.counts) + histogram.beyond == 61
        assert histogram.beyond == 1
        assert len(histogram.edges) == len(histogram.counts) + 1 <= 40
    assert found.raw_histogram is not None
    assert found.raw_histogram.edges[:2] == (-0.5, 1.5)


def test_users_with_few_edits_are_pooled() -> None:
    log = [interaction("a b c x", user="steady") for _ in range(6)]
    log += [interaction(edited, user="wild") for edited in [SAME] * 4 + ["w x y z"] * 4]
    log += [interaction("a b x x", user=f"guest {i}") for i in range(3)]
    found = diagnose(log, WORD).measures
    assert [(user.name, user.edits, user.mean, user.variation) for user in found.users] == [
        ("wild", 8, 0.5, 1.0),
        ("steady", 6, 0.25, 0.0),
        ("(users with few edits)", 3, 0.5, 0.0),
    ]
    total = 6 * (0.25 - 5.5 / 14) ** 2 + 4 * (5.5 / 14) ** 2 + 4 * (1 - 5.5 / 14) ** 2
    assert found.within_users == pytest.approx(8 * 0.25 / total)


def test_the_completions_user_stands_in_for_the_edits() -> None:
    completion = Completion("c", "t", (), "y", user_id="ann")
    users = diagnose([Interaction(completion, Edit("c", "z"))] * 5, WORD).measures.users
    assert users[0].name == "ann"


def test_nothing_is_nan_and_nothing_fails_on_nothing() -> None:
    found = diagnose([], WORD, now=NOW)
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["divided"] is None
    assert found.prefer == "base"
    assert not any(item.supported for item in found.advice)


ITEMS = st.builds(
    interaction,
    st.sampled_from([SAME, SILENT, "", "a b", "x y z", " ", "a  b c d"]),
    response=st.sampled_from(["", "a b c d", "x"]),
    user=st.sampled_from([None, "ann", "bob"]),
    policy=st.sampled_from(["", "base", "t/sft@1"]),
    age=st.sampled_from([None, 1, 40]),
)


@settings(deadline=None)
@given(st.lists(ITEMS, max_size=60), st.sampled_from(list(COSTS)))
def test_any_log_gives_json_and_numbers_that_add_up(log: list[Interaction], cost: str) -> None:
    found = diagnose(iter(log), COSTS[cost], now=NOW)
    json.dumps(found.as_dict(), allow_nan=False)
    m = found.measures
    assert m.completions == len(log) == m.edits + m.awaiting + m.censored == sum(m.models.values())
    assert m.edits == m.changed + m.unchanged == sum(user.edits for user in m.users)
    assert m.near_duplicates <= m.changed
    assert m.accepted <= m.unchanged
    assert m.within_users is None or 0 <= m.within_users <= 1 + 1e-12
    assert diagnose(reversed(log), COSTS[cost], now=NOW).measures.raw_histogram == m.raw_histogram


def test_texts_are_not_kept() -> None:
    found = diagnose([interaction("very secret words", prompt="a secret")] * 3, WORD)
    assert "secret" not in repr(found)


def changed(
    n: int, edited: str = "w x y z", *, prompt: str = "", model: str = "own:1", **more: Any
) -> list[Interaction]:
    """Each of a context of its own, where none is named."""
    return [interaction(edited, prompt=prompt or f"x {i}", model=model, **more) for i in range(n)]


def test_too_little_to_learn_from() -> None:
    found = diagnose(changed(MIN_EXAMPLES - 1), WORD)
    assert found.prefer == "base"
    assert "collect" in found.because
    assert not any(item.supported for item in found.advice)


def test_nothing_changed_teaches_nothing() -> None:
    found = diagnose([interaction(SAME)] * 500, WORD)
    assert found.prefer == "base"
    assert not advice(found, "sft").supported
    assert "Nothing was changed" in advice(found, "sft").reason


def test_reasons_name_what_is_missing_first() -> None:
    accepted = diagnose([interaction(SAME, prompt=f"x {i}") for i in range(12)], WORD)
    assert {advice(accepted, method).reason for method in ("dpo", "early")} == {
        "Nothing was changed: no text is preferred to another."
    }
    same = diagnose(changed(12, prompt="Write to Ann."), WORD)
    assert same.because.startswith("All edits are of one context")  # more of them would not help
    one = diagnose(changed(1), WORD)
    assert advice(one, "sft").reason == "1 target y' for one context: nothing can be held out."
    assert advice(diagnose([], WORD), "dpo").reason.startswith("0 changed pairs; the fewest")


def test_targets_without_pairs_are_for_sft() -> None:
    pairs = MIN_EXAMPLES - 1
    same = [interaction(SAME, prompt=f"z {i}", model="own:1") for i in range(100)]
    found = diagnose([*changed(pairs), *same], WORD)
    assert found.prefer == "sft"
    assert [item.method for item in found.advice if item.supported] == ["sft", "rl"]
    assert (advice(found, "sft").count, advice(found, "dpo").count) == (pairs + 100, pairs)


def test_near_duplicates_speak_against_dpo_alone() -> None:
    long = " ".join("abcdefghijklmnopqrst")
    log = changed(80, response=long) + changed(20, long.replace("c", "z"), response=long)
    found = diagnose(log, WORD)
    assert found.prefer == "sft"
    assert "20% of them near-duplicates: DPO alone would lower" in advice(found, "dpo").reason
    assert "endanger dpo" in found.because
    safe = diagnose(log[:-1] + changed(1), WORD)
    assert ("few enough" in advice(safe, "dpo").reason, "endanger" in safe.because) == (True, False)


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (changed(100), "says who edited"),
        (changed(100, user="ann"), "edit steadily (std/mean 0.00)"),
        (changed(30, user="ann") + [interaction(SAME, user="ann")] * 70, "scatter (std/mean 1.53)"),
    ],
)
def test_sft_asks_for_users_who_converge(log: list[Interaction], words: str) -> None:
    assert words in advice(diagnose(log, WORD), "sft").reason


def test_rl_needs_costs_with_spread() -> None:
    even, spread = diagnose(changed(200), WORD), diagnose(changed(100) + changed(100, "a b c z"), WORD)
    assert not advice(even, "rl").supported
    assert "nothing to explain" in advice(even, "rl").reason
    assert advice(spread, "rl").supported


def test_late_needs_two_policies_with_edits() -> None:
    one = [*changed(10, policy="base"), interaction(SILENT, policy="t/sft@1")]
    assert "only base was chosen" in advice(diagnose(one, WORD), "late").reason
    assert "no policy was chosen" in advice(diagnose(changed(3), WORD), "late").reason
    two = advice(diagnose([*one, interaction("a b c x", policy="t/sft@1")], WORD), "late")
    assert (two.supported, two.count) == (True, 2)
    assert "t/sft@1 costs least (0.25)" in two.reason


def test_real_edits_of_what_was_served_decide_and_late_agrees() -> None:
    log = changed(MIN_SERVED, "a b c x", policy="email/early@1") + changed(MIN_SERVED, policy="email/base")
    found = diagnose(log + changed(MIN_SERVED - 1, "a b c d", policy="email/sft@1"), WORD)
    assert found.prefer == "email/early@1"  # sft's were cheaper, and too few
    assert "0.25 (email/base 1)" in found.because
    assert "email/sft@1 had fewer than 20 edits" in advice(found, "late").reason
    assert (
        diagnose(changed(20, policy="email/sft@1") + changed(20, "a b c x", policy="email/base"), WORD).prefer == "base"
    )


def test_trained_policies_decide_by_their_distance_from_held_out_edits() -> None:
    sft, dpo = Trained("email/sft@1", "sft", 0.4, 0.9, 11, 70), Trained("email/dpo@1", "dpo", 1.2, 0.9, 11, 70)
    log = changed(80)
    found = diagnose(log, WORD, trained=[dpo, sft])
    assert (found.prefer, "0.40 from 11 held-out edits, base's 0.90" in found.because) == ("email/sft@1", True)
    worse = diagnose(log, WORD, trained=[dpo])
    assert (worse.prefer, "collect 2 times as many" in worse.because) == ("base", True)
    assert diagnose(changed(140), WORD, trained=[dpo]).prefer == "sft"  # the log has grown
    chance = Trained("email/early@1", "early", 0.3, 0.9, 11, 70, high=0.1)
    assert diagnose(log, WORD, trained=[chance]).prefer == "base"
    assert diagnose(log, WORD, trained=[chance, sft]).prefer == "email/sft@1"
    early = replace(chance, high=-0.1)
    assert diagnose(log, WORD, trained=[early, sft]).prefer == "email/early@1"
    few = replace(sft, distance=0.95, heldout=MIN_HELDOUT - 1)
    rough = replace(early, heldout=MIN_HELDOUT - 1)  # however sure a bootstrap of so few is
    nearest = diagnose(log, WORD, trained=[few, rough])
    assert (nearest.prefer, nearest.sure, "9 held-out edits are too few" in nearest.because) == (
        early.policy,
        False,
        True,
    )
    foreign = diagnose(log, WORD, trained=[few, rough], model="another")
    assert (foreign.prefer, foreign.sure) == ("base", True)  # where 64 edits brought nothing, nine say too little
    untold = diagnose(log, WORD, trained=[dpo, few])
    assert (untold.prefer, "9 held-out edits are too few" in untold.because) == ("email/sft@1", True)
    assert diagnose(log, WORD, trained=[replace(dpo, heldout=1)]).prefer == "sft"
    assert diagnose(changed(1), WORD, trained=[replace(few, edits=1)]).prefer == "base"


def test_some_edits_are_enough_for_advice_and_a_single_context_is_not() -> None:
    assert diagnose(changed(MIN_EXAMPLES), WORD).prefer == "sft"
    one = diagnose(changed(200, prompt="Write to Ann."), WORD)
    assert (one.prefer, "one context" in one.because) == ("base", True)
    assert not any(item.supported for item in one.advice)
    few = advice(diagnose([interaction("w", prompt=f"{i % 3}") for i in range(99)], WORD), "rl")
    assert (few.supported, few.reason) == (False, "3 contexts: a cost model needs 7.")


@pytest.mark.parametrize(
    ("writers", "said"),
    [
        ([("own:1", 100)], ""),
        ([("own", 100)], ""),
        ([("", 60), ("own:1", 40)], ""),
        ([("", 100)], "The log does not say which model wrote it, and 64 edits of another model's texts brought no"),
        ([("far:1", 100)], "far:1 wrote the log, not own, and 64 edits of another model's texts brought no policy"),
        ([("far:1", 60), ("", 40)], "far:1 wrote most of the log, not own, and 64 edits"),
        ([("far:1", 128)], ""),
        ([("", 128)], ""),
    ],
)
def test_a_log_of_another_model_is_not_advised_for_training(writers: list[tuple[str, int]], said: str) -> None:
    log = [row for model, n in writers for row in changed(n, model=model)]
    found = diagnose(log, WORD, model="own")
    assert found.prefer == ("base" if said else "sft")
    assert found.because.startswith(said)
    doubt = any(model in ("", "far:1") for model, _ in writers) and len(log) == 128
    assert ("was not measured" in found.because) == doubt
    assert diagnose(log, WORD).prefer == ("base" if said.startswith("The log does not") else "sft")


@pytest.mark.parametrize("experiment", ["cpu", "cpu-two-passes", "transfer"])
def test_sft_is_advised_because_it_won_in_our_rows(experiment: str) -> None:
    """The advice cites results/: it must change when they do."""
    summary = json.loads((RESULTS / experiment / "summary.json").read_text())
    for setting in summary["settings"].values():
        costs = {method: setting["mean_cost"][method] for method in ("sft", "dpo", "early")}
        assert min(costs, key=lambda method: costs[method]) == "sft"
        if experiment == "cpu":
            assert 0.05 <= costs["early"] - costs["sft"] <= 0.775


MEASURED = [json.loads(line) for line in (RESULTS / "advice" / "costs.jsonl").read_text().splitlines()]
"""What ``tools/advice_outcome.py`` measured, a log each."""


def agrees(found: Diagnosis, costs: dict[str, list[float]], best: list[float]) -> bool:
    """Whether no arm cost significantly less than the one advised."""
    return compare(costs[found.prefer.removeprefix("t/").removesuffix("@1")], best).difference.low <= 0


@pytest.mark.parametrize("found", MEASURED, ids=lambda found: found["log"])
def test_advice_agrees_with_what_training_brought(found: Any) -> None:
    """No arm cost significantly less than the one advised, before training and once policies are measured."""
    *names, edits = found["log"].split("/")
    log = changed(int(edits), model="own:1" if len(names) == 2 else "")  # a corpus does not name its model
    costs: dict[str, list[float]] = found["costs"]
    best = min(costs.values(), key=fmean)
    measured = [Trained(f"t/{method}@1", method, *numbers) for method, numbers in found["trained"].items()]
    for trained in ((), measured):
        assert agrees(diagnose(log, WORD, trained=trained, model="own"), costs, best)


@pytest.mark.parametrize("found", MEASURED, ids=lambda found: found["log"])
def test_sure_advice_agrees_and_nothing_is_served_that_costs_more_than_base(found: Any) -> None:
    """Where advice is not sure, what was held out decides what is served by default."""
    *names, edits = found["log"].split("/")
    log, costs = changed(int(edits), model="own:1" if len(names) == 2 else ""), found["costs"]
    said = diagnose(log, WORD, model="own")
    assert not said.sure or agrees(said, costs, min(costs.values(), key=fmean))
    for method, (own, base, heldout, _, high) in found["trained"].items():
        evaluation = {"distance": own, "base_distance": base, "edits": heldout, "against_base": (own - base, high)}
        if Manifest(method, COMPLETE, {}, {}, {}, {}, evaluation=evaluation).standing[0]:
            assert compare(costs[method], costs["base"]).difference.low <= 0


def test_cautions() -> None:
    log = [interaction("x", model=model, prompt=model) for model in ("", "one", "two")]
    log += [interaction(SILENT, model="one", prompt="one", age=40)]
    unknown, models, contexts, censored = diagnose(log, WORD, now=NOW).cautions
    assert unknown.startswith("1 completion does not name its model")
    assert models.startswith("2 base models")
    assert contexts.startswith("1 context repeats, up to 2 times")
    assert censored.startswith("1 completion never got an edit")
    assert diagnose(log[1:2], WORD).cautions == ()


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_figure(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"costs.{suffix}"
    plot(diagnose([*changed(5), *map(interaction, [SAME, "a", "a b c x y z"])], WORD).measures, file)
    assert file.stat().st_size > 2000


def test_figure_of_a_log_where_nothing_was_changed(tmp_path: Path) -> None:
    plot(diagnose([interaction(SAME)], WORD).measures, tmp_path / "costs.png")


def test_invalid_figure(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to draw"):
        plot(diagnose([], WORD).measures, tmp_path / "costs.png")
    some = diagnose(changed(3), WORD).measures
    with pytest.raises(DataError, match=r"costs\.docx: unknown format '\.docx': name it"):
        plot(some, tmp_path / "costs.docx")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"costs\.png: cannot be written .*check the folder"):
        plot(some, tmp_path / "file" / "costs.png")


@pytest.fixture
def data() -> Path:
    if "REDRAFT_DATA" not in os.environ:
        pytest.skip("REDRAFT_DATA is not set: no real edits to read")
    return Path(os.environ["REDRAFT_DATA"])


def defacto(file: Path) -> Iterator[Interaction]:
    for number, line in enumerate(file.read_text("utf-8").splitlines()):
        row = json.loads(line)
        completion = Completion(str(number), "defacto", (Message("user", row["article"]),), row["candidate"])
        yield Interaction(completion, Edit(str(number), (row["feedback"] or {}).get("summary") or None))


def post_edits(stem: Path) -> Iterator[Interaction]:
    columns = (stem.with_suffix(suffix).read_text("utf-8").splitlines() for suffix in (".src", ".mt", ".pe"))
    for number, (source, machine, human) in enumerate(zip(*columns, strict=True)):
        completion = Completion(str(number), "ro-en", (Message("user", source),), machine.strip())
        yield Interaction(completion, Edit(str(number), human.strip()))


@pytest.mark.real
@pytest.mark.parametrize(
    ("read", "name", "mean", "counts"),
    [
        (defacto, "edits/defacto/train.jsonl", pytest.approx(4.568, abs=1e-9), (1000, 302)),
        (post_edits, "edits/mlqe-pe-ro-en/train", pytest.approx(6.7, abs=0.05), (7000, 721)),
    ],
)
def test_published_numbers(
    data: Path, read: Callable[[Path], Iterator[Interaction]], name: str, mean: object, counts: tuple[int, int]
) -> None:
    found = diagnose(read(data / name), WORD).as_dict()
    assert (found["edits"], found["unchanged"]) == counts
    assert found["whitespace_distance"]["mean"] == mean
    assert found["prefer"] == "sft"
