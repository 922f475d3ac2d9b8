from __future__ import annotations

import pytest

from redraft.lab.users.notes import Kind, Slot
from redraft.lab.users.values import holds, values, words


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("time", "3 pm", "at 3pm"),
        ("time", "3 pm", "at 3:00 P.M. sharp"),
        ("time", "3 pm", "at 15:00"),
        ("time", "9:30 am", "at 09:30"),
        ("time", "12 pm", "at 12:00"),
        ("date", "3 May", "on May 3rd"),
        ("date", "12 October", "the 12th of October, 2031"),
        ("day", "Friday", "on FRIDAY's"),
        ("number", "1200", "€1,200"),
        ("name", "Mei", "Mei's desk"),
        ("word", "budget meeting", "our meetings on the budget"),
    ],
)
def test_a_slot_is_held_in_any_spelling(kind: Kind, value: str, said: str):
    assert holds(Slot(kind, value), frozenset(found.normal for found in values(said)), words(said))


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("time", "3 pm", "at 3 am"),
        ("time", "3 pm", "3 pages"),
        ("date", "3 May", "on 3 March"),
        ("date", "3 June", "on July 3"),
        ("number", "204", "2041"),
        ("number", "3", "at 3 pm"),
        ("name", "Mei", "Meiko"),
        ("word", "budget meeting", "a meeting"),
    ],
)
def test_and_by_no_other_value(kind: Kind, value: str, said: str):
    assert not holds(Slot(kind, value), frozenset(found.normal for found in values(said)), words(said))


def test_values_know_their_place():
    sentence = "We meet on Friday at 3 p.m. with Mara"
    assert [sentence[value.start : value.end] for value in values(sentence)] == ["Friday", "3 p.m", "Mara"]
