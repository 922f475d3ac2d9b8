from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.costs import COSTS, normalised
from redraft.data import LeftOut, preference_rows, sft_rows
from redraft.diagnose import diagnose
from redraft.transport import KINDS, SPACING, differences, same, without
from redraft.types import Completion, Edit, Interaction

WORD = COSTS["word"]
TEXT = 'Hi Ann,\n\nit\'s on Friday -- "as planned"...\n\n\tCafé & more  :)\nKim, office'

WAYS: dict[str, tuple[str, str]] = {
    "a textarea": (TEXT.replace("\n", "\r\n"), "line ends"),
    "an old Mac": (TEXT.replace("\n", "\r"), "line ends"),
    "text mode twice": (TEXT.replace("\n", "\r\r\n"), "line ends"),
    "a mainframe": (TEXT.replace("\n", "\x85"), "line ends"),
    "a rich editor": (TEXT.replace("\n\n", "\n\u2029").replace("\n", "\u2028"), "line ends"),
    "an editor that ends files": (TEXT + "\n", "blanks"),
    "a form that trims": (f" {TEXT}\n", "blanks"),
    "format=flowed": (TEXT.replace("\n", " \n"), "blanks"),
    "contenteditable": (TEXT.replace(" ", "\xa0"), "blanks"),
    "a French keyboard": (TEXT.replace(" :)", "\u202f:)"), "blanks"),
    "a Japanese keyboard": (TEXT.replace(" ", "\u3000"), "blanks"),
    "macOS file names": (unicodedata.normalize("NFD", TEXT), "composition"),
    "Excel": ("\ufeff" + TEXT, "invisible"),
    "a web page that breaks words": (TEXT.replace("planned", "plan\u200bned"), "invisible"),
    "a hyphenator": (TEXT.replace("planned", "plan\xadned"), "invisible"),
    "a messenger": (f"\u2068{TEXT}\u2069", "invisible"),
    "a zero-width joiner in Latin": (TEXT.replace("planned", "plan\u200cned"), "invisible"),
    "a phone's apostrophe": (TEXT.replace("'", "’"), "punctuation"),
    "Word's quotes": (TEXT.replace('"as planned"', "“as planned”"), "punctuation"),
    "French quotes": (TEXT.replace('"as planned"', "«\xa0as planned\xa0»"), "blanks and punctuation"),
    "a dash": (TEXT.replace("--", "—"), "punctuation"),
    "an ellipsis": (TEXT.replace("...", "…"), "punctuation"),
    "a PDF's ligatures": (TEXT.replace("office", "o\ufb03ce"), "punctuation"),
    "an input method": (TEXT.replace(":)", "：）"), "punctuation"),
    "a template that escapes": (TEXT.replace("&", "&amp;").replace('"', "&quot;").replace("'", "&#39;"), "entities"),
    "an editor without tabs": (TEXT.replace("\t", "    "), "tabs"),
    "several at once": ("\ufeff" + TEXT.replace("\n", "\r\n"), "line ends and invisible"),
}


def edited(text: str | None, response: str = TEXT) -> Interaction:
    return Interaction(Completion("a", "email", (), response), Edit("a", text))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("back", [False, True])
def test_diagnose_says_what_it_hid(way: str, back: bool) -> None:
    text, kinds = WAYS[way]
    row = edited(TEXT, text) if back else edited(text)
    found = diagnose([row], WORD).measures
    assert (found.unchanged, found.changed, found.hidden) == (1, 0, {kinds: 1})
    assert list(preference_rows([row])) == []
    assert [row["completion"][0]["content"] for row in sft_rows([row])] == [row.completion.response]
    assert WORD.typed(row.completion.response, str(row.edited)) == 0


@pytest.mark.parametrize("text", [" ".join(TEXT.split()), TEXT.replace("  ", " "), TEXT.replace(" on ", "\non ")])
def test_layout_counts_and_is_told(text: str) -> None:
    found = diagnose([edited(text)], WORD).measures
    assert (found.changed, found.hidden, found.told) == (1, {}, {SPACING: 1})
    looked_past = diagnose([edited(text)], normalised(WORD, (*KINDS, SPACING))).measures
    assert (looked_past.changed, looked_past.hidden) == (0, {SPACING: 1})


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ("It's fine.", "It’s good."),
        ("a\u200cb می\u200cروم", "ab میروم"),  # a joiner that is spelling
        ("x² and m³", "x2 and m3"),
        ("Wait!", "Wait"),
        ("resume", "résumé"),
        ("if x:\n    y\nz", "if x:\n    y\n    z"),
        ("👨\u200d👩", "👨👩"),
        ("", "x"),
    ],
)
def test_what_a_person_did_counts(response: str, text: str) -> None:
    found = diagnose([edited(text, response)], WORD).measures
    assert (found.changed, found.hidden) == (1, {})
    assert len(list(preference_rows([edited(text, response)]))) == 1


def test_an_edit_among_transport_costs_the_edit_alone() -> None:
    arrived = "\ufeff" + unicodedata.normalize("NFD", TEXT.replace("Friday", "Monday")).replace("\n", "\r\n")
    assert WORD.typed(TEXT, arrived) == 1
    assert COSTS["character"].typed(TEXT, arrived) == 3  # Fri → Mon
    (row,) = preference_rows([edited(arrived)])
    assert "\r" not in row["chosen"][0]["content"]


def test_a_task_that_looks_past_nothing() -> None:
    nothing = normalised(WORD, ())
    row = edited(TEXT.replace("\n", "\r\n"))
    assert nothing.name == "word without nothing"
    assert len(list(preference_rows([row], lambda _: nothing))) == 1
    assert list(LeftOut(lambda _: nothing).of([row])) == [row]
    assert not same("a", "a ", ())
    assert normalised(WORD, ["punctuation", "blanks"]).name == "word without blanks, punctuation"


@given(one=st.text(), other=st.text())
def test_sameness_is_an_equivalence(one: str, other: str) -> None:
    assert same(one, one)
    assert same(one, other) == same(other, one)
    assert same(one, other) or without(one) != without(other)
    assert bool(differences(one, other)) <= (without(one, (*KINDS, SPACING)) == without(other, (*KINDS, SPACING)))
    assert WORD.typed(one, other) == WORD.typed(other, one)


ORDINARY = st.text("abc,.\"' -é\n")


PIECES = [
    ("-", "--"),
    ('"', "''"),
    (". . .", "..."),
    ("\n", "\r\n"),
    ("\t", "    "),
    ("\0", ""),
    (" \n", "\n"),
    ("&amp;", "&"),
]
ODD = st.lists(st.sampled_from([*PIECES, *zip("ab '-\x0b", "ab '-\x0b", strict=True), ("a", "b")]), max_size=5)


@settings(max_examples=400)
@given(pieces=ODD, kinds=st.sets(st.sampled_from((*KINDS, SPACING))))
def test_the_quick_look_decides_as_the_long_one(pieces: list[tuple[str, str]], kinds: set[str]) -> None:
    one, other = ("".join(side) for side in zip(*pieces or [("", "")], strict=True))
    assert same(one, other, kinds) == (without(one, kinds) == without(other, kinds))


@given(text=ORDINARY, other=ORDINARY)
def test_ordinary_text_is_priced_as_before(text: str, other: str) -> None:
    text, other = without(text, ["blanks"]), without(other, ["blanks"])
    if not same(text, other):
        assert WORD.typed(text, other) == WORD.raw(text, other)


def test_long_runs_of_blanks_take_no_time() -> None:
    assert same("a" + " " * 200_000 + "b", "a" + " " * 200_000 + "b\n")
