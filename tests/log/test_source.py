"""The same rows in every packing are the same records; each oddity of a producer has a golden example."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import tracemalloc
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import feather, ipc

from redraft.errors import DataError
from redraft.log.formats.rows import BadRow, Options
from redraft.log.formats.source import Raw, Source, open_source

Rows = list[dict[str, Any]]
ROWS: Rows = [
    {"prompt": "Say hi to Zoë.", "response": 'Dear "Zoë",\nhello', "edited": "Hi Zoë!"},
    {"prompt": "a, b; c", "response": "NA", "edited": "1\u20282\u00853"},
    {"prompt": "Grüße", "response": "\\n is not a line", "edited": ""},
]


def opened(file: Path, **options: Any) -> Source:
    return open_source(file, Options(**options))


def written(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def found(file: Path, **options: Any) -> Rows:
    rows = list(opened(file, **options).records())
    assert [str(row) for row in rows if isinstance(row, BadRow)] == []
    return [dict(row.value) for row in rows if isinstance(row, Raw)]


def outcome(file: Path, **options: Any) -> list[int | str]:
    """The line of each good row, and what is said of each bad one."""
    rows = opened(file, **options).records()
    return [row.line if isinstance(row, Raw) else str(row).removeprefix(str(file)) for row in rows]


def jsonl(rows: Rows = ROWS, end: str = "\n") -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + end for row in rows)


def table(rows: Rows = ROWS, **dialect: Any) -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), **dialect)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def framed(compression: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, compression) as stream:
        stream.write(jsonl().encode())
    return sink.getvalue().to_pybytes()


def zipped(**members: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


INDENTED = json.dumps(ROWS, ensure_ascii=False, indent=2)
TEXTS: dict[str, tuple[bytes, str]] = {
    "lines": (jsonl().encode(), "JSON Lines"),
    "windows": (jsonl(end="\r\n").encode(), "JSON Lines"),
    "mac": (jsonl(end="\r").encode(), "JSON Lines"),
    "blank": (("\n\n" + jsonl(end="\n \n")).encode(), "JSON Lines"),
    "no last end": (jsonl().rstrip().encode(), "JSON Lines"),
    "ascii": ("\n".join(map(json.dumps, ROWS)).encode(), "JSON Lines"),
    "marked": (jsonl().encode("utf-8-sig"), "JSON Lines, UTF-8 with a byte order mark"),
    "utf-16": (jsonl().encode("utf-16"), "JSON Lines, UTF-16"),
    "utf-16-le": (jsonl().encode("utf-16-le"), "JSON Lines, UTF-16-LE"),
    "utf-16-be": (jsonl().encode("utf-16-be"), "JSON Lines, UTF-16-BE"),
    "utf-32": (jsonl().encode("utf-32"), "JSON Lines, UTF-32"),
    "utf-32-be": (jsonl().encode("utf-32-be"), "JSON Lines, UTF-32-BE"),
    "list": (json.dumps(ROWS).encode(), "one JSON list"),
    "pretty list": (INDENTED.encode(), "one JSON list"),
    "list of lines": (("[\n" + jsonl().rstrip().replace("\n", ",\n") + "\n]").encode(), "one JSON list"),
    "around": (json.dumps({"version": 1, "data": ROWS, "n": [3]}).encode(), "the list 'data' in one JSON object"),
    "only list": (json.dumps({"n": 3, "mine": ROWS}, indent=1).encode(), "the list 'mine' in one JSON object"),
    "a comma after each": (jsonl(end=",\n").encode(), "JSON"),
    "concatenated": ("".join(map(json.dumps, ROWS)).encode(), "JSON"),
    "pretty objects": ("\n".join(json.dumps(row, indent=4) for row in ROWS).encode(), "JSON"),
    "gzip": (gzip.compress(jsonl().encode()), "JSON Lines, gzip"),
    "bzip2": (bz2.compress(INDENTED.encode()), "one JSON list, bzip2"),
    "xz": (lzma.compress(jsonl().encode("utf-16")), "JSON Lines, UTF-16, xz"),
    "zstd": (framed("zstd"), "JSON Lines, zstd"),
    "lz4": (framed("lz4"), "JSON Lines, lz4"),
    "zip": (zipped(**{"__MACOSX/._a": "x", "in/a.jsonl": jsonl()}), "JSON Lines, in/a.jsonl in zip"),
    "csv": (table().encode(), "table with columns divided by comma"),
    "csv utf-16": (table(delimiter="\t").encode("utf-16"), "table with columns divided by tab, UTF-16"),
    "semicolon": (table(delimiter=";", lineterminator="\n").encode(), "table with columns divided by semicolon"),
    "bar": (table(delimiter="|", quoting=csv.QUOTE_ALL).encode(), "table with columns divided by bar"),
    "backslash": (table(doublequote=False, escapechar="\\").encode(), "table with columns divided by comma"),
    "sep": (("sep=;\r\n" + table(delimiter=";")).encode(), "table with columns divided by semicolon"),
    "csv gzip": (gzip.compress(table().encode()), "table with columns divided by comma, gzip"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_same_rows_in_every_packing(tmp_path: Path, name: str) -> None:
    content, said = TEXTS[name]
    for suffix in ("", ".json", ".csv"):  # bytes go before names
        file = written(tmp_path, f"file{suffix}", content)
        assert (found(file), opened(file).said.replace(", NA read as text", "")) == (ROWS, said)
        assert opened(file).columns == (tuple(ROWS[0]) if said.startswith("table") else ())


NESTED: Rows = [
    {"prompt": [{"role": "user", "content": "x"}], "chosen": "y", "meta": {"n": 1}},
    {"prompt": [{"role": "user", "content": None}, {"role": "tool", "content": "z"}], "rating": 3.5},
]


def test_parquet_arrow_feather_and_folders(tmp_path: Path) -> None:
    rows = [{**row, "__index_level_0__": i} for i, row in enumerate(NESTED)]
    columns = pa.Table.from_pylist(rows, pa.schema({**_schema(), "__index_level_0__": pa.int64()}))
    pq.write_table(columns, tmp_path / "a.parquet")
    feather.write_feather(columns, tmp_path / "a.feather")
    with ipc.new_stream(tmp_path / "a.bin", columns.schema) as stream:
        stream.write_table(columns)
    for name, said in (("a.parquet", "Parquet"), ("a.feather", "Arrow"), ("a.bin", "Arrow")):
        assert (found(tmp_path / name), opened(tmp_path / name).said) == (NESTED, said)
        assert outcome(tmp_path / name) == [1, 2]
    shards = tmp_path / "shards" / "data"
    shards.mkdir(parents=True)
    for i in range(2):
        pq.write_table(columns.slice(i, 1), shards / f"train-0000{i}-of-00002.parquet")
    assert (found(shards.parent), opened(shards.parent).said) == (NESTED, "2 .parquet files")
    assert outcome(shards.parent) == [1, 2]


def test_moments_are_cut_to_microseconds(tmp_path: Path) -> None:
    moments = pa.array([1_735_787_045_678_901_234, None], pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({"at": moments, "a": ["x", "y"]}), tmp_path / "a.parquet")
    assert found(tmp_path / "a.parquet") == [{"at": "2025-01-02T03:04:05.678901+00:00", "a": "x"}, {"a": "y"}]


def test_a_date_that_python_does_not_know_costs_its_own_record(tmp_path: Path) -> None:
    moments = pa.array([0, 2**60, 1_735_787_045_678_901], pa.timestamp("us"))
    pq.write_table(pa.table({"at": moments, "day": moments.cast(pa.date32(), safe=False)}), tmp_path / "a.parquet")
    first, bad, last = opened(tmp_path / "a.parquet").records()
    assert isinstance(bad, BadRow)
    assert str(bad).startswith(f"{tmp_path / 'a.parquet'}:2: a value cannot be read (")
    assert (first, last) == (
        Raw(1, {"at": "1970-01-01T00:00:00", "day": "1970-01-01"}),
        Raw(3, {"at": "2025-01-02T03:04:05.678901", "day": "2025-01-02"}),
    )


def _schema() -> dict[str, Any]:
    turn = pa.struct({"role": pa.string(), "content": pa.string(), "tool_calls": pa.list_(pa.string())})
    return {
        "prompt": pa.list_(turn),
        "chosen": pa.string(),
        "meta": pa.struct({"n": pa.int64()}),
        "rating": pa.float64(),
    }


def test_a_saved_dataset(tmp_path: Path) -> None:
    columns = pa.Table.from_pylist(ROWS)
    for split in ("train", "test"):
        folder = tmp_path / split
        folder.mkdir()
        with ipc.new_stream(folder / "data-00000-of-00001.arrow", columns.schema) as stream:
            stream.write_table(columns)
        (folder / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    assert (found(tmp_path / "test"), opened(tmp_path / "test").said) == (ROWS, "a saved dataset, 1 file")
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(DataError, match=r"has the splits train, test: name one, such as .*/train"):
        opened(tmp_path)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert found(tmp_path) == ROWS


TABLES: dict[str, tuple[bytes, Rows]] = {
    "index of pandas": (b",a,b\n0,x,y\n1,z,\n", [{"a": "x", "b": "y"}, {"a": "z", "b": ""}]),
    "index saved twice": (b"Unnamed: 0.1,Unnamed: 0,a,b\n0,5,x,y\n", [{"a": "x", "b": "y"}]),
    "index of R": (b'"a" "b"\n"1" "x" "y"\n'.replace(b" ", b"\t"), [{"a": "x", "b": "y"}]),
    "no index": (b",a\nx,y\n0,y\n", [{"column 1": "x", "a": "y"}, {"column 1": "0", "a": "y"}]),
    "an id is no index": (b"id,a\n0,x\n1,y\n", [{"id": "0", "a": "x"}, {"id": "1", "a": "y"}]),
    "empty columns": (b"a,b,,\nx,y,,\nz,w\nv,u,,,,,\n", [{"a": a, "b": b} for a, b in ("xy", "zw", "vu")]),
    "empty rows": (b"\n\na,b\n,,\n   \nx,y\n\n,\n", [{"a": "x", "b": "y"}]),
    "padded header": (b"a, b ,C\nx, y,z\n", [{"a": "x", "b": " y", "C": "z"}]),
    "padded quotes": (b'a, b\nx, "y, z"\nx, "y"\n', [{"a": "x", "b": "y, z"}, {"a": "x", "b": "y"}]),
    "comma and = in names": (b'"A, b","c = d"\nx,y\n', [{"A, b": "x", "c = d": "y"}]),
    "a name twice": (b"a,a,a\nx,y,z\n", [{"a": "x", "a.1": "y", "a.2": "z"}]),
    "quotes in a bare cell": (b'a,b\na 19" screen,y\n', [{"a": 'a 19" screen', "b": "y"}]),
    "backslashes": (b'a,b\n"say \\"hi, you\\" now",C:\\\\d\n', [{"a": 'say "hi, you" now', "b": "C:\\d"}]),
    "backslashes that escape nothing": (b'a,b\nC:\\new,"""q"""\n', [{"a": "C:\\new", "b": '"q"'}]),
    "commas in each text": (b"a;b\nx, y, z;w, v, u\nq, r, s;t, t, t\n", [
        {"a": "x, y, z", "b": "w, v, u"}, {"a": "q, r, s", "b": "t, t, t"}]),
    "mac, with breaks in cells": (b'a,b\r"x\ny",z\rv,w\r', [{"a": "x\ny", "b": "z"}, {"a": "v", "b": "w"}]),
    "cp1252": ("a,b\n“Grüße” an Zoë,5 €\n".encode("cp1252"), [{"a": "“Grüße” an Zoë", "b": "5 €"}]),
    "late cp1252": (b"a,b\n" + b"%s,y\n" % (b"x" * 500_000) * 3 + b"\xfc,y\n", [
        *[{"a": "x" * 500_000, "b": "y"}] * 3, {"a": "ü", "b": "y"}]),
    "None is typed": (b"a,b\nNone,\nNaN,x\n", [{"a": "None", "b": ""}, {"a": "NaN", "b": "x"}]),
    "None is typed everywhere": (b"a,b\nNone,None\nNULL,x\n", [{"a": "None", "b": "None"}, {"a": "NULL", "b": "x"}]),
    "NaN is written": (b"a,b\nNone,NaN\n<NA>,x\n", [{"a": "None", "b": ""}, {"a": "", "b": "x"}]),
    "NaN beside empty columns": (b"a,b,,\nx,NaN,,\n", [{"a": "x", "b": ""}]),
    "NaN beside other columns of nothing": (b"a,b,c\n\\N,x,\n#N/A,y,z\n", [
        {"a": "", "b": "x", "c": ""}, {"a": "", "b": "y", "c": "z"}]),
    "MySQL's fields in quotes": (b'"a","b"\n"say \\"hi\\"",\\N\n\\N,"z"\n', [
        {"a": 'say "hi"', "b": ""}, {"a": "", "b": "z"}]),
    "COPY of PostgreSQL": (b'a\tb\n"x" y\\nz\t\\N\nC:\\\\new\tu\\tv\n', [
        {"a": '"x" y\nz', "b": ""}, {"a": "C:\\new", "b": "u\tv"}]),
    "tabs of a data frame": (b'a\tb\n"x\\n"\t\\N\n', [{"a": "x\\n", "b": ""}]),
    "NA of R": (b'"a","n","b"\n"x",1,NA\n"y",2.5,"z"\n', [
        {"a": "x", "n": "1", "b": ""}, {"a": "y", "n": "2.5", "b": "z"}]),
    "NA among bare texts": (b'a,b\n"x, y",NA\nfoo,NA\n', [{"a": "x, y", "b": "NA"}, {"a": "foo", "b": "NA"}]),
    "NA is typed": (b'"a","b"\n"x","NA"\n"y",NA\n', [{"a": "x", "b": "NA"}, {"a": "y", "b": "NA"}]),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_tables(tmp_path: Path, name: str) -> None:
    content, rows = TABLES[name]
    assert found(written(tmp_path, "file.csv", content)) == rows


def test_what_was_dropped_or_guessed_is_said(tmp_path: Path) -> None:
    said = {
        b",a,b\n0,x,y\n": "table with columns divided by comma, row numbers dropped",
        b"a,b\nNaN,x\n": "table with columns divided by comma, NaN read as nothing",
        b"a,b\nNone,\n": "table with columns divided by comma, None read as text",
        b"a\tb\nx\t\\N\n": "table with columns divided by tab, \\n and \\t read as breaks and tabs, "
        "\\N read as nothing",
        b"a,b\n\xfc,x\n": "table with columns divided by comma, cp1252 (a guess: it is not UTF-8)",
    }
    assert [opened(written(tmp_path, "file", content)).said for content in said] == list(said.values())


CELL = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"], include_characters="\n\t", exclude_characters="\\\ufeff"),
    max_size=6,
)


@settings(deadline=None, max_examples=50)
@example([["a", "b"]], "\t", csv.QUOTE_MINIMAL, "\r\n")
@given(
    st.lists(st.lists(CELL, min_size=3, max_size=3), min_size=1, max_size=4),
    st.sampled_from(",;\t|"),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_every_dialect_is_read_as_it_was_written(rows: list[list[str]], delimiter: str, quoting: int, end: str) -> None:
    written_rows: Rows = [dict(zip(("first", "second", "third"), row, strict=False)) for row in rows if len(row) == 3]
    content = "sep=" + delimiter + end if delimiter == "|" else ""
    content += table([{"first": "x", "second": "y", "third": ""}, *written_rows], delimiter=delimiter, quoting=quoting,
                     lineterminator=end)  # fmt: skip
    with TemporaryDirectory() as folder:
        said = [row for row in written_rows if any(cell.strip() for cell in row.values())]
        assert found(written(Path(folder), "file", content.encode()))[1:] == said


BAD: dict[str, tuple[bytes, list[int | str]]] = {
    "a broken line": (
        b'{"a": 1}\n{"a": \n[1]\n"x"\n\n{"a": "\xff\xc3\xbc"}\n{"a": "\\ud83d"}\n{"a": 2}x\n{"a": 3}',
        [
            1,
            ":2: not valid JSON in UTF-8 (EOF while parsing a value at column 5)",
            ":3: the row = [1]: Input should be an object",
            ':4: the row = "x"',
            ":6: not valid JSON in UTF-8 (bytes that are no character)",
            ":7: not valid JSON in UTF-8 (unexpected end of hex escape",
            ":8: not valid JSON in UTF-8 (trailing characters at column 9)",
            9,
        ],
    ),
    "nothing but a broken line": (b'{"a": 1', [":1: not valid JSON"]),
    "a broken record in a list": (
        b'[\n  {"a": [{"b": 1}]},\n  {"a": [{"b": x}],\n   "c": 1},\n  {"a": 2},\n  7,\n  {"a": "\\ud83d"}\n]\n',
        [2, ":3: not valid JSON (Expecting value)", 5, ":6: the row = 7", ":7: not valid Unicode"],
    ),
    "a broken record in one line": (b'[{"a": 1}, {"a": x}, {"a": 2}]', [1, ":1: not valid JSON (Expecting value)", 1]),
    "a list that was cut": (
        b'[{"a": 1},\n{"a": "x',
        [1, ":2: not valid JSON (Unterminated", ":2: the file ends inside"],
    ),
    "a list on each line": (b'[["a", "b"], ["x", "y"]]\n["x"]', [":1: the row = [[", ":2: the row = ["]),
    "a number too long": (b'[{"a": %s},\n{"a": 1}]' % (b"9" * 5000), [":1: not valid JSON (Exceeds the limit", 2]),
    "what follows a list": (b'[{"a": 1}]\nSource: me', [1, ":2: not valid JSON"]),
    "too deep": (b'[{"a": 1},\n{"a": ' + b"[" * 100_000 + b"\n]", [1, ":2: not valid JSON (maximum recursion depth"]),
    "an unclosed quote": (
        b'a,b,c\nx,y,z\n"x,y,z\nx,y,z\n',
        [2, ":3: lines 3 to 4 were read as one row: not valid CSV (unexpected end of data): double each quote"],
    ),
    "a stray quote": (b'a,b,c\n"a,b,c\na,b,c\n",b\nd,e,f\n', [":2: lines 2 to 4 were read as one row: 2 cells", 5]),
    "after sep=": (b'sep=;\r\na;b\r\n"x\r\ny";z\r\nx\r\nx;y', [3, ":5: 1 cells under 2", 6]),
    "ragged rows": (
        b"a,b,c\nx,y,z\nx,y,z,w\nx\nx,y,z\nx,y,z\n",
        [2, ":3: 4 cells under 3", ":4: 1 cells under 3", 5, 6],
    ),
    "bytes": ("a,b\nü,y\n".encode() + b"\xff,y\nx,y", [2, ":3: line 3 holds bytes that are not valid Unicode", 4]),
}


@pytest.mark.parametrize(
    "text", ["id,a,b,\n7,x,y,\n8,z,u,\n", "id,a,b\n7,x,y,\n8,z,u,\n", "id,a,b,,\n7,x,y,\n8,z,u,\n"]
)
def test_an_empty_cell_at_the_end_moves_no_column(tmp_path: Path, text: str) -> None:
    """A first column of numbers is then no row numbers of R's, which would shift every text by one."""
    file = tmp_path / "file.csv"
    file.write_text(text)
    found = [raw.value for raw in open_source(file, Options()).records() if isinstance(raw, Raw)]
    assert found == [{"id": "7", "a": "x", "b": "y"}, {"id": "8", "a": "z", "b": "u"}]


