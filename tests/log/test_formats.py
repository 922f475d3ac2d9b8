"""One contract over all foreign formats: stream, keep what is good, say what is wrong with the rest and where."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from redraft.errors import DataError
from redraft.lab.corpora import CORPORA
from redraft.log.canonical import canonical, renamed
from redraft.log.formats import READERS, BadRow, Options, Row, native
from redraft.log.formats.rows import Rows, TooLong, lines
from redraft.types import Completion, Decision, Edit, Interaction, Message

OPTIONS = Options("task")


@dataclass(frozen=True)
class Sample:
    """How to write a file of a format: good rows by (x, y, y'), what stands before them, and rows that are bad."""

    name: str
    good: Callable[[str, str, str], bytes]
    bad: tuple[tuple[bytes, str], ...]
    head: bytes = b""
    file: str = "file"


def as_json(**fields: Any) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode()


def say(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


BAD_JSON = (
    (b'{"prompt": ', "not valid JSON in UTF-8 (EOF while parsing a value at "),
    (b'{"prompt": "\xff"}', "not valid JSON in UTF-8"),
    (b'{"prompt": "\\ud83d"}', "not valid JSON in UTF-8"),
    (b"[1]", "the row = [1]: Input should be an object"),
    (b"[" * 100_000, "not valid JSON in UTF-8 (recursion limit"),
)
LONG = "x" * 5_000_000
NATIVE = Sample(
    "native",
    lambda x, y, edited: as_json(prompt=x, response=y, edited=edited),
    (
        *BAD_JSON,
        (as_json(prompt="x"), "response is missing: give it"),
        (as_json(response="y"), "give either messages or prompt"),
        (as_json(prompt="x", messages=[say("user", "x")], response="y"), "give either messages or prompt"),
        (as_json(messages=[], response="y"), "messages is empty"),
        (as_json(messages=[say("bot9", "x")], response="y"), "messages[0].role = 'bot9': use system, user, ass"),
        (as_json(messages=[say("user", 3)], response="y"), "messages[0].content = 3"),
        (as_json(messages=[say("user", "x") | {"more": 3}], response="y"), "messages[0] has role, content, more"),
        (as_json(prompt=["x"], response="y"), "prompt = ['x']: must be a text"),
        (as_json(prompt="x", response=3), "response = 3: Input should be a valid string"),
        (as_json(prompt="x", response="y", editted="z"), "unknown key 'editted'"),
        (as_json(prompt="x", response="y", edited="z", accepted=True), "either edited or accepted"),
        (as_json(prompt="x", response="y", accepted=False), "accepted = False: Input should be True"),
        (as_json(prompt="x", response="y", revision=1), "revision without edited or accepted"),
        (as_json(prompt="x", response="y", edited="z", revision=-1), "revision -1"),
        (as_json(prompt="x", response="y", created_at="yesterday"), "created_at = 'yesterday'"),
        (as_json(prompt="x", response="y", task="a b"), "task 'a b'"),
        (as_json(prompt="x", response="y", metadata={"k": math.inf}), "metadata cannot be written as JSON"),
        (as_json(prompt="x", response="y", decision={"t": 1}), "decision.candidates is missing"),
        (as_json(prompt="x", response=LONG), "response has 5,000,000 characters, more than 1,000,000"),
    ),
)
CSV = Sample(
    "csv",
    lambda x, y, edited: f'"{x}","{y}","{edited}"'.encode(),
    (
        (b"a,b", "2 cells under 3 columns"),
        (b"a,b,c,d", "4 cells under 3 columns"),
        (b'"a"b,c,d', "not valid CSV"),
        (b"a,\xff,c", "holds bytes that are not valid Unicode"),
        (
            b"a,%s,c" % LONG.encode(),
            "a cell has more than 4,000,000 characters: shorten it, or raise",
        ),
        (b"a,%s,c" % LONG[:2_000_000].encode(), "response has 2,000,000 characters"),
    ),
    head=b"context,response,edited\r\n",
)
TRL = Sample(
    "trl",
    lambda x, y, edited: as_json(prompt=x, chosen=edited, rejected=y),
    (
        *BAD_JSON,
        (as_json(prompt="x", chosen="y"), "response is missing"),
        (as_json(chosen="x", rejected="y"), "prompt is missing"),
        (as_json(prompt=7, chosen="x", rejected="y"), "prompt = 7: must be text or messages"),
        (as_json(prompt="x", chosen=LONG, rejected="y"), "edited has 5,000,000 characters"),
    ),
)
DEFACTO = Sample(
    "defacto",
    lambda x, y, edited: as_json(article=x, candidate=y, feedback={"summary": edited}, doc_id=1),
    (
        *BAD_JSON,
        (as_json(article="x", candidate="y"), "feedback is missing"),
        (as_json(article="x", candidate="y", feedback={}), "feedback.summary is missing"),
        (as_json(article="x", candidate=None, feedback={"summary": ""}), "candidate = None"),
        (as_json(article=LONG, candidate="y", feedback={"summary": ""}), "messages[0] has 5,000,0"),
    ),
)
ALL = READERS | CORPORA
JSONL = [NATIVE, TRL, DEFACTO]
SINGLE = [*JSONL, CSV]


def write(folder: Path, sample: Sample, rows: list[bytes]) -> Path:
    file = folder / sample.file
    file.write_bytes(sample.head + b"\n".join(rows) + b"\n")
    return file


def write_mlqe(folder: Path, rows: list[tuple[bytes, bytes, bytes]]) -> Path:
    for part, texts in zip(("src", "mt", "pe"), zip(*rows, strict=True), strict=True):
        (folder / f"train.{part}").write_bytes(b"".join(text + b"\n" for text in texts))
    return folder / "train.src"


def read(sample: str, file: Path, options: Options = OPTIONS) -> list[Row | BadRow]:
    return list(ALL[sample](file, options))


def good(rows: list[Row | BadRow]) -> list[Interaction]:
    assert [str(row) for row in rows if isinstance(row, BadRow)] == []
    return [row.interaction for row in rows if isinstance(row, Row)]


@pytest.mark.parametrize("sample", SINGLE, ids=lambda sample: sample.name)
class TestContract:
    def test_reads_x_y_and_edited(self, tmp_path: Path, sample: Sample) -> None:
        file = write(tmp_path, sample, [sample.good("ü x", "the draft", "the text"), sample.good("b", "c d", "c d")])
        first, second = good(read(sample.name, file))
        assert first.completion.messages[-1].role == "user"
        assert first.completion.messages[-1].content.endswith("ü x")
        assert (first.completion.task, first.completion.response) == ("task", "the draft")
        assert (first.edited, first.unchanged) == ("the text", False)
        assert second.unchanged

    def test_bad_rows_are_named_and_good_ones_stay(self, tmp_path: Path, sample: Sample) -> None:
        rows = [sample.good("x", "y", "z")]
        for row, _ in sample.bad:
            rows += [row, sample.good("x", "y", "z")]
        file = write(tmp_path, sample, rows)
        found = read(sample.name, file)
        offset = sample.head.count(b"\n")
        kinds = [Row, *[kind for _ in sample.bad for kind in (BadRow, Row)]]
        assert [type(row) for row in found] == kinds
        assert [row.line for row in found] == [offset + i for i in range(1, len(rows) + 1)]
        for row, (_, reason) in zip(found[1::2], sample.bad, strict=True):
            assert isinstance(row, BadRow)
            assert reason in row.reason
            assert str(row).startswith(f"{file}:{row.line}: ")
            assert len(row.reason) < 600
            assert "\n" not in str(row)

    def test_ids_are_stable_and_repeats_are_kept(self, tmp_path: Path, sample: Sample) -> None:
        row, other = sample.good("x", "y", "z"), sample.good("x", "y", "zz")
        once = [found.completion.id for found in good(read(sample.name, write(tmp_path, sample, [row, row, other])))]
        again = [found.completion.id for found in good(read(sample.name, write(tmp_path, sample, [other, row, row])))]
        assert len(set(once)) == 3
        assert set(once) == set(again)
        elsewhere = good(read(sample.name, write(tmp_path, sample, [row]), replace(OPTIONS, task="other")))
        assert elsewhere[0].completion.id not in once

    def test_byte_order_mark_blank_lines_and_no_last_newline(self, tmp_path: Path, sample: Sample) -> None:
        file = tmp_path / "file"
        row = sample.good("x", "y", "z")
        file.write_bytes(b"\xef\xbb\xbf" + sample.head + row + b"\r\n\r\n" + row)
        assert [found.line for found in read(sample.name, file)] == [1 + bool(sample.head), 3 + bool(sample.head)]

    def test_a_row_without_task_asks_for_one(self, tmp_path: Path, sample: Sample) -> None:
        (row,) = read(sample.name, write(tmp_path, sample, [sample.good("x", "y", "z")]), Options())
        assert "--task" in str(row)


@pytest.mark.parametrize("name", ALL)
def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"missing.*cannot be read \(No such file or directory\)"):
        read(name, tmp_path / "missing")


def test_lines_that_are_far_too_long_are_skipped_whole(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a\n" + b"x" * 1000 + b"\nb\n" + b"y" * 64 + b"\n" + b"z" * 63 + b"\nc")
    short = [(1, b"a\n"), (3, b"b\n"), (5, b"z" * 63 + b"\n"), (6, b"c")]
    assert list(lines(file, 2)) == sorted([*short, (2, TooLong(False)), (4, TooLong(False))], key=lambda line: line[0])
    file.write_bytes(b'"' + b"x" * 62 + b'"' + b"x" * 64 + b'"\n"')
    assert list(lines(file, 2)) == [(1, TooLong(True)), (2, b'"')]
    (row,) = read("native", write(tmp_path, NATIVE, [as_json(prompt="x" * 100)]), Options("task", max_text_chars=2))
    assert isinstance(row, BadRow)
    assert "the line is longer than" in row.reason


class TestNative:
    def test_defaults_and_feedback(self, tmp_path: Path) -> None:
        rows = [
            as_json(prompt="x", response="y"),
            as_json(id="n", task="own", prompt="x", response="y", accepted=True, user_id="ann"),
            as_json(prompt="x", response="y", edited="", edit_user_id=None, user_id="ann"),
        ]
        silent, accepted, struck = good(read("native", write(tmp_path, NATIVE, rows)))
        assert silent.edit is None
        assert accepted.completion == Completion("n", "own", (Message("user", "x"),), "y", user_id="ann")
        assert accepted.edit == Edit("n", None, user_id="ann")
        assert struck.edit == Edit(struck.completion.id, "", user_id=None)

    def test_rows_without_an_id_keep_the_names_that_commit_524eb1b_gave_them(self, tmp_path: Path) -> None:
        rows = [as_json(prompt="Hi", response="Dear Ann", edited="Hi Ann"), as_json(prompt="Hi", response="Dear")]
        names = [found.completion.id for found in good(read("native", write(tmp_path, NATIVE, rows)))]
        assert names == ["f64e1ec9edeff4ecb4cd36df", "83730bebfab807f26a8d9028"]

    @settings(deadline=None)
    @given(st.data())
    def test_round_trip(self, data: st.DataObject) -> None:
        given = data.draw(st.lists(interactions(), max_size=3))
        with tempfile.TemporaryDirectory() as folder:
            rows = [json.dumps(native.write(interaction), allow_nan=False).encode() for interaction in given]
            assert good(read("native", write(Path(folder), NATIVE, rows))) == given


text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
moment = st.none() | st.datetimes(timezones=st.just(UTC), min_value=datetime(2000, 1, 1))
user = st.none() | text.filter(bool)
objects = st.dictionaries(text, st.none() | st.integers() | text | st.lists(st.booleans(), max_size=2), max_size=2)


@st.composite
def interactions(draw: st.DrawFn) -> Interaction:
    role = st.sampled_from(["system", "user", "assistant", "tool"])
    messages, response = draw(st.lists(st.builds(Message, role, text, objects), min_size=1, max_size=3)), draw(text)
    assume((messages[-1].role, messages[-1].content) != ("assistant", response))  # it would be read as the response
    completion = Completion("id", "task", tuple(messages), response, draw(text), draw(text), draw(user), draw(moment))
    completion = replace(completion, decoding=draw(objects), metadata=draw(objects), answer=draw(objects))
    completion = replace(completion, untaught=draw(st.sampled_from(["", "refusal"])))
    edit = None
    if draw(st.booleans()):
        edit = Edit("id", draw(st.none() | text), draw(st.integers(0, 9)), draw(user), draw(moment), draw(objects))
    scores = st.none() | st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False))
    propensities = st.sampled_from([None, (0.25, 0.75)])
    decision = Decision("id", ("p", "q"), "q", 3, "ucb", draw(objects), draw(scores), draw(propensities))
    return canonical(Interaction(completion, edit, draw(st.sampled_from([None, decision]))), 1000)


