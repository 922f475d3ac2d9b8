"""What a model can read: how many positions it has, and which token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redraft.errors import ConfigError, ModelError
from redraft.lm.encode import encode_prompt
from redraft.lm.template import end_of_turn
from redraft.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["LEAST_PROMPT", "context_of", "kept_within", "require_known_tokens"]

LEAST_PROMPT = 16
"""Prompt tokens without which no request can be told from another."""


def context_of(model: Any) -> int | None:
    """Most tokens of prompt and answer together; ``None`` for a model without positions to run out of.

    Those are recurrent, or weigh what they read by its distance (ALiBi). A sliding window is no limit.
    """
    if not hasattr(model, "config"):
        return None
    config = model.config.get_text_config()
    if getattr(config, "alibi", False) is True or config.model_type == "rwkv":
        return None
    named = (getattr(config, name, None) for name in ("max_position_embeddings", "max_seq_len"))  # MPT has the latter
    return min((size for size in named if type(size) is int and size > 0), default=None)


def kept_within(context: int | None, prompt: int, response: int) -> tuple[int, int]:
    """How many tokens of prompt and response are kept where so many are asked for: prompts give way first.

    A response keeps at most half of the context where prompts would be left less than ``LEAST_PROMPT``. Raises
    ``ConfigError`` for a context in which nothing can be said.

    >>> kept_within(1024, 512, 512), kept_within(1024, 512, 768), kept_within(128, 512, 512), kept_within(None, 9, 9)
    ((512, 512), (256, 768), (64, 64), (9, 9))
    """
    if context is None or prompt + response <= context:
        return prompt, response
    if context < 2 * LEAST_PROMPT:
        raise ConfigError(f"the base model reads {context} tokens, prompt and answer together: use another one")
    if context - response < LEAST_PROMPT:
        response = min(response, context // 2)
    return min(prompt, context - response), response


def require_known_tokens(model: Any, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raise ``ModelError`` where texts may hold tokens that the model has no embedding of.

    Special tokens that the template never writes do not count: no text holds them.
    """
    layers = filter(None, (model.get_input_embeddings(), model.get_output_embeddings()))
    rows = min(int(layer.weight.shape[0]) for layer in layers)
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    written = {end_of_turn(tokenizer), *encode_prompt(tokenizer, [Message("user", "?")], None)}
    written |= {n for n in special if tokenizer.added_tokens_decoder[n].content in str(tokenizer.chat_template)}
    known = set(tokenizer.get_vocab().values())
    if beyond := [number for number in known - special | written if number >= rows]:
        raise ModelError(
            f"base model {name!r}: its tokenizer has {len(beyond)} tokens beyond the {rows} that it knows"
            f" (up to {max(beyond)}): resize its embeddings to the tokenizer, or use the tokenizer it was trained with"
        )