@pytest.mark.parametrize("name", BAD)
def test_a_record_that_cannot_be_read_costs_itself_alone(tmp_path: Path, name: str) -> None:
    content, expected = BAD[name]
    rows = outcome(written(tmp_path, "file.csv" if content[:1] in b"as" else "file.json", content))
    assert len(rows) == len(expected), rows
    for row, wanted in zip(rows, expected, strict=True):
        assert row == wanted if isinstance(row, int) else row.startswith(str(wanted)), row


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
def test_a_line_too_long_to_hold_costs_its_own_row_alone(tmp_path: Path, long: str, lines: int) -> None:
    row = long.format(x="x" * 1000)
    file = written(tmp_path, "file.csv", f"a,b,c\na,b,c\n{row}\nd,e,f\n{row}\n".encode())
    first, one, second, other = outcome(file, max_text_chars=30)
    assert (first, second) == (2, 3 + lines)
    assert "is far too long: shorten it, or raise [log] max_text_chars" in str(one)
    assert str(other).startswith(f":{4 + lines}: ")


def test_a_json_record_too_long_to_hold_is_one_bad_row(tmp_path: Path) -> None:
    long = json.dumps({"a": "x" * 200_000})
    for content in (f'{{"a": 1}}\n{long}\n{{"a": 2}}', f'[{{"a": 1}},\n{long},\n{{"a": 2}}]'):
        first, bad, last = outcome(written(tmp_path, "file", content.encode()), max_text_chars=1000)
        assert (first, str(bad)[:3], last) == (1, ":2:", 3)
        assert "is longer than 32 × [log] max_text_chars: shorten its texts" in str(bad)