LATER = ("more", "answer", "untaught")  # fields of whose names a row's name may not depend where they say nothing


def name_of(row: Interaction) -> str:
    """The name that versions gave which had the standard encoder write the whole row."""
    edit = row.edit and replace(row.edit, edited=None if row.unchanged else row.edited)

    def said(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key: value for key, value in pairs if value or key not in LATER}

    content = json.dumps(asdict(replace(row, edit=edit), dict_factory=said), sort_keys=True, default=str)
    digest = hashlib.blake2b(content.encode(), digest_size=16).digest()
    return hashlib.blake2b(digest + b"0", digest_size=12).hexdigest()


@given(interactions(), st.text(max_size=8))
def test_names_are_hashes_of_what_the_standard_encoder_writes(row: Interaction, said: str) -> None:
    unnamed = renamed(replace(row, completion=replace(row.completion, response=said)), "")
    found = Rows(Path("file"), Options("task")).row(1, lambda one: one, unnamed)
    if isinstance(found, BadRow):
        reject()
    assert found.interaction.completion.id == name_of(unnamed)


def test_names_of_single_characters() -> None:
    for text in [*map(chr, range(1, 161)), "\u2028", "猫", "😀", "", '\\"', "a" * 999 + "\n"]:
        row = Interaction(Completion("", "task", (Message("user", text),), "y"), Edit("", text))
        found = Rows(Path("file"), Options("task")).row(1, lambda one: one, row)
        assert isinstance(found, Row)
        assert found.interaction.completion.id == name_of(row), text


