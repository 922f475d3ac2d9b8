"""Rows that trainers read, and splits that leak no context."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.costs import COSTS
from redraft.data import context_groups, context_key, cost_rows, parts, preference_rows, sft_rows, split, unpaired_rows
from redraft.errors import ConfigError, DataError
from redraft.types import Completion, Edit, Interaction, Message

WORDS = [f"word{i}" for i in range(400)]


def context(*texts: str) -> tuple[Message, ...]:
    return tuple(Message("user", text) for text in texts)


def interaction(name: str, text: str) -> Interaction:
    return Interaction(Completion(name, "task", context(text), "y"), Edit(name, "z"))


def article(seed: int, length: int = 60) -> list[str]:
    return random.Random(seed).choices(WORDS, k=length)


CHANGED = Interaction(Completion("a", "task", (Message("system", "s"), Message("user", "x")), "a b"), Edit("a", "a c"))
ACCEPTED = Interaction(Completion("b", "task", context("x"), "y"), Edit("b", None))
SAME = Interaction(Completion("c", "task", context("x"), "y"), Edit("c", "y"))
SILENT = Interaction(Completion("d", "task", context("x"), "y"))
EVERYTHING = (CHANGED, ACCEPTED, SAME, SILENT)
PROMPT = [{"role": "system", "content": "s"}, {"role": "user", "content": "x"}]
X = [{"role": "user", "content": "x"}]


def says(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


class TestRows:
    def test_sft(self) -> None:
        same = {"prompt": X, "completion": says("y")}
        assert list(sft_rows(EVERYTHING)) == [{"prompt": PROMPT, "completion": says("a c")}, same, same]

    def test_preference(self) -> None:
        expected = {"prompt": PROMPT, "chosen": says("a c"), "rejected": says("a b")}
        assert list(preference_rows(EVERYTHING)) == [expected]

    def test_unpaired(self) -> None:
        same = {"prompt": X, "completion": says("y"), "label": True}
        assert list(unpaired_rows(EVERYTHING)) == [
            {"prompt": PROMPT, "completion": says("a c"), "label": True},
            {"prompt": PROMPT, "completion": says("a b"), "label": False},
            same,
            same,
        ]

    def test_cost(self) -> None:
        same = {"prompt": X, "completion": says("y"), "cost": 0.0, "raw": 0.0}
        assert list(cost_rows(EVERYTHING, lambda task: COSTS["word"])) == [
            {"prompt": PROMPT, "completion": says("a b"), "cost": 0.5, "raw": 1.0},
            same,
            same,
        ]

    def test_an_empty_edit_is_an_edit(self) -> None:
        struck = Interaction(Completion("a", "task", context("x"), "y"), Edit("a", ""))
        assert next(preference_rows([struck]))["chosen"] == says("")


class TestContexts:
    def test_key_ignores_case_punctuation_and_spacing(self) -> None:
        key = context_key(context("Write to  Ann!"))
        assert key == context_key(context("write to ann")) == context_key(context("ＷＲＩＴＥ to\nAnn."))
        assert key != context_key(context("write to anne"))
        assert key != context_key((Message("system", "write to ann"),))
        assert context_key(context("a", "b")) != context_key(context("a b"))
        assert context_key(context("?")) != context_key(context("!"))

    @pytest.mark.parametrize(
        ("text", "near", "other"),
        [
            (
                "会议改到星期二下午三点，请写信告诉大家。",
                "会议改到星期三下午三点,请写信告诉大家",
                "请把这封信翻译成英文，谢谢您的帮助。",
            ),
            (
                "会議は木曜日の午後3時に変更されました。",
                "会議は金曜日の午後３時に変更されました",
                "この文章を英語に訳してください。",
            ),
            ("กรุณาเขียนจดหมายถึงลูกค้าของเรา", "กรุณาเขียนอีเมลถึงลูกค้าของเรา", "วันนี้อากาศดีมากที่เชียงใหม่"),
        ],
    )
    def test_near_repeats_are_found_where_words_have_no_blanks(self, text: str, near: str, other: str) -> None:
        contexts = [[Message("user", content)] for content in (text, near, other)]
        groups = context_groups(contexts)
        one, same, apart = (groups[context_key(messages)] for messages in contexts)
        assert one == same != apart
        assert context_key([Message("user", f" {text}!")]) == context_key(contexts[0])

    def test_near_repeats_share_a_group_and_others_do_not(self) -> None:
        base = article(0)
        near = [*base[:20], "changed", *base[21:]]
        further = [*near[:40], "changed", "too", *near[42:]]
        texts = [base, near, further, article(1), article(2), base[::-1]]
        groups = context_groups(context(" ".join(words)) for words in texts)
        found = [groups[context_key(context(" ".join(words)))] for words in texts]
        assert found[0] == found[1] == found[2]
        assert len(set(found)) == 4

    @pytest.mark.parametrize("length", [8, 300])
    @pytest.mark.parametrize("count", [10, 200])
    def test_a_shared_template_makes_no_repeats(self, length: int, count: int) -> None:
        template = " ".join(article(0, length))
        contexts = [context(f"{template}: " + " ".join(article(i, 8))) for i in range(1, count + 1)]
        assert len(set(context_groups(contexts).values())) == count

    def test_repeats_are_found_under_a_template(self) -> None:
        template = " ".join(article(0, 300))
        contexts = [context(f"{template}: " + " ".join(article(i, 30))) for i in range(1, 51)]
        contexts.append(context(f"{template}: " + " ".join([*article(7, 30), "more"])))
        assert len(set(context_groups(contexts).values())) == 50

    def test_nothing_gives_nothing(self) -> None:
        assert context_groups([]) == {}
        assert len(context_groups([(), context(""), context("\ud800")])) == 3


def by_id(row: Interaction) -> str:
    return row.completion.id


class TestSplit:
    def test_is_leak_free_exhaustive_and_about_the_size(self) -> None:
        rng = random.Random(0)
        rows = [interaction(f"{i}", " ".join(article(rng.randrange(120)))) for i in range(300)]
        near = [interaction(f"near {i}", " ".join([*article(i), "again"])) for i in range(0, 120, 3)]
        train, held = split([*rows, *near], holdout=0.2, seed=1)
        assert len(train) + len(held) == 340
        assert len(held) == pytest.approx(68, abs=3)
        groups = context_groups(row.completion.messages for row in [*rows, *near])
        sides = [{groups[context_key(row.completion.messages)] for row in side} for side in (train, held)]
        assert not sides[0] & sides[1]
        ids = [[row.completion.id for row in part] for part in (train, held, rows, near)]
        assert sorted([*ids[0], *ids[1]]) == sorted([*ids[2], *ids[3]])

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.integers(0, 8), min_size=9, max_size=30), st.integers(0, 3), st.randoms(use_true_random=False))
    def test_depends_on_seed_but_not_on_order(self, seeds: list[int], seed: int, rng: random.Random) -> None:
        rows = [interaction(f"{i}", " ".join(article(s))) for i, s in enumerate([*seeds, 100, 101])]
        shuffled = rng.sample(rows, len(rows))
        train, held = split(rows, holdout=0.3, seed=seed)
        assert split(shuffled, holdout=0.3, seed=seed) == (train, held)
        assert train
        assert held
        texts = [{row.completion.messages for row in side} for side in (train, held)]
        assert not texts[0] & texts[1]

    def test_seeds_differ(self) -> None:
        rows = [interaction(f"{i}", " ".join(article(i))) for i in range(100)]
        assert split(rows, holdout=0.1, seed=1) != split(rows, holdout=0.1, seed=2)

    def test_a_small_set_still_has_both_sides(self) -> None:
        rows = [interaction(f"{i}", " ".join(article(i % 2))) for i in range(6)]
        for holdout in (0.01, 0.5, 0.99):
            train, held = split(rows, holdout=holdout, seed=0)
            assert (len(train), len(held)) == (3, 3)

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.integers(0, 20), min_size=9, max_size=40), st.integers(0, 3))
    def test_what_chooses_and_what_reports_share_no_context(self, seeds: list[int], seed: int) -> None:
        rows = [interaction(f"{i}", " ".join(article(s))) for i, s in enumerate([*seeds, 100, 101])]
        train, choosing, reporting = parts(rows, holdout=0.4, seed=seed, least=2)
        assert split(rows, holdout=0.4, seed=seed) == (train, sorted([*choosing, *reporting], key=by_id))
        groups = context_groups(row.completion.messages for row in rows)
        sides = [{groups[context_key(row.completion.messages)] for row in part} for part in (choosing, reporting)]
        assert not sides[0] & sides[1]
        assert reporting
        assert bool(choosing) == (len(sides[0] | sides[1]) > 1)

    @pytest.mark.parametrize(
        ("edits", "held"), [(2, (0, 1)), (7, (0, 1)), (8, (2, 2)), (20, (4, 4)), (40, (4, 4)), (100, (8, 7))]
    )
    def test_from_eight_edits_on_eight_are_held_out_or_half(self, edits: int, held: tuple[int, int]) -> None:
        rows = [interaction(f"{i}", " ".join(article(i))) for i in range(edits)]
        assert tuple(map(len, parts(rows, holdout=0.15, seed=1)[1:])) == held

    def test_nothing_held_out(self) -> None:
        rows = [interaction("b", "x"), interaction("a", "y")]
        assert split(rows, holdout=0, seed=0) == ([rows[1], rows[0]], [])
        assert split([], holdout=0.5, seed=0) == ([], [])

    @pytest.mark.parametrize("holdout", [-0.1, 1.0, float("nan")])
    def test_invalid_share(self, holdout: float) -> None:
        with pytest.raises(ConfigError, match="holdout"):
            split([], holdout=holdout, seed=0)

    def test_one_context_cannot_be_split(self) -> None:
        with pytest.raises(DataError, match=r"3 edits of one context.*--holdout 0"):
            split([interaction(f"{i}", "X!"[:1]) for i in range(3)], holdout=0.5, seed=0)
