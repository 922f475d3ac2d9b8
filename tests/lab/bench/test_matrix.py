from __future__ import annotations

import gzip
import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.errors import DataError
from redraft.lab.bench.matrix import MatrixRow, append_rows, cost_table, read_rows

ROW = MatrixRow(1, "email", "strong", "strong", 1, "email-1-0001", "base", "Dear 😀\n", "Hi\u2028", 3, 1.5, 0.25)


def table(**policies: list[float]) -> list[MatrixRow]:
    return [
        replace(ROW, policy=policy, t=t, cost=cost)
        for policy, costs in policies.items()
        for t, cost in enumerate(costs, 1)
    ]


def test_field_names_are_fixed():
    names = "seed task train_user test_user t context_id policy response edited raw cost seconds"
    assert [field.name for field in fields(MatrixRow)] == names.split()


@given(st.lists(st.text(), max_size=5), st.integers(0, 5))
def test_what_is_appended_in_batches_is_read(tmp_path_factory: pytest.TempPathFactory, texts: list[str], cut: int):
    file = tmp_path_factory.mktemp("matrix") / "new" / "rows.jsonl"
    rows = [replace(ROW, t=t, response=text) for t, text in enumerate(texts, 1)]
    append_rows(file, rows[:cut])
    append_rows(file, rows[cut:])
    assert read_rows(file) == rows


def test_compressed_rows_are_read_and_not_appended_to(tmp_path: Path):
    file = tmp_path / "rows.jsonl.gz"
    file.write_bytes(gzip.compress((json.dumps(asdict(ROW)) + "\n").encode()))
    assert read_rows(file) == [ROW]
    with pytest.raises(DataError, match="finished"):
        append_rows(file, [ROW])


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path):
    file = tmp_path / "rows.jsonl"
    assert read_rows(file) == []
    rows = table(base=[1, 2, 3], sft=[0, 0, 0])
    append_rows(file, rows[:2])
    with file.open("ab") as stream:
        stream.write(b'{"seed": 1, "task": "em')  # killed while writing
    done = {row.cell for row in read_rows(file)}
    assert len(done) == 2
    append_rows(file, [row for row in rows if row.cell not in done])
    assert read_rows(file) == rows


@pytest.mark.parametrize("size", [10, 4095, 4096, 4097, 20_000])
def test_a_torn_line_of_any_length_is_cut_off(tmp_path: Path, size: int):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"x" * size)
    append_rows(file, [ROW])
    with file.open("ab") as stream:
        stream.write(b"x" * size)
    append_rows(file, [replace(ROW, t=2)])
    assert [row.t for row in read_rows(file)] == [1, 2]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("{}", "seed, task"),
        (json.dumps({**asdict(ROW), "cost": "1"}), "cost missing"),
        (json.dumps({**asdict(ROW), "reward": 1}), "reward missing, unknown"),
    ],
)
def test_invalid_row_is_named_with_file_and_line(tmp_path: Path, line: str, reason: str):
    file = tmp_path / "rows.jsonl"
    append_rows(file, [ROW])
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(DataError, match=rf"rows\.jsonl, line 2: .*{reason}"):
        read_rows(file)


def test_a_cost_table_is_ordered_by_t():
    rows = table(base=[1.0, 2.0], sft=[0.25, 0.5])
    assert cost_table(rows[::-1]) == {"sft": [0.25, 0.5], "base": [1.0, 2.0]}
    assert cost_table([]) == {}


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (table(base=[1, 2], sft=[1]), "sft at t = 2"),
        (table(base=[1, 2, 3])[1:], "base at t = 1"),
        ([*table(base=[1, 2]), replace(ROW, t=2)], "'base' has two rows for t = 2"),
        ([*table(base=[1]), replace(ROW, t=0)], "t below 1"),
        ([*table(base=[1]), replace(ROW, seed=2)], "2 settings"),
    ],
)
def test_invalid_cost_table(rows: list[MatrixRow], reason: str):
    with pytest.raises(DataError, match=reason):
        cost_table(rows)
