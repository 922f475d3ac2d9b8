"""Messages and responses to token ids, the same way for training, scoring and generation.

The end-of-turn token belongs to every response: a policy that never learned to stop is a bug. Prompts longer than a
limit lose their middle, so that the request (first) and the generation prompt (last) both survive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from redraft.errors import DataError
from redraft.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["encode_prompt", "encode_response", "end_of_turn"]

_PROBE = "redraft"


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], limit: int | None) -> list[int]:
    """Token ids of x with the generation prompt, at most ``limit`` of them; all of them without a limit."""
    try:
        chat = [m.plain for m in messages]
        text = str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # templates raise what they like on roles they do not know
        raise DataError(
            f"messages with roles {[m.role for m in messages]} do not fit the chat template: {error}"
        ) from error
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]  # pyright: ignore[reportAssignmentType]
    if limit is None or len(ids) <= limit:
        return ids
    head = limit // 2
    return ids[:head] + ids[len(ids) - (limit - head) :]


def encode_response(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of y, ending with the end-of-turn token."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]  # pyright: ignore[reportAssignmentType]
    return [*ids, end_of_turn(tokenizer)]


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that the chat template puts behind an assistant's message; the end-of-text token where it puts none."""
    chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _PROBE}]
    rendered = str(tokenizer.apply_chat_template(chat, tokenize=False))
    tail = rendered[rendered.rindex(_PROBE) + len(_PROBE) :]
    ids: list[int] = tokenizer(tail, add_special_tokens=False)["input_ids"]  # pyright: ignore[reportAssignmentType]
    special = set(tokenizer.all_special_ids)
    return next((token for token in ids if token in special), int(tokenizer.eos_token_id))  # pyright: ignore[reportArgumentType]
