"""``redraft ope``: what a person reads of a log whose choices were drawn, and of one in which nothing was."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from redraft.log import EditLog
from redraft.select import Fixed, Selector, Uniform
from redraft.types import Completion, Edit, Interaction, Message

Typed = Callable[..., CompletedProcess[str]]
ARMS = ("base", "email/sft@1", "email/sft@2")
SHARES = {"base": 0.8, "email/sft@1": 0.5, "email/sft@2": 0.2}
"""How many of ten words of a policy's answer are edited, in tenths."""


def served(selector: Selector, n: int) -> None:
    """A log of ``n`` decisions whose answers cost about what ``SHARES`` say."""
    rng = random.Random(1)

    def rows() -> list[Interaction]:
        made: list[Interaction] = []
        for i in range(n):
            decision = selector.select(f"c{i}")
            kept = [rng.random() > SHARES[decision.chosen] for _ in range(10)]
            draft = [f"w{k}" for k in range(10)]
            edited = [word if keep else f"{word}x" for word, keep in zip(draft, kept, strict=True)]
            said = Completion(f"c{i}", "email", (Message("user", "x"),), " ".join(draft), decision.chosen)
            made.append(Interaction(said, Edit(f"c{i}", " ".join(edited)), decision))
        return made

    with EditLog("sqlite:///redraft.db") as log:
        log.add_many(rows())


@pytest.fixture
def told(typed: Typed, tmp_path: Path) -> Callable[..., CompletedProcess[str]]:
    Path("redraft.toml").write_text('[log]\nurl = "sqlite:///redraft.db"\n')
    return typed


def test_drawn_choices_tell_what_each_policy_costs(told: Typed) -> None:
    served(Uniform(ARMS, seed=3), 600)
    found = json.loads(told("ope", "email", "--most", "1", "--json").stdout)
    assert found["edits"] == 600
    assert found["against"] == "base"
    for name, share in SHARES.items():
        estimate = found["targets"][name]["estimate"]
        for way in ("ips", "snips", "dr", "bernstein"):
            assert estimate[way]["low"] < share < estimate[way]["high"], (name, way)
    uniform = found["targets"]["uniform"]["estimate"]
    assert uniform["ips"]["mean"] == pytest.approx(found["cost"])
    assert uniform["effective"] == pytest.approx(600)
    for name in ("sft", "sft@2", "email/sft", "email/sft@2"):
        text = told("ope", "email", "--most", "1", "--target", name).stdout
        assert "sft@2: costs less than base, sure since edit " in text
    assert "sure since" not in told("ope", "email").stdout
    beside = json.loads(told("ope", "email", "--most", "1", "--against", "uniform", "--json").stdout)["targets"]
    assert beside["email/sft@2"]["said"].startswith("costs less than uniform, sure since edit ")


def test_of_choices_that_were_certain_it_says_why_not(told: Typed) -> None:
    served(Fixed(ARMS), 20)
    shown = told("ope", "email", "--target", "sft@2", "--target", "base")
    assert shown.returncode == 0
    assert "sft@2: cannot be told: email/sft@2 could not be chosen in any of 20 decisions" in shown.stdout
    assert "base: an effective sample of 20 edits is too thin" in shown.stdout
    alone = told("ope", "email", "--target", "sft@2")
    assert 'nothing was left to chance: serve for a while with selector = "uniform"' in alone.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mail"], "task 'mail' is not in the log"),
        (["email", "--target", "dpo"], "dpo: not among base, sft@1, sft@2"),
        (["email", "--most", "0.1"], "most = 0.1: an edit of the log costs"),
    ],
)
def test_what_it_cannot_read_is_one_line(told: Typed, arguments: Sequence[str], said: str) -> None:
    served(Uniform(ARMS), 10)
    shown = told("ope", *arguments)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert said in shown.stderr
    assert shown.stderr.count("\n") == 1