REFUSED: dict[str, tuple[bytes, str]] = {
    "sqlite": (b"SQLite format 3\0" + bytes(80), "seems to be an SQLite database: export the table as CSV"),
    "xlsx": (zipped(**{"[Content_Types].xml": "", "xl/a.xml": ""}), "seems to be a workbook, such as .xlsx"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "seems to be an old Office document"),
    "two in zip": (zipped(a="x", b="y"), "a zip must hold one file, but this one holds a, b: unpack it, and name one"),
    "pickle": (b"\x80\x04\x95", "seems to be a pickle"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "fetch it with git lfs pull"),
    "html": (b"\n<!DOCTYPE html><html>", "seems to be HTML"),
    "tar": (gzip.compress(b"a" * 257 + b"ustar"), "seems to be a tar archive: unpack it"),
    "binary": (bytes(range(256)), "seems to be binary"),
    "cut gzip": (gzip.compress(b"x" * 9999)[:-20], "is damaged or cut"),
    "cut parquet": (b"PAR1xx", "is damaged"),
    "damaged parquet": (b"PAR1" + bytes(20) + b"\x05\0\0\0PAR1", "is damaged or cut"),
    "cyrillic": ("вопрос,ответ\nскажи,привет\n".encode("cp1251"), "is neither UTF-8 nor in a western encoding"),
    "japanese": ("質問,回答\nこんにちは,はい\n".encode("shift-jis"), "is neither UTF-8 nor in a western encoding"),
    "prose": (b"Dear Ann\nhow are you\n", "is neither JSON nor a table of two columns or more"),
    "prose with commas": (b"Dear Ann, hi\nhow are you?\nI, for one, am well.\nBye", "is neither JSON nor a table"),
    "by row name": (b'{"0": {"a": "x"}, "1": {"a": "y"}}', "to_json(orient='records', lines=True)"),
    "by names of its own": (b'{"r1": {"a": "x", "b": "y"}, "r2": {"a": "z", "b": "w"}}', "is a data frame by columns"),
    "without names": (
        b'[["x", "y"],\n ["z", "w"]]',
        "is a list of lists, without names: write it with to_json(orient=",
    ),
    "Markdown": (b"| a | b |\n|---|:-:|\n| x | y |\n", "is a table drawn with lines, as Markdown and psql do: export"),
    "repr": (b"{'a': 'x', 'b': 'y'}\n", "is written as Python writes objects, not as JSON: write it with json.dumps"),
    "psql": (b" a | b\n---+---\n x | y\n(1 row)\n", "is a table drawn with lines, as Markdown and psql do: export"),
    "by column": (b'{"a": {"0": "x", "1": "y"}}', "to_json(orient='records', lines=True)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    content, reason = REFUSED[name]
    file = written(tmp_path, "file", content)
    with pytest.raises(DataError) as raised:
        list(opened(file).records())
    assert str(raised.value).startswith(f"{file}: ")
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_only_the_name_tells(tmp_path: Path) -> None:
    said = {
        "rows.yaml": (b"- {a: x, b: y}\n", "seems to be YAML: export the rows"),
        "rows.xml": (b"<rows><row/></rows>", "seems to be XML: export the rows"),
        "rows.csv": (b"Edits of March;;\na;b;c\nx;y;z\n", "its first line is no row of names: delete the lines above"),
    }
    for name, (content, reason) in said.items():
        with pytest.raises(DataError, match=reason):
            opened(written(tmp_path, name, content))


def test_nan_says_nothing(tmp_path: Path) -> None:
    """JSON has no NaN; Python and data frames write it for nothing, in all columns."""
    rows = [{"a": "x", "n": float("nan"), "l": [1.5, float("nan")]}]
    for content in (json.dumps(rows), jsonl(rows)):
        assert found(written(tmp_path, "file", content.encode())) == [{"a": "x", "n": None, "l": [1.5, None]}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "file")
    assert found(tmp_path / "file") == [{"a": "x", "l": [1.5, None]}]


def test_bytes_of_a_column_are_text_or_base64(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{"a": "Zoë".encode(), "image": b"\x89PNG"}]), tmp_path / "file")
    assert found(tmp_path / "file") == [{"a": "Zoë", "image": "iVBORw=="}]


