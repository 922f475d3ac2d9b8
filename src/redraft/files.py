"""Files and folders that appear whole or not at all.

Everything redraft writes for others to read goes through ``whole``: into a scratch path beside its place, and from
there to the place in one step. A reader never meets half a file, and an error or a kill leaves what was there before.
"""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from redraft.errors import ConfigError

__all__ = ["CACHE", "ROOT", "full", "plain", "room", "whole", "write_json", "write_text"]

ELSEWHERE = "check the folder and its room, or choose another place"
CACHE = "set [model] cache"  # what to do where a kind of place cannot be written
ROOT = "set [policies] root or use --policies"


@contextmanager
def whole(place: Path, remedy: str = ELSEWHERE) -> Generator[Path]:
    """Give a scratch path with the suffix of ``place``; what the block writes there, file or folder, takes its place.

    A file replaces the one that was there; a folder never replaces another. Processes may do so at once. Raises
    ``ConfigError`` with ``remedy`` when it cannot be written.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with whole(Path(folder) / "a.txt") as scratch:
    ...         _ = scratch.write_text("all of it")
    ...     [file.name for file in Path(folder).iterdir()]
    ['a.txt']
    """
    scratch = place.with_name(f".{secrets.token_hex(4)}.{place.name}")  # process ids repeat between containers
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        yield scratch
        if scratch.is_file():
            with scratch.open("rb") as written:
                os.fsync(written.fileno())
        scratch.replace(place)
    except (OSError, shutil.Error) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise ConfigError(f"{place}: cannot be written ({reason}): {remedy}") from error
    finally:
        if scratch.is_dir():
            shutil.rmtree(scratch, ignore_errors=True)
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


def full(error: BaseException) -> bool:
    """Whether an error says that a disk is full, in the words of the system, of safetensors or of torch's writer."""
    known = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    return known or any(words in str(error) for words in ("No space left", "Disk quota", "unexpected pos"))


@contextmanager
def room(place: Path, remedy: str) -> Generator[None]:
    """Raise ``ConfigError`` that names ``place`` where the disk is full; for writers that say it in their own way."""
    try:
        yield
    except Exception as error:
        if not full(error):
            raise
        raise ConfigError(f"{place}: the disk is full: {remedy}") from error


def write_text(place: Path, text: str, remedy: str = ELSEWHERE) -> None:
    """Write a whole file of text; raises as ``whole`` does."""
    with whole(place, remedy) as scratch:
        scratch.write_text(text, "utf-8")


def write_json(place: Path, value: Any, remedy: str = ELSEWHERE) -> None:
    """Write ``plain(value)``, indented; raises as ``whole`` does."""
    write_text(place, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n", remedy)


def plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: what a collapsed training reports becomes null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
