"""``redraft import``, ``export`` and ``log`` as a person and as a script meet them."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pyarrow.parquet as pq
import pytest

from redraft.cli.app import main
from redraft.cli.log import Format
from redraft.costs import COSTS
from redraft.data import context_groups
from redraft.lab.corpora import CORPORA
from redraft.log import EditLog
from redraft.log.formats import READERS

GOOD = b'{"prompt": "x %d", "response": "a b", "edited": "a c"}\n'


class Ran(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on standard output."""
        assert self.out.count("\n") == 1
        return json.loads(self.out)


class Shell:
    """A folder of its own in which ``redraft`` runs."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._capsys, self._monkeypatch = folder, capsys, monkeypatch

    def __call__(self, *args: str) -> Ran:
        self._monkeypatch.setattr(sys, "argv", ["redraft", *args])
        with pytest.raises(SystemExit) as caught:
            main()
        written = self._capsys.readouterr()
        return Ran(int(caught.value.code or 0), written.out, written.err)

    def file(self, content: bytes, name: str = "rows.jsonl") -> str:
        (self.folder / name).write_bytes(content)
        return name


@pytest.fixture
def redraft(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("REDRAFT_") and name != "REDRAFT_DATA"]:
        monkeypatch.delenv(name)
    return Shell(tmp_path, capsys, monkeypatch)


def good(count: int) -> bytes:
    return b"".join(GOOD % i for i in range(count))


def test_import_twice(redraft: Shell) -> None:
    rows = redraft.file(good(3))
    assert redraft("import", rows, "--task", "t", "--json").json == {
        "file": "JSON Lines",
        "shape": "native (our own)",
        "fields": {name: name for name in ("prompt", "response", "edited")},
        "accepted": 0,
        "changed": 3,
        "silent": 0,
        "new": 3,
        "known": 0,
        "bad": 0,
        "problems": [],
    }
    again = redraft("import", rows, "--task", "t", "--json")
    assert (again.status, again.err, again.json["new"], again.json["known"]) == (0, "", 0, 3)
    shown = redraft("import", rows, "--task", "t")
    assert (shown.status, shown.err) == (0, "")
    assert "known" in shown.out


def test_bad_rows_are_reported_and_the_rest_goes_on(redraft: Shell) -> None:
    rows = redraft.file(good(6) + b'{"prompt": "x", "response": \n' + good(7)[-len(GOOD) + 1 :])
    ran = redraft("import", rows, "--task", "t", "--json")
    assert ran.status == 0
    assert ran.err.startswith("rows.jsonl:7: not valid JSON in UTF-8 (EOF while parsing a value at ")
    assert ran.err.count("\n") == 1
    (problem,) = ran.json["problems"]
    assert (ran.json["new"], ran.json["bad"], problem["line"], problem["file"]) == (7, 1, 7, "rows.jsonl")


def test_equal_problems_are_one_line(redraft: Shell) -> None:
    rows = redraft.file(good(1) + b'{"prompt": "x"}\n' * 3 + b'{"prompt": "x", "response": 1}\n')
    ran = redraft("import", rows, "--task", "t", "--json")
    first, last = ran.err.splitlines()
    assert first == "rows.jsonl:2: response is missing: give it, or correct the name of its key (and 2 more rows)"
    assert last.startswith("rows.jsonl:5: response = 1")
    assert (ran.json["bad"], [problem["line"] for problem in ran.json["problems"]]) == (4, [2, 3, 4, 5])


def test_the_next_command_is_the_last_line(redraft: Shell) -> None:
    ran = redraft("import", redraft.file(good(1)), "--task", "t")
    assert ran.out.endswith("\nNext: redraft diagnose t\n")
    assert redraft(*ran.out.splitlines()[-1].split()[2:]).status == 0
    assert "Next:" not in redraft("import", redraft.file(b"{}\n"), "--task", "t").out


def test_no_word_is_cut_at_80_columns(redraft: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = redraft.file(good(2))
    for command in (["import", rows, "--task", "t"], ["log", "stats"], ["export", "sft", "a.jsonl"], ["diagnose", "t"]):
        ran = redraft(*command)
        assert ran.status == 0
        assert "…" not in ran.out
        assert max(map(len, ran.out.splitlines())) <= 80


BAD_ROWS = {
    b'{"prompt": "x", "response": 1}\n': "response = 1: Input should be a valid string",
    b'{"prompt": "x", "response": "\xff"}\n': "not valid JSON in UTF-8",
    b'{"prompt": "x", "response": "%s"}\n' % (b"y" * 5_000_000): "response has 5,000,000 characters",
    b'{"prompt": "x", "response": "a", "id": "same"}\n{"prompt": "x", "response": "b", "id": "same"}\n': (
        "completion 'same' is in the log with other content (response)"
    ),
}


@pytest.mark.parametrize("bad", BAD_ROWS, ids=["type", "utf-8", "5 MB", "conflict"])
def test_strict_writes_nothing(redraft: Shell, bad: bytes) -> None:
    rows = redraft.file(good(2) + bad + good(1))
    ran = redraft("import", rows, "--task", "t", "--json", "--strict")
    assert (ran.status, ran.out) == (2, "")
    line = 2 + bad.count(b"\n")
    assert f"rows.jsonl:{line}: {BAD_ROWS[bad]}" in ran.err
    assert "nothing imported" in ran.err
    assert [file.name for file in redraft.folder.iterdir()] == ["rows.jsonl"]
    lenient = redraft("import", rows, "--task", "t", "--json")
    assert (lenient.status, lenient.json["bad"], lenient.json["new"]) == (0, 1, line)
    before = redraft("log", "stats", "--json").json
    assert redraft("import", redraft.file(good(9) + bad), "--task", "t", "--strict").status == 2
    assert redraft("log", "stats", "--json").json == before


def test_strict_makes_a_whole_log(redraft: Shell) -> None:
    rows = redraft.file(good(1200))
    assert redraft("import", rows, "--task", "t", "--json", "--strict").json["new"] == 1200
    assert sorted(file.name for file in redraft.folder.iterdir()) == ["redraft.db", "rows.jsonl"]
    assert redraft("import", rows, "--task", "t", "--json", "--strict").json["known"] == 1200
    assert redraft("log", "verify").status == 0


def test_strict_replaces_no_log_that_another_made_meanwhile(redraft: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = EditLog.add_many

    def meanwhile(*args: Any, **options: Any) -> Any:
        Path("redraft.db").write_text("another's")
        return opened(*args, **options)

    monkeypatch.setattr(EditLog, "add_many", meanwhile)
    one_line(redraft("import", redraft.file(good(2)), "--task", "t", "--strict"), "cannot be made", "repeat the import")
    assert Path("redraft.db").read_text() == "another's"
    assert sorted(file.name for file in redraft.folder.iterdir()) == ["redraft.db", "rows.jsonl"]


@pytest.mark.parametrize("bad", [b"missing.jsonl", b"", b'{"prompt": 1}\n'])
def test_a_file_without_a_good_row_makes_no_log(redraft: Shell, bad: bytes) -> None:
    rows = "missing.jsonl" if bad == b"missing.jsonl" else redraft.file(bad)
    assert redraft("import", rows, "--task", "t").status == 2
    assert [file.name for file in redraft.folder.iterdir()] == [rows] * (rows != "missing.jsonl")


def test_an_import_goes_on_after_a_cell_that_is_far_too_long(redraft: Shell) -> None:
    redraft.file(b"[log]\nmax_text_chars = 1000\n", "redraft.toml")
    table = b"".join(b"x %d,a b,a c\n" % i for i in range(1500))
    rows = redraft.file(b"context,response,edited\n" + table + b"x,%s,y\nlast,a,b\n" % (b"y" * 5_000_000), "t.csv")
    ran = redraft("import", rows, "--format", "csv", "--task", "t", "--json")
    assert (ran.status, ran.json["new"], ran.json["bad"]) == (0, 1501, 1)
    assert ran.err == "t.csv:1502: line 1502 is far too long: shorten it, or raise [log] max_text_chars\n"


@pytest.mark.parametrize("form", ["native", "csv", "trl"])
def test_a_task_that_is_no_name_is_an_option_to_correct(redraft: Shell, form: str) -> None:
    rows = redraft.file(good(3))
    one_line(redraft("import", rows, "--task", "a b", "--format", form), "task 'a b'", "--task", "e.g. email")
    assert [file.name for file in redraft.folder.iterdir()] == ["rows.jsonl"]


def test_equal_problems_with_other_values_are_one_line(redraft: Shell) -> None:
    rows = good(1) + b"".join(b'{"prompt": "x", "response": %d, "edited": "z"}\n' % i for i in range(1075))
    ran = redraft("import", redraft.file(rows), "--task", "t")
    first = "rows.jsonl:2: response = 0: must be text or messages (and 1,074 more rows)\n"
    assert (ran.status, ran.err) == (0, first)


def test_no_good_row_is_an_error_with_a_hint(redraft: Shell) -> None:
    rows = redraft.file(b'{"context": "x", "response": "y", "edited": "z"}\n' * 3)
    ran = redraft("import", rows, "--task", "t", "--format", "native")
    problem, last = ran.err.splitlines()
    assert problem == "rows.jsonl:1: give either messages or prompt (and 2 more rows)"
    assert last == "redraft: rows.jsonl: no row could be imported, 3 are bad: context → prompt? --map prompt=context"
    assert (ran.status, ran.out, list(redraft.folder.iterdir())) == (2, "", [redraft.folder / rows])
    assert redraft("import", rows, "--task", "t", "--format", "native", *last.split()[-2:]).status == 0
    one_line(redraft("import", redraft.file(b""), "--task", "t"), "rows.jsonl: holds no rows")


def test_a_dry_run_says_what_is_understood_and_writes_nothing(redraft: Shell) -> None:
    rows = [{"context": f"x {i}\n", "draft": "y " * 99, "final": {"text": "z"}, "by": "kim", "n": i} for i in range(9)]
    file = redraft.file("\n".join(map(json.dumps, rows)).encode() + b"\n{}\n")
    mapped = ["--map", "edited=final.text,edit_user_id=by"]
    shown = redraft("import", file, "--task", "t", "--dry-run", *mapped)
    assert shown.status == 0
    for said in ("JSON Lines", "columns by name", "prompt ← context", "metadata ← n", "x 2", "…", "without --dry-run"):
        assert said in " ".join(shown.out.split())
    assert "x 3" not in shown.out
    found = redraft("import", file, "--task", "t", "--dry-run", "--json", *mapped).json
    assert {name: found[name] for name in ("accepted", "changed", "silent", "bad")} == {
        "accepted": 0,
        "changed": 9,
        "silent": 0,
        "bad": 1,
    }
    assert found["rows"]["edited"] == ["z"] * 3
    assert list(redraft.folder.iterdir()) == [redraft.folder / file]
    assert redraft("import", file, "--task", "t", "--json", *mapped).json["new"] == 9


def test_the_older_name_of_map(redraft: Shell) -> None:
    rows = redraft.file(b'{"q": "x", "a": "y", "b": "y"}\n{"q": "x", "a": "y", "b": "z"}\n{"q": "x", "a": "y"}\n')
    command = ["import", rows, "--task", "t", "--json", "--format", "csv", "--columns", "context=q,response=a,edited=b"]
    counts = redraft(*command).json
    assert [counts[name] for name in ("accepted", "changed", "silent", "new")] == [1, 1, 1, 3]
    assert "--columns" not in redraft("import", "--help").out


def test_rows_that_all_are_silent_are_told(redraft: Shell) -> None:
    ran = redraft("import", redraft.file(b'{"prompt": "x", "response": "y"}\n'), "--task", "t")
    assert ran.err == "rows.jsonl: no row says what became of its response: name the edits with --map edited=…\n"


def test_rows_without_a_task(redraft: Shell) -> None:
    rows = redraft.file(good(3))
    one_line(redraft("import", rows), "rows.jsonl: no row names its task (3 rows): give --task")
    assert [file.name for file in redraft.folder.iterdir()] == ["rows.jsonl"]
    named = b'{"task": "t", "prompt": "x", "response": "y"}\n'
    for content, lines in ((good(2) + named, [1, 2]), (named + good(1), [2]), (good(1) + b"{}\n" + named, [1, 2])):
        ran = redraft("import", redraft.file(content), "--json", "--log", f"sqlite:///{len(content)}.db")
        assert (ran.status, ran.json["new"], ran.json["bad"]) == (0, 1, len(lines))
        assert [problem["line"] for problem in ran.json["problems"]] == lines
        assert "task is missing: name it in the row, or give --task" in ran.err


def one_line(ran: Ran, *parts: str) -> None:
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("redraft: ")
    assert ran.err.count("\n") == 1
    for part in parts:
        assert part in ran.err


def test_unusable_input_is_one_line_and_status_2(redraft: Shell) -> None:
    rows, table = redraft.file(good(1)), redraft.file(b"a,b\n1,2\n", "table.csv")
    one_line(redraft("import", "missing.jsonl", "--task", "t"), "missing.jsonl: cannot be read")
    one_line(redraft("import", ".", "--task", "t"), "is a folder that holds")
    one_line(redraft("import", rows, "--format", "trl"), "--task is missing")
    one_line(redraft("import", table, "--format", "csv", "--task", "t"), "nothing is read as prompt and", "a, b")
    one_line(redraft("import", table, "--format", "csv", "--task", "t", "--columns", "context"), "names no column")
    one_line(redraft("import", rows, "--task", "t", "--log", "sqlite:////proc/log.db"), "unable to open database file")
    one_line(redraft("import", rows, "--task", "t", "--log", f"sqlite:///{rows}/log.db"), "unable to open", "--log")
    one_line(redraft("import", rows, "--task", "t", "--log", "log.db"), "sqlite:///FILE")
    one_line(redraft("import", rows, "--task", "t", "--log", "log.db", "--strict"), "sqlite:///FILE")


def test_unknown_settings_are_refused(redraft: Shell) -> None:
    redraft.file(b'[log]\nurl = "sqlite:///x.db"\nhorizon = 3\n', "redraft.toml")
    one_line(redraft("import", redraft.file(good(1)), "--task", "t"), "redraft.toml", "unknown key 'log.horizon'")


def test_reading_commands_make_no_log(redraft: Shell) -> None:
    for command in (["log", "stats"], ["log", "verify"], ["export", "sft", "out.jsonl"]):
        one_line(redraft(*command), "does not exist yet", "import something first")
    assert list(redraft.folder.iterdir()) == []


def test_settings_name_the_log_and_the_cost(redraft: Shell) -> None:
    redraft.file(b'[log]\nurl = "sqlite:///x.db"\n[tasks.t]\ncost = "character"\n', "redraft.toml")
    redraft("import", redraft.file(good(1)), "--task", "t")
    with EditLog(f"sqlite:///{redraft.folder / 'x.db'}", cost_of=lambda task: COSTS["character"]) as log:
        assert log.counts("t").edited == 1
        assert log.verify() == []
    redraft("export", "cost", "out.jsonl")
    assert json.loads((redraft.folder / "out.jsonl").read_text())["cost"] == pytest.approx(1 / 3)


def test_stats(redraft: Shell) -> None:
    redraft("import", redraft.file(good(2) + b'{"prompt": "x", "response": "y"}'), "--task", "t")
    counts = redraft("log", "stats", "--json").json["tasks"]["t"]
    assert counts == {
        "completions": 3,
        "edited": 2,
        "unchanged": 0,
        "accepted": 0,
        "awaiting": 0,
        "censored": 1,
        "revisions": 2,
    }
    assert "censored" in redraft("log", "stats", "--task", "t").out
    one_line(redraft("log", "stats", "--task", "[t]"), "task '[t]' is not in the log: use one of t")


def test_verify(redraft: Shell) -> None:
    redraft("import", redraft.file(good(2)), "--task", "t")
    sound = redraft("log", "verify")
    assert (sound.status, sound.out) == (0, "the log is sound\n")
    with closing(sqlite3.connect("redraft.db")) as connection:
        connection.execute("update edits set cost = 1 where position = 1")
        connection.commit()
    broken = redraft("log", "verify", "--json")
    assert (broken.status, broken.json["ok"], len(broken.json["problems"])) == (1, False, 1)
    assert "recomputed" in redraft("log", "verify").out


@pytest.mark.parametrize("kind", ["sft", "preference", "unpaired", "cost"])
def test_export_is_the_same_in_both_formats(redraft: Shell, kind: str) -> None:
    accepted = b'{"prompt": "x", "response": "y", "accepted": true}\n{"prompt": "x", "response": "y"}\n'
    redraft("import", redraft.file(good(1100) + accepted), "--task", "t")
    ran = redraft("export", kind, "out.jsonl", "--json")
    count = {"sft": 1101, "preference": 1100, "unpaired": 2201, "cost": 1101}[kind]
    assert ran.json == {"out": "out.jsonl", "kind": kind, "format": "jsonl", "rows": count}
    rows = [json.loads(line) for line in (redraft.folder / "out.jsonl").read_text().splitlines()]
    assert redraft("export", kind, "out.parquet", "--task", "t", "--json").json["rows"] == len(rows) == count
    table = pq.ParquetFile(redraft.folder / "out.parquet")
    assert table.read().to_pylist() == rows
    assert table.num_row_groups > 1
    assert str(count) in redraft("export", kind, "out", "--format", "parquet").out
    assert sorted(file.name for file in redraft.folder.iterdir() if "db" not in file.suffix) == [
        "out",
        "out.jsonl",
        "out.parquet",
        "rows.jsonl",
    ]


def test_native_export_comes_back_exactly(redraft: Shell) -> None:
    redraft("import", redraft.file(good(20) + b'{"prompt": "x", "response": "y"}'), "--task", "t")
    redraft("export", "native", "one.jsonl")
    assert redraft("import", "one.jsonl", "--log", "sqlite:///other.db", "--json").json["new"] == 21
    redraft("export", "native", "two.jsonl", "--log", "sqlite:///other.db")
    assert (redraft.folder / "two.jsonl").read_bytes() == (redraft.folder / "one.jsonl").read_bytes()


def test_a_failed_export_leaves_what_was_there(redraft: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    redraft("import", redraft.file(good(5)), "--task", "t")
    (redraft.folder / "out.jsonl").write_text("before")
    one_line(redraft("export", "sft", "out.txt"), "out.txt: name it .jsonl or .parquet")
    one_line(redraft("export", "native", "out.parquet"), "out.parquet: the log itself", "name it .jsonl")
    one_line(redraft("export", "sft", "rows.jsonl/out.jsonl"), "rows.jsonl/out.jsonl: cannot be written (")
    one_line(redraft("export", "sft", "out.jsonl"), "out.jsonl exists already: add --force")
    one_line(redraft("export", "sft", "out.jsonl", "--task", "u", "--force"), "not in the log: use one of t")

    def breaks(rows: Any, what: str) -> Any:
        yield next(iter(rows))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("redraft.cli.export.progress", breaks)
    one_line(redraft("export", "sft", "out.jsonl", "--force"), "cannot be written (No space left on device)")
    assert (redraft.folder / "out.jsonl").read_text() == "before"
    assert [file.name for file in redraft.folder.iterdir() if file.name.endswith(".out.jsonl")] == []
    monkeypatch.undo()
    monkeypatch.chdir(redraft.folder)
    assert redraft("export", "sft", "out.jsonl", "--force", "--json").json["rows"] == 5
    assert len((redraft.folder / "out.jsonl").read_text().splitlines()) == 5


def test_every_reader_has_its_name_on_the_command_line() -> None:
    assert [*get_args(Format)] == [*READERS, *CORPORA]


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from redraft.cli.app import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'sqlalchemy', 'pyarrow', 'pydantic', 'numpy', 'torch', 'nltk'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.real
@pytest.mark.skipif("REDRAFT_DATA" not in os.environ, reason="$REDRAFT_DATA is not set")
class TestRealEdits:
    @property
    def edits(self) -> Path:
        return Path(os.environ["REDRAFT_DATA"]) / "edits"

    @pytest.mark.parametrize(("part", "rows", "unedited"), [("train", 1000, 302), ("val", 486, 147)])
    def test_defacto(self, redraft: Shell, part: str, rows: int, unedited: int) -> None:
        file = str(self.edits / "defacto" / f"{part}.jsonl")
        command = ["import", file, "--format", "defacto", "--task", "news", "--json", "--strict"]
        assert redraft(*command).json["new"] == rows
        again = redraft(*command).json
        assert (again["new"], again["known"], again["bad"]) == (0, rows, 0)
        counts = redraft("log", "stats", "--json").json["tasks"]["news"]
        assert (counts["completions"], counts["unchanged"], counts["edited"]) == (rows, unedited, rows - unedited)
        assert redraft("log", "verify", "--json").json["ok"]
        if part == "train":
            with EditLog("sqlite:///redraft.db") as log:
                raw = [COSTS["whitespace"].raw(i.completion.response, i.edited or "") for i in log.interactions()]
                assert round(sum(raw) / len(raw), 3) == 4.568

    @pytest.mark.parametrize(("part", "rows", "unedited"), [("train", 7000, 721), ("dev", 1000, 317)])
    def test_mlqe(self, redraft: Shell, part: str, rows: int, unedited: int) -> None:
        file = str(self.edits / "mlqe-pe-ro-en" / part)
        command = ["import", file, "--format", "mlqe", "--task", "translate", "--json"]
        first = redraft(*command).json
        assert (first["new"], first["known"], first["bad"]) == (rows, 0, 0)
        assert redraft(*command).json["known"] == rows
        counts = redraft("log", "stats", "--json").json["tasks"]["translate"]
        assert (counts["completions"], counts["unchanged"]) == (rows, unedited)

    def test_articles_are_no_near_repeats_of_each_other(self, redraft: Shell) -> None:
        redraft("import", str(self.edits / "defacto" / "train.jsonl"), "--format", "defacto", "--task", "news")
        with EditLog("sqlite:///redraft.db") as log:
            groups = context_groups(found.completion.messages for found in log.interactions())
        assert len(set(groups.values())) > 990