def test_comments_cost_no_record(tmp_path: Path) -> None:
    rows = outcome(written(tmp_path, "file", b'[\n// first\n{"a": 1},\n{"a": 2}]'))
    assert rows == [":2: not valid JSON (Expecting value): correct this record", 3, 4]


def test_no_file_an_empty_file_and_a_folder_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing: cannot be read \(No such file or directory\)"):
        opened(tmp_path / "missing")
    assert found(written(tmp_path, "empty", b"\xef\xbb\xbf\n")) == []
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is a pipe, which can be read only once"):
        opened(tmp_path / "pipe")
    with pytest.raises(DataError, match="holds empty, pipe, and no Parquet or Arrow file"):
        opened(tmp_path)


@pytest.mark.parametrize("form", ["list", "around", "lines", "gzip", "utf-16", "csv"])
def test_a_large_file_takes_little_memory(tmp_path: Path, form: str) -> None:
    row = {"prompt": "word " * 4000, "response": "y"}
    rows = [row] * 1000
    content = {
        "list": lambda: json.dumps(rows).encode(),
        "around": lambda: json.dumps({"n": 1, "data": rows}).encode(),
        "lines": lambda: jsonl(rows).encode(),
        "gzip": lambda: gzip.compress(jsonl(rows).encode(), 1),
        "utf-16": lambda: jsonl(rows).encode("utf-16"),
        "csv": lambda: table(rows).encode(),
    }[form]()
    file = written(tmp_path, "file", content)
    tracemalloc.start()
    try:
        assert sum(isinstance(found, Raw) for found in opened(file).records()) == 1000
        assert tracemalloc.get_traced_memory()[1] < 8e6  # bytes, of 20 million
    finally:
        tracemalloc.stop()
