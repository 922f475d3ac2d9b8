"""Tables that fit the screen and bars that say how long it takes."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from redraft.cli import session
from redraft.cli.output import emit

CELL = st.text("abc-", min_size=1, max_size=12)
WORDS = st.lists(CELL, min_size=1, max_size=5).map(" ".join)


def drawn(rows: dict[str, Sequence[object]], width: int = 80) -> str:
    stream = io.StringIO()
    session.table(rows)(Console(file=stream, width=width, highlight=False))
    return stream.getvalue()


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(WORDS, min_size=n, max_size=n), min_size=1, max_size=7)))
def test_no_table_cuts_a_word_or_leaves_the_screen(columns: list[list[str]]) -> None:
    rows: dict[str, Sequence[object]] = {f"{'w' * number} x{number}": cells for number, cells in enumerate(columns, 1)}
    text = drawn(rows, 40)
    words = text.split()
    assert max(map(len, text.splitlines())) <= 40
    assert all(words.count(word) > 0 for cells in columns for cell in cells for word in cell.split())


def test_a_table_is_upright_else_turned_else_a_list() -> None:
    short: dict[str, Sequence[object]] = {"task": ["a", "b"], "edits": [1, 2]}
    assert drawn(short).count("\n") == 6
    assert "│ edits" not in drawn(short)
    wide: dict[str, Sequence[object]] = {f"column{number}": [10**9, 1] for number in range(8)}
    assert "│ column7 │ 1000000000 │ 1 │" in drawn(wide)
    path = "/a/folder" * 12
    assert drawn({"out": [path], "rows": [3]}) == f"out\n      {path}\nrows  3\n\n"
    assert drawn({"policy": [], "edits": []}) == "none yet\n"


def test_wide_titles_and_cells_break_between_words() -> None:
    cells = ["client, feedback, admin"] * 4
    text = drawn({"id": ["0" * 40] * 4, "scopes": cells, "a longer title": ["x" * 10] * 4})
    assert all(line[0] in "┏┃┡│└" for line in text.splitlines())
    assert text.count("admin") == 4


def test_bars_tell_how_many_and_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr(session, "progress_console", lambda: console)
    with session.bars() as advance:
        for done in range(3):
            advance("training", done, 4)
    last = [line for line in stream.getvalue().splitlines() if "training" in line][-1]
    assert re.search(r"2 of 4 0:00:0\d [-:0-9]{7} left", last)


def test_bars_without_work_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with session.bars():
        pass
    assert capsys.readouterr() == ("", "")


def test_json_is_one_line_and_refuses_what_json_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"a": "ü", "b": None}, True, lambda _: None)
    assert capsys.readouterr().out == '{"a": "ü", "b": null}\n'
    with pytest.raises(ValueError, match="Out of range"):
        emit({"a": float("nan")}, True, lambda _: None)
