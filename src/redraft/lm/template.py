"""What a chat template writes around texts: where it ends a turn, and which messages it takes.

Templates refuse by raising. Some know no system message, some want user and assistant to alternate: what such a one
refuses is asked again with neighbours of one role joined, and then with system messages at the head of the user's.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

from redraft.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Chat", "end_of_turn", "rendered"]

Chat = list[dict[str, str]]
"""Messages as templates take them: ``role`` and ``content``."""

_PROBE = "redraft"
_BRACKETED = re.compile(r"[^\w\s]+\w+[^\w\s]+")
_log = logging.getLogger("redraft.lm")


def rendered(tokenizer: PreTrainedTokenizerBase, chat: Chat, *, prompted: bool = True) -> str:
    """The messages as one text, with the generation prompt if ``prompted``.

    Raises what the template raises on messages that it refuses in every form.
    """
    folded = _joined([{**m, "role": "user"} if m["role"] in ("system", "developer") else m for m in chat])
    ways = {"": chat, "neighbours of one role are joined": _joined(chat), "system messages open the user's": folded}
    refused = AssertionError()
    for said, way in ways.items():
        if said and way == chat:
            continue
        try:
            text = str(tokenizer.apply_chat_template(way, tokenize=False, add_generation_prompt=prompted))
        except Exception as error:  # templates raise what they like
            refused = error
            continue
        if said:
            _say_once(f"note: the base model's chat template refuses some messages as they came: {said}")
        return text
    raise refused


def _joined(chat: Chat) -> Chat:
    """Neighbours of one role as one message, in paragraphs of their own."""
    groups = [(role, list(part)) for role, part in groupby(chat, key=lambda message: message["role"])]
    return [{"role": role, "content": "\n\n".join(m["content"] for m in part)} for role, part in groups]


@lru_cache
def _say_once(text: str) -> None:
    _log.warning(text)


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that the chat template puts behind an assistant's message, special or not; else the end-of-text token.

    Raises ``ModelError`` where there is neither, or the template cannot show an answer to a question.
    """
    return _end_of_turn(tokenizer, str(tokenizer.chat_template), tokenizer.eos_token_id)  # pyright: ignore[reportArgumentType]


@lru_cache(maxsize=16)
def _end_of_turn(tokenizer: PreTrainedTokenizerBase, _template: str, eos: int | None) -> int:
    """Of a tokenizer as it is now: rendering takes longer than tokenising most responses."""
    chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _PROBE}]
    named = f"base model {tokenizer.name_or_path!r}: its chat template"
    try:
        text = str(tokenizer.apply_chat_template(chat, tokenize=False))
        tail = text[text.rindex(_PROBE) + len(_PROBE) :].strip()
    except Exception as error:  # as above, and one that shows no answer
        said = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"{named} cannot show a question with its answer ({said}): correct the template") from error
    ids: list[int] = tokenizer(tail, add_special_tokens=False)["input_ids"]  # pyright: ignore[reportAssignmentType]
    added = tokenizer.added_tokens_decoder
    own = [i for i in ids if i in added and i != tokenizer.unk_token_id and added[i].content.strip()]
    if not own and len(ids) == 1 and _BRACKETED.fullmatch(tail):
        own = ids
    if not own and eos is None:
        raise ModelError(
            f"{named} ends a turn with no token of its own and its tokenizer names no eos_token, so answers would not"
            " stop: set eos_token in tokenizer_config.json"
        )
    return own[0] if own else int(eos)  # pyright: ignore[reportArgumentType]