class TestCsv:
    def test_named_columns_multiline_cells_and_empty_edits(self, tmp_path: Path) -> None:
        file = tmp_path / "table.csv"
        file.write_bytes(
            b'n,final,question,draft,who\r\n1,"a ""b""\r\nc",q?,d,ann\r\n2,,q,d,\r\n2,d\xff,q,d,\r\n3,e,q,"d,d",bob\r\n'
        )
        columns = {"id": "n", "prompt": "question", "response": "draft", "edited": "final", "user_id": "who"}
        rows = read("csv", file, replace(OPTIONS, columns=columns))
        assert [row.line for row in rows] == [2, 4, 5, 6]
        assert isinstance(rows[2], BadRow)
        first, silent, last = good([row for row in rows if isinstance(row, Row)])
        assert first.completion == Completion("1", "task", (Message("user", "q?"),), "d", user_id="ann")
        assert first.edit == Edit("1", 'a "b"\r\nc', user_id="ann")
        assert (silent.edit, silent.completion.user_id) == (None, None)
        assert (last.completion.response, last.edited) == ("d,d", "e")

    def test_missing_columns_name_those_there(self, tmp_path: Path) -> None:
        file = tmp_path / "table.csv"
        file.write_text("a,b,edited\n1,2,3\n")
        with pytest.raises(
            DataError, match=r"table.csv: no question, .* reads as prompt, in any row; found: a, b, edit"
        ):
            read("csv", file, replace(OPTIONS, columns={"prompt": "question"}))
        with pytest.raises(DataError, match=r"nothing is read as prompt and response: .* \(its keys: a, b, edited\)"):
            read("csv", file)

    def test_an_unclosed_quote_is_one_bad_row(self, tmp_path: Path) -> None:
        file = tmp_path / "table.csv"
        file.write_text('context,response,edited\na,b,c\n"a,b,c\na,b,c\n')
        found = read("csv", file)
        assert [(type(row), row.line) for row in found] == [(Row, 2), (BadRow, 3)]
        assert "lines 3 to 4 were read as one row: not valid CSV" in str(found[1])
        assert "close every quote" in str(found[1])

    def test_lines_that_a_stray_quote_joined_are_named(self, tmp_path: Path) -> None:
        file = tmp_path / "table.csv"
        file.write_text('context,response,edited\n"a,b,c\na,b,c\n",b\nd,e,f\n')
        found = read("csv", file)
        assert [(type(row), row.line) for row in found] == [(BadRow, 2), (Row, 5)]
        assert "lines 2 to 4 were read as one row: 2 cells under 3 columns" in str(found[0])

    @pytest.mark.parametrize(
        ("long", "lines"),
        [
            ("{x},b,c", 1),
            ('"{x}",b,c', 1),
            ('"{x} ""q"" ","b\nb",c', 2),
            ('"{x}\na","b","c"', 2),
            ('"a\n{x}\na","b","c"', 3),
            ('"a","b","c\n{x}"', 2),
        ],
    )
    def test_a_line_too_long_to_hold_costs_its_own_row_alone(self, tmp_path: Path, long: str, lines: int) -> None:
        file = tmp_path / "table.csv"
        row = long.format(x="x" * 1000)
        file.write_text(f"context,response,edited\na,b,c\n{row}\nd,e,f\n{row}\n")
        found = read("csv", file, Options("task", max_text_chars=30))
        kinds = [(Row, 2), (BadRow, 3), (Row, 3 + lines), (BadRow, 4 + lines)]
        assert [(type(row), row.line) for row in found] == kinds
        assert "is far too long: shorten it, or raise [log] max_text_chars" in str(found[1])


