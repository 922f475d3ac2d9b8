"""A dataclass's fields as a command's options: name, type, default and sentence of help stay in one place."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

__all__ = ["options_from"]

Options = TypeVar("Options")


def options_from(cls: type[Options], **given: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command with a parameter ``options`` receive ``cls``, built from one command-line option per field.

    Fields in ``given`` are set by the command itself and get no option.
    """
    hints = get_type_hints(cls)
    shown = [f for f in fields(cls) if f.name not in given]  # pyright: ignore[reportArgumentType]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**arguments: Any) -> None:
            chosen = {f.name: arguments.pop(f.name) for f in shown}
            command(**arguments, options=cls(**chosen, **given))

        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "options"]
        added = [
            inspect.Parameter(
                f.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=f.default,
                annotation=Annotated[hints[f.name], typer.Option(help=f.metadata["help"])],
            )
            for f in shown
        ]
        run.__signature__ = inspect.Signature([*own, *added])  # pyright: ignore[reportAttributeAccessIssue]
        run.__annotations__ = {p.name: p.annotation for p in [*own, *added]}
        return run

    return decorate
