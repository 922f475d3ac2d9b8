"""How commands speak: the result on standard output, everything else on standard error.

With ``--json`` the result is exactly one JSON object and nothing else reaches standard output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["AsJson", "emit", "note", "progress_console"]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def emit(data: Mapping[str, Any], as_json: bool, render: Callable[[Console], None]) -> None:
    """Print ``data`` as one JSON object (times in ISO 8601), or let ``render`` draw it for a person."""
    if as_json:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, default=lambda time: time.isoformat())
        sys.stdout.write(text + "\n")
        return
    from rich.console import Console

    render(Console(highlight=False))


def progress_console() -> Console:
    """Return a console on standard error, for progress bars."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def note(text: str) -> None:
    """Tell the person at the terminal something, on standard error."""
    typer.echo(text, err=True)
