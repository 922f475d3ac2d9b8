"""A dataclass's fields as a command's options: name, type, default and sentence of help stay in one place."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import wraps
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

__all__ = ["options_from"]

Options = TypeVar("Options")


def options_from(
    cls: type[Options], name: str = "options", **given: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command with a parameter ``name`` receive ``cls``, built from one command-line option per field.

    Fields in ``given`` are set by the command itself and get no option. A field may be annotated as an option is.
    """
    hints = get_type_hints(cls, include_extras=True)
    shown = [f for f in fields(cls) if f.name not in given]  # pyright: ignore[reportArgumentType]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**arguments: Any) -> None:
            chosen = {f.name: arguments.pop(f.name) for f in shown}
            command(**arguments, **{name: cls(**chosen, **given)})

        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != name]
        added = [
            inspect.Parameter(
                f.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=f.default,
                annotation=_annotation(hints[f.name], f.metadata),
            )
            for f in shown
        ]
        run.__signature__ = inspect.Signature([*own, *added])  # pyright: ignore[reportAttributeAccessIssue]
        run.__annotations__ = {p.name: p.annotation for p in [*own, *added]}
        return run

    return decorate


def _annotation(hint: Any, metadata: Mapping[str, Any]) -> Any:
    return Annotated[hint, typer.Option(help=metadata["help"])] if "help" in metadata else hint
