"""Files that may be deleted at any time and made again: one is there whole, or it is not there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from redraft.errors import ConfigError

__all__ = ["keep"]


def keep(file: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a scratch file of the same suffix, and put that in the place of ``file``.

    Processes may do so at once. Raises ``ConfigError`` when the folder cannot be written.
    """
    scratch = file.with_name(f"{os.getpid()}.{file.name}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write(scratch)
        scratch.replace(file)
    except OSError as error:
        raise ConfigError(f"cache {file.parent}: cannot be written ({error.strerror}): set [model] cache") from error
