from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from redraft.lm.trim import Trim, trim

# Few letters and a short length, so that most texts repeat themselves.
LOOPS = st.tuples(st.text("abc"), st.text("abc"), st.integers(0, 9)).map(lambda loop: loop[0] + loop[1] * loop[2])
TEXTS = st.text("ab ", max_size=40) | LOOPS
LENGTHS = st.integers(1, 6)


def by_definition(text: str, length: int) -> str:
    """Try every start of a repetition against every earlier place."""
    for start in range(len(text) - length + 1):
        if any(text[start : start + length] == text[earlier : earlier + length] for earlier in range(start)):
            return text[:start]
    return text


@given(TEXTS, LENGTHS)
@example("aaaa", 2)
@example("xabab", 2)
def test_equals_the_definition(text: str, length: int) -> None:
    assert trim(text, length) == by_definition(text, length)


@given(TEXTS, LENGTHS)
def test_is_a_prefix_and_trimming_again_changes_nothing(text: str, length: int) -> None:
    once = trim(text, length)
    assert text.startswith(once)
    assert trim(once, length) == once


@given(st.text(max_size=200))
def test_short_texts_stay(text: str) -> None:
    assert trim(text) == text


def test_the_papers_two_hundred_characters() -> None:
    unit = "".join(chr(0x4E00 + i) for i in range(250))
    assert trim(unit + unit[:199]) == unit + unit[:199]
    assert trim(unit + unit[:200]) == unit
    assert trim(f"{unit}{unit[50:249]}!") == f"{unit}{unit[50:249]}!"
    assert trim(f"{unit}–{unit[50:]}!") == f"{unit}–"


def test_a_loop_is_cut_after_its_first_turn() -> None:
    assert trim("Dear Tom,\n" + "Thank you. " * 50) == "Dear Tom,\nThank you. "
    assert trim("-" * 201) == "-"
    assert trim("-" * 200) == "-" * 200


@given(TEXTS, LENGTHS, st.lists(st.integers(0, 60)))
@example("aaaa", 2, [])
@example("abcab", 3, [4])
def test_as_it_arrives_nothing_is_unsaid_and_the_cut_is_the_same(text: str, length: int, places: list[int]) -> None:
    arriving, said = Trim(length), ""
    for place in sorted({*places, len(text)}):
        now = arriving.grown(text[:place])
        assert now.startswith(said)
        assert trim(text, length).startswith(now)
        said = now
        if arriving.ended:
            break
    assert (said if arriving.ended else text) == trim(text, length)
    assert arriving.ended == (trim(text, length) != text)


def test_of_prose_only_a_few_characters_are_held_back() -> None:
    prose = (
        "Dear Ann, the review has moved to Friday at three, in room 204. Please bring the signed budget and the notes "
        "of the last meeting. If Friday does not suit you, tell Mr Rao before noon. Kind regards, Kim"
    )
    arriving = Trim()
    held = [place - len(arriving.grown(prose[:place])) for place in range(1, len(prose) + 1)]
    assert max(held) <= 8
