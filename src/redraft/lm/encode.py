"""Messages and responses to token ids, the same way for training, scoring and generation.

The end-of-turn token belongs to every response: a policy that never learned to stop is a bug. Prompts longer than a
limit lose their middle, so that the request (first) and the generation prompt (last) both survive. Control tokens are
the template's alone: where somebody typed ``<|im_end|>`` into a prompt or a response, these are ten characters. Such
texts, and only they, are read by a copy of the tokenizer in which control tokens have names that nobody can type.
(transformers 5.23 has ``sanitize_control_tokens``, which refuses Unigram tokenizers.)
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from redraft.errors import DataError, ModelError
from redraft.lm.template import end_of_turn, rendered
from redraft.types import Message

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

__all__ = ["encode_prompt", "encode_response", "end_of_turn"]


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], limit: int | None) -> list[int]:
    """Token ids of x with the generation prompt, at most ``limit`` of them; all of them without a limit.

    Raises ``DataError`` for messages that the chat template refuses.
    """
    chat = [m.plain for m in messages]
    try:
        controls = _controls(tokenizer, str(tokenizer.chat_template))
        quoting = any(controls.quoted(m["content"]) for m in chat)
        if quoting:
            chat = [{**m, "content": controls.renamed(m["content"], controls.quotes)} for m in chat]
        text = rendered(tokenizer, chat)
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"messages with roles {[m.role for m in messages]} do not fit the chat template: {said}"
        ) from error
    ids = controls.ids(controls.restored(text)) if quoting else _ids(tokenizer, text)
    if limit is None or len(ids) <= limit:
        return ids
    head = limit // 2
    return ids[:head] + ids[len(ids) - (limit - head) :]


def encode_response(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of y, ending with the end-of-turn token."""
    controls = _controls(tokenizer, str(tokenizer.chat_template))
    ids = controls.ids(text) if controls.quoted(text) else _ids(tokenizer, text)
    return [*ids, end_of_turn(tokenizer)]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]  # pyright: ignore[reportReturnType]


class _Controls:
    """The special tokens of a tokenizer, and what its template writes around a message, special or not.

    ``secret`` has the name of each in the copy, ``quotes`` what stands for it while the template is at work.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, end: int) -> None:
        added = tokenizer.added_tokens_decoder
        written = {end, *_ids(tokenizer, rendered(tokenizer, [{"role": "user", "content": "?"}], prompted=False))}
        names = {t.content for i, t in added.items() if (t.special or i in written) and t.content.strip()}
        names |= set() if end in added else {str(tokenizer.convert_ids_to_tokens(end))}
        ordered = sorted(names, key=len, reverse=True)  # of two that begin alike the longer one is meant
        nonce = secrets.token_hex(8)
        self.secret = {name: f"\ue000{nonce}{number}\ue001" for number, name in enumerate(ordered)}
        self.quotes = {name: f"\ue002{nonce}{number}\ue001" for number, name in enumerate(ordered)}
        self._backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        self._any = re.compile("|".join(map(re.escape, ordered)) or "(?!)")

    def quoted(self, text: str) -> bool:
        """Whether a text holds a control token's name, also when normalised."""
        if self._any.search(text):
            return True
        normalizer = getattr(self._backend, "normalizer", None)
        return normalizer is not None and self._any.search(normalizer.normalize_str(text)) is not None

    def renamed(self, text: str, names: dict[str, str]) -> str:
        """The text with other names of its control tokens."""
        return self._any.sub(lambda found: names[found[0]], text)

    def restored(self, text: str) -> str:
        """A rendered text in which the template's control tokens have secret names, and quotes their own."""
        text = self.renamed(text, self.secret)
        for name, stand_in in self.quotes.items():
            text = text.replace(stand_in, name)
        return text

    def ids(self, text: str) -> list[int]:
        """Token ids of a text in which control tokens have secret names."""
        return self._copy.encode(text, add_special_tokens=False).ids

    @cached_property
    def _copy(self) -> Tokenizer:
        from tokenizers import Tokenizer

        if self._backend is None:
            raise ModelError("a text holds the name of a control token, which only fast tokenizers can read as text")
        parts, secret = json.loads(self._backend.to_str()), self.secret
        model = parts["model"]
        for token in parts["added_tokens"]:
            token["content"] = secret.get(token["content"], token["content"])
        if isinstance(model["vocab"], dict):
            model["vocab"] = {secret.get(piece, piece): number for piece, number in model["vocab"].items()}
        else:
            model["vocab"] = [[secret.get(piece, piece), score] for piece, score in model["vocab"]]
        if model.get("unk_token") in secret:
            model["unk_token"] = secret[model["unk_token"]]
        if merges := model.get("merges"):
            pairs = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in merges]
            model["merges"] = [list(pair) for pair in pairs if not secret.keys() & {*pair, "".join(pair)}]
        return Tokenizer.from_str(json.dumps(parts | {"padding": None, "truncation": None, "post_processor": None}))


@lru_cache(maxsize=16)
def _controls(tokenizer: PreTrainedTokenizerBase, _template: str) -> _Controls:
    return _Controls(tokenizer, end_of_turn(tokenizer))
