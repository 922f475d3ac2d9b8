"""Preference files of TRL and OpenAI: what was rejected is the response, what was chosen is its edit.

Read are TRL's ``prompt``/``chosen``/``rejected``, plain or conversational (where the prompt may stand at the head of
both conversations instead), and OpenAI's ``input``/``preferred_output``/``non_preferred_output``. What we write for
TRL (supervision, preferences, labels, costs) is made in ``redraft.data``; its Parquet columns are named here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Discriminator, Tag, model_validator

from redraft.errors import DataError
from redraft.log.formats.rows import BadRow, Options, Record, Row, json_rows
from redraft.types import Completion, Edit, Interaction, Message, Role

__all__ = ["parquet_schema", "read"]


class _Turn(BaseModel):
    role: Role
    content: str


def _form(value: object) -> str:
    return "text" if isinstance(value, str) else "messages"


_Text = Annotated[Annotated[str, Tag("text")] | Annotated[list[_Turn], Tag("messages")], Discriminator(_form)]


class _Input(BaseModel):
    messages: list[_Turn]


class _Preference(Record):
    prompt: _Text | None = None
    chosen: _Text | None = None
    rejected: _Text | None = None
    input: _Input | None = None
    preferred_output: list[_Turn] | None = None
    non_preferred_output: list[_Turn] | None = None

    @model_validator(mode="after")
    def _complete(self) -> _Preference:
        names = ("input", "preferred_output", "non_preferred_output")
        if all(getattr(self, name) is None for name in names):
            names = ("chosen", "rejected")
        missing = [name for name in names if getattr(self, name) is None]
        if missing:
            raise ValueError(f"{' and '.join(missing)} missing: give what was written and what it was changed to")
        return self

    def interaction(self, task: str) -> Interaction:
        """Say it in our vocabulary."""
        if self.input is not None:
            prompt, chosen, rejected = self.input.messages, self.preferred_output, self.non_preferred_output
        else:
            prompt, chosen, rejected = self.prompt, self.chosen, self.rejected
        if prompt is None:
            prompt, chosen, rejected = _shared_prompt(chosen, rejected)
        messages = [_Turn(role="user", content=prompt)] if isinstance(prompt, str) else prompt
        if not messages or messages[-1].role == "assistant":
            raise DataError("the prompt must end with a message that is not the assistant's")
        context = tuple(Message(turn.role, turn.content) for turn in messages)
        completion = Completion("", task, context, _answer("rejected", rejected))
        return Interaction(completion, Edit("", _answer("chosen", chosen)))


def _shared_prompt(
    chosen: str | list[_Turn] | None, rejected: str | list[_Turn] | None
) -> tuple[list[_Turn], list[_Turn], list[_Turn]]:
    if isinstance(chosen, list) and isinstance(rejected, list) and chosen[:-1] == rejected[:-1]:
        return chosen[:-1], chosen[-1:], rejected[-1:]
    raise DataError("prompt is missing: give it, or let chosen and rejected begin with the same messages")


def _answer(name: str, output: str | list[_Turn] | None) -> str:
    if isinstance(output, str):
        return output
    if output is None or len(output) != 1 or output[0].role != "assistant":
        roles = ", ".join(turn.role for turn in output or ()) or "nothing"
        raise DataError(f"{name} must be one assistant message, but holds {roles}")
    return output[0].content


def read(file: Path, options: Options) -> Iterator[Row | BadRow]:
    """Read a JSONL file of preferences."""
    return json_rows(file, options, _Preference)


def parquet_schema(kind: str) -> Any:
    """Columns of exported rows: ``sft``, ``preference``, ``unpaired`` or ``cost``."""
    import pyarrow as pa

    messages = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    more: dict[str, list[tuple[str, Any]]] = {
        "sft": [("completion", messages)],
        "preference": [("chosen", messages), ("rejected", messages)],
        "unpaired": [("completion", messages), ("label", pa.bool_())],
        "cost": [("completion", messages), ("cost", pa.float64()), ("raw", pa.float64())],
    }
    return pa.schema([("prompt", messages), *more[kind]])
