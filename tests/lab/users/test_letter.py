from __future__ import annotations

import pytest
from email_drafts import situations
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from redraft.lab.users.letter import Letter, is_frame, sentences
from redraft.types import Context


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(situations())
def test_reading_is_stable(situation: tuple[Context, str]):
    letter = Letter.read(situation[1])
    assert Letter.read(str(letter)) == letter


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(situations(), st.sampled_from(["", "- "]))
@example((Context("", (), ""), "5"), "- ")
@example((Context("", (), ""), "in room 310. please"), "")
def test_sentences_on_lines_of_their_own_stay_as_they_are(situation: tuple[Context, str], dash: str):
    found = sentences(situation[1])
    assert sentences("\n".join(dash + sentence for sentence in found)) == found


def test_the_zones_of_an_email():
    text = "Subject: News\nDear Mr. Rao, the room\nis new. \n\nBest regards, Ann\n\nBooking desk"
    assert Letter.read(text) == Letter(
        "Subject: News", "Dear Mr. Rao,", "the room\nis new.", "Best regards, Ann\n\nBooking desk"
    )


@pytest.mark.parametrize("text", ["", "\n \n", "\t\u2028"])
def test_an_empty_text_has_empty_zones(text: str):
    assert Letter.read(text) == Letter("", "", "", "")


def test_numbers_and_titles_end_no_sentence():
    assert sentences("It is 3 p.m. in room 310. Ask Mr. Rao. why not") == [
        "It is 3 p.m. in room 310.",
        "Ask Mr. Rao. why not.",
    ]


@pytest.mark.parametrize(
    "line", ["Subject: x", "**Re:** x", "Hi all", "Good morning, Tom", "Thanks!", "Best wishes, Ann"]
)
def test_frame_lines_are_no_statements(line: str):
    assert is_frame(line)


@pytest.mark.parametrize("line", ["Thanks to Ann we meet in room 4.", "The best room.", "History: it is done.", "- Hi"])
def test_other_lines_are(line: str):
    assert not is_frame(line)
