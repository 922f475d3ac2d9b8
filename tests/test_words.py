from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.costs import COSTS
from redraft.words import UNSPACED, nltk_words, words

unhurried = settings(deadline=None, max_examples=300)
LETTER = regex.compile("[" + "".join(rf"\p{{sc={name}}}" for name in UNSPACED.split()) + "]")

# What NLTK's rules look at, with each kind of blank, and whatever else there is in scripts with blanks.
RULES = st.sampled_from([*" \n\t\xa0\u2028a1.\"'`,:;()[]{}<>-«»”’“‘*!?&\x1c", "'s", "can", "not", "n't", "'t", "is"])
LATIN = st.lists(RULES | st.sampled_from(["'ll", "wan", "na", "''", "--", "..", "word", "ß", "다", "я"]), max_size=30)
ANY = st.text(st.characters(exclude_categories=["Cs"]).filter(lambda char: not LETTER.match(char)), max_size=30)


@unhurried
@given(text=LATIN.map("".join) | ANY)
def test_text_with_blanks_keeps_the_tokens_of_nltk(text: str) -> None:
    assert list(words(text)) == nltk_words(text)


@unhurried
@given(left=LATIN.map("".join), right=LATIN.map("".join))
def test_pieces_are_kept_whatever_came_before(left: str, right: str) -> None:
    for text in (left, f"{left} {right}", f"{right}\n{left}", " ".join([left] * 20), "x" * 50 + left + "\t" + right):
        assert list(words(text)) == nltk_words(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("我喜欢苹果。", "我 喜 欢 苹 果 。"),
        ("会议改到15:00，地点是967室。", "会 议 改 到 15:00 ， 地 点 是 967 室 。"),
        ("「こんにちは」と言った。", "「 こ ん に ち は 」 と 言 っ た 。"),
        ("データ・ベース", "デ ー タ ・ ベ ー ス"),
        ("か\u3099ある", "か\u3099 あ る"),  # a mark stays with its base
        ("สวัสดีครับ ผม", "ส วั ส ดี ค รั บ ผ ม"),
        ("กำลัง", "กำ ลั ง"),
        ("ສະບາຍດີ", "ສ ະ ບ າ ຍ ດີ"),
        ("ភាសាខ្មែរ", "ភា សា ខ្មែ រ"),
        ("မြန်မာ", "မြ န် မာ"),
        ("བོད་སྐད།", "བོ ད ་ སྐ ད །"),
        ("GPT-4很好, don't用GPT.", "GPT-4 很 好 , do n't 用 GPT ."),
        ("𠮷野家", "𠮷 野 家"),
        ("한국어 문장.", "한국어 문장 ."),
        ("It’s “fine”。", "It ’ s “ fine ” 。"),
    ],
)
def test_by_hand(text: str, expected: str) -> None:
    assert list(words(text)) == expected.split(" ")


@pytest.mark.parametrize(
    ("response", "edited", "raw", "units"),
    [
        ("会议在星期二。", "会议在星期三。", 1, 7),
        ("会議は木曜日です。", "会議は金曜日でした。", 3, 9),
        ("ผมไปตลาด", "ผมไปบ้าน", 3, 8),  # ผ ม ไ ป ต ล า ด → ผ ม ไ ป บ้ า น
        ("请联系 Ann。", "请给 Ann 打电话。", 5, 5),  # 请 联 系 Ann 。 → 请 给 Ann 打 电 话 。
    ],
)
def test_an_edit_of_a_word_is_not_one_of_the_whole_text(response: str, edited: str, raw: int, units: int) -> None:
    assert (COSTS["word"].raw(response, edited), COSTS["word"](response, edited)) == (raw, raw / units)


@pytest.mark.parametrize("name", ["word", "whitespace", "character"])
@settings(deadline=None)
@given(texts=st.tuples(*[st.text("ab .\n我们。こーがสวัด다é\u0301\u200b\u200d😀", max_size=12)] * 3))
def test_raw_is_a_metric_in_all_scripts(name: str, texts: tuple[str, str, str]) -> None:
    raw, (x, y, z) = COSTS[name].raw, texts
    assert raw(x, x) == 0
    assert raw(x, y) == raw(y, x)
    assert raw(x, z) <= raw(x, y) + raw(y, z)


@pytest.mark.real
@pytest.mark.skipif("REDRAFT_DATA" not in os.environ, reason="REDRAFT_DATA is not set: no real edits to read")
def test_all_real_texts_keep_their_tokens() -> None:
    folder = Path(os.environ["REDRAFT_DATA"]) / "edits"
    texts = [
        text for file in folder.glob("mlqe-*/*") if file.suffix != ".hter" for text in file.read_text().split("\n")
    ]
    for file in folder.glob("defacto/*.jsonl"):
        for line in file.read_text().split("\n"):
            texts += [value for value in json.loads(line or "{}").values() if isinstance(value, str)]
    assert len(texts) > 20_000
    assert [text for text in texts if list(words(text)) != nltk_words(text)] == []


@pytest.mark.slow
def test_costs_of_the_committed_results_hold() -> None:
    counts = Counter[bool]()
    for file in sorted((Path(__file__).parents[1] / "results").glob("*/matrix*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as rows:
            for row in map(json.loads, rows):
                texts = row["response"], row["edited"]
                latin = not any(map(LETTER.search, texts))
                counts[latin] += 1
                found = COSTS["word"].typed(*texts)
                assert not latin or (found, COSTS["word"](*texts)) == (
                    row["raw"],
                    pytest.approx(row["cost"], abs=1e-12),
                )
    assert counts[True] > 30_000
    assert 0 < counts[False] < 10  # a model wrote some Chinese among its English