class TestDefacto:
    @pytest.mark.parametrize("summary", [None, "", "  ", "the candidate\n"])
    def test_unedited_is_accepted(self, tmp_path: Path, summary: str | None) -> None:
        row = as_json(article="x", candidate=" the candidate", feedback={"summary": summary})
        (found,) = good(read("defacto", write(tmp_path, DEFACTO, [row])))
        assert found.edit == Edit(found.completion.id, None)
        assert found.completion.messages[0].content == "Summarize this news article in one sentence.\n\nx"


class TestMlqe:
    def test_aligned_lines_with_blanks_and_repeats(self, tmp_path: Path) -> None:
        file = write_mlqe(
            tmp_path, [(b"a", b"b\r", b"c "), (b"", b"", b""), (b"a", b"b", b"c"), (b"\xe2\x80\xa8a", b"b", b"b")]
        )
        found = good(read("mlqe", file))
        assert [(i.completion.response, i.edited) for i in found] == [("b", "c"), ("", ""), ("b", "c"), ("b", "b")]
        assert len({i.completion.id for i in found}) == 4
        for other in ("train", "train.mt", "train.pe"):
            assert good(read("mlqe", tmp_path / other)) == found

    def test_bad_rows(self, tmp_path: Path) -> None:
        file = write_mlqe(tmp_path, [(b"a", b"b", b"c"), (b"a", b"\xff", b"c"), (b"a", LONG.encode(), b"c")])
        first, second, third = read("mlqe", file)
        assert isinstance(first, Row)
        assert str(second) == f"{file}:2: not valid UTF-8 in .mt at byte 1: save the file as UTF-8"
        assert "response has 5,000,000 characters" in str(third)

    def test_unequal_numbers_of_lines(self, tmp_path: Path) -> None:
        file = write_mlqe(tmp_path, [(b"a", b"b", b"c")])
        (tmp_path / "train.pe").write_bytes(b"c\nd\n")
        with pytest.raises(DataError, match=r"train.src has 1, train.mt has 1, train.pe has 2"):
            read("mlqe", file)


PEAK = """
import resource, sys
from pathlib import Path
from redraft.log import EditLog
from redraft.log.formats import READERS, Options, Row

def rows(file):
    for row in READERS["native"](file, Options("task")):
        assert isinstance(row, Row)
        yield row.interaction

file, url = Path(sys.argv[1]), sys.argv[2]
with EditLog(url) as log:
    log.add_many(rows(file.with_name("small")))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert log.add_many(rows(file)).new == int(sys.argv[3])
    assert sum(1 for _ in log.interactions()) == int(sys.argv[3]) + 1
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    rows, context = 2500, "word " * 4000
    with (tmp_path / "large").open("wb") as stream:
        for i in range(rows):
            stream.write(as_json(prompt=f"{i} {context}", response="a b c", edited=f"a b {i}") + b"\n")
    (tmp_path / "small").write_bytes(as_json(prompt="x", response="a b c", edited="a b"))
    assert (tmp_path / "large").stat().st_size > 50_000_000
    command = [sys.executable, "-c", PEAK, str(tmp_path / "large"), f"sqlite:///{tmp_path / 'log.db'}", str(rows)]
    grown = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown < 25  # MiB: one batch of at most 4 million characters in a few copies
