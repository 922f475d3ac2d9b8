"""What all pages share: a template filled in, numbers that JSON can hold, and files replaced whole or not at all.

Nothing in a page is fetched and nothing runs: styles, figures and texts stand inside, and every text that a model or a
person wrote is escaped.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from redraft.errors import DataError

__all__ = ["plain", "render", "write", "write_json"]


def render(template: str, **values: Any) -> str:
    """Fill in a template of this package; ``css`` is there for it, and only ``Markup`` stays unescaped."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    here = files("redraft.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    css = Markup(here.joinpath("page.css").read_text("utf-8"))
    return environment.from_string(here.joinpath(template).read_text("utf-8")).render(css=css, **values)


def plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: what a collapsed training reports becomes null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(file: Path, value: Any) -> None:
    """Write ``plain(value)``, indented."""
    write(file, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write(file: Path, text: str) -> None:
    """Write beside the place and move there, so that a reader never meets half a file.

    Raises ``DataError`` when the file cannot be written.
    """
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, "utf-8")
        part.replace(file)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise DataError(f"{file}: cannot be written ({error.strerror}): choose another folder with --out") from error
