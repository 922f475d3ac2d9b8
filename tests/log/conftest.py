"""A log in a temporary folder, and short names for what goes into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from redraft.log import EditLog


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'log.db'}"


@pytest.fixture
def log(url: str) -> Iterator[EditLog]:
    with EditLog(url) as opened:
        yield opened
