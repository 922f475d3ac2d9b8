from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from redraft.lab.report.diff import Piece, diff_html, word_diff

WORDS = st.lists(st.sampled_from(["a", "b", "<b>", "[red]", "&amp;", "😀", "שלום"]), max_size=12)
TEXTS = st.one_of(st.text(), WORDS.map(" ".join), WORDS.map("\n".join))


def squeezed(text: str) -> str:
    return "".join(text.split())


@given(TEXTS, TEXTS)
def test_the_pieces_are_both_texts(before: str, after: str):
    pieces = word_diff(before, after)
    assert "".join(piece.text for piece in pieces if piece.kind != "struck") == after
    assert squeezed("".join(piece.text for piece in pieces if piece.kind != "added")) == squeezed(before)


@given(TEXTS)
def test_equal_texts_have_no_changes(text: str):
    assert word_diff(text, text) == ([Piece("same", text)] if text else [])


def test_a_run_of_changes_is_struck_then_added():
    assert word_diff("Dear Sir, we meet", "Hi Tom, we meet") == [
        Piece("struck", "Dear Sir, "),
        Piece("added", "Hi Tom, "),
        Piece("same", "we meet"),
    ]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.said = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.said += data


@given(WORDS.map(" ".join), WORDS.map(" ".join))
def test_html_holds_the_texts_as_text(before: str, after: str):
    reader = _Reader()
    reader.feed(diff_html(before, after))
    reader.close()
    assert reader.tags <= {"del", "ins"}
    assert reader.said == "".join(piece.text for piece in word_diff(before, after))


def test_hostile_texts_are_escaped():
    shown = diff_html("<script>alert('1')</script>", '</ins><img src="x" onerror="y">\x00\x1b[31m')
    assert "<script" not in shown
    assert "<img" not in shown
    assert "\x00" not in shown
    assert "\x1b" not in shown
    assert shown.startswith("<del>&lt;script&gt;")
