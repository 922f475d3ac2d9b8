"""A log in a temporary folder, and short names for what goes into it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from redraft.log import EditLog


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'log.db'}"


@pytest.fixture
def log(url: str) -> Iterator[EditLog]:
    with EditLog(url) as opened:
        yield opened


@pytest.fixture(scope="session")
def new_log(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], AbstractContextManager[EditLog]]:
    """Make empty logs, many in one test: copies of one that has its schema, in memory where that is a folder."""
    empty = tmp_path_factory.mktemp("empty") / "log.db"
    EditLog(f"sqlite:///{empty}").close()
    memory = Path("/dev/shm")

    @contextmanager
    def new() -> Generator[EditLog]:
        with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
            shutil.copy(empty, folder)
            with EditLog(f"sqlite:///{folder}/log.db") as log:
                yield log

    return new
