"""How a model can read two responses to one prompt: in one packed sequence, or each in a sequence of its own.

A packed sequence [x | y' | y] is right only where tokens see each other through attention alone, by our mask and our
positions. Recurrent and convolutional layers carry y' into y, ALiBi counts columns, and a sliding window is lost when
our mask takes its place. So nothing is believed of an architecture: ``reading_of`` compares on the model at hand, with
a few tokens more than its window where that is short, and takes the first way whose numbers are those of the texts
alone. Left out: what differs only beyond a long window of a model whose configuration does not name it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any
from weakref import WeakKeyDictionary

import torch

from redraft.errors import ModelError

__all__ = ["PACKED", "PLAIN", "TWO_PASSES", "WINDOWED", "Reading", "reading_of", "visible"]

PACKED, WINDOWED, LAYERED, TWO_PASSES = "packed", "packed, windowed", "packed, windowed by layer", "two passes"
LONGEST_PROBE = 1024  # tokens; a window beyond is taken from the configuration
_PROMPT, _CHOSEN, _REJECTED = 9, 7, 8
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}  # nats per response
_ROUGH = 0.02  # nats per token: what half precision rounds
_known: WeakKeyDictionary[Any, Reading] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Reading:
    """``way`` is one of the four above; ``window`` the tokens that a windowed layer sees, itself included.

    ``additive``: masks are numbers to add instead of truth values.
    """

    way: str = PACKED
    window: int = 0
    chunk: int = 0
    additive: bool = False

    def mask(self, visible: torch.Tensor, positions: torch.Tensor, dtype: torch.dtype) -> Any:
        """What the model takes as its mask, from ``visible`` [B, 1, L, L] and the positions [B, L]."""
        if self.way == PACKED:
            return self._formed(visible, dtype)
        back = positions[:, None, :, None] - positions[:, None, None, :]
        near = self._formed(visible & (back < self.window), dtype)
        if self.way == WINDOWED:
            return near
        places = positions // max(self.chunk, 1)
        same = visible & (places[:, None, :, None] == places[:, None, None, :])
        whole, chunked = self._formed(visible, dtype), self._formed(same, dtype)
        return {"full_attention": whole, "sliding_attention": near, "chunked_attention": chunked}

    def _formed(self, visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        if not self.additive:
            return visible
        return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(
            ~visible, torch.finfo(dtype).min
        )


PLAIN = Reading()


def visible(segment: torch.Tensor) -> torch.Tensor:
    """[B, 1, L, L]: column j is visible to i when it is not later and holds x or a part of i's own response."""
    query, key = segment[:, :, None], segment[:, None, :]
    causal = torch.ones(segment.shape[1], segment.shape[1], dtype=torch.bool, device=segment.device).tril()
    seen = causal & (key > 0) & ((key == 1) | (key == query))
    # A padding row that sees nothing would be 0/0 in the softmax; its output is used nowhere.
    return (seen | torch.eye(segment.shape[1], dtype=torch.bool, device=segment.device))[:, None]


def reading_of(model: Any) -> Reading:
    """The first way to read pairs that gives what the texts alone give; known of a model once it was tried.

    Raises ``ModelError`` where none does.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if base not in _known:
        training = base.training
        base.eval()
        try:
            _known[base] = _tried(base)
        finally:
            base.train(training)
    return _known[base]


@torch.no_grad()
def _tried(model: Any) -> Reading:
    """Compare each way with the texts alone, on a pair of random texts."""
    from redraft.lm.logprobs import packed_logprobs
    from redraft.train.packing import collate

    windows = _windows(model.config)
    triple = _pair(model, min((size for size in windows if size <= LONGEST_PROBE), default=0))
    device = next(model.parameters()).device
    batch = {k: v.to(device) for k, v in collate([triple], 0, pairs=True).items()}
    name = type(model).__name__
    try:
        alone = [_alone(model, triple.prompt, text or []) for text in (triple.chosen, triple.rejected)]
    except Exception as error:  # a model asks for more than texts in any way it likes
        raise ModelError(f"base model {name}: cannot read a text by itself ({error}): use another one") from error
    sizes = [len(triple.chosen), len(triple.rejected or ())]
    for reading in _ways(model.config, windows):
        try:
            read = packed_logprobs(model, batch, None, reading)
        except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError):  # it refuses such masks
            continue
        off = [abs(float(found) - own) for found, own in zip((read.chosen, read.rejected), alone, strict=True)]
        most = [_TOLERANCE.get(model.dtype, _ROUGH * size) for size in sizes]
        if all(one <= bound for one, bound in zip(off, most, strict=True)):
            return reading
    raise ModelError(f"base model {name}: reads texts in a batch otherwise than alone, nothing can be trained on it")


def _ways(config: Any, windows: set[int]) -> Iterator[Reading]:
    """From cheap to dear; with a window first those that have it, since a short probe cannot tell them apart."""
    window, chunk = getattr(config, "sliding_window", None) or 0, getattr(config, "attention_chunk_size", None) or 0
    named = {size for size in (window, chunk) if size}
    for form, additive in product([LAYERED, WINDOWED] if named else [], (False, True)):
        yield Reading(form, window or 2**31, chunk or 2**31, additive)
    if all(size <= LONGEST_PROBE for size in windows):  # else what we do not know of would show beyond the probe only
        yield from (Reading(), Reading(additive=True))
    yield Reading(TWO_PASSES)


def _windows(config: Any) -> set[int]:
    """All that may be the size of a window, under whatever name."""
    named = {name: value for name, value in vars(config).items() if "window" in name or "chunk_size" in name}
    return {int(v) for name, v in named.items() if type(v) is int and v > 0 and "layers" not in name}


def _pair(model: Any, window: int) -> Any:
    """A prompt with two texts, longer than the window and no longer than the model reads."""
    from redraft.train.packing import Triple

    config = model.config
    most = min(int(getattr(config, name, None) or 2**31) for name in ("max_position_embeddings", "n_positions"))
    prompt = max(3, min(_PROMPT + window, most - max(_CHOSEN, _REJECTED)))
    size, generator = prompt + _CHOSEN + _REJECTED, torch.Generator().manual_seed(0)
    drawn: list[int] = torch.randint(0, config.get_text_config().vocab_size, (size,), generator=generator).tolist()
    return Triple("probe", drawn[:prompt], drawn[prompt:][:_CHOSEN], drawn[prompt + _CHOSEN :])


def _alone(model: Any, prompt: list[int], text: list[int]) -> float:
    """Give log π(text | prompt) in nats, of one sequence without padding or mask."""
    ids = torch.tensor([prompt + text], device=next(model.parameters()).device)
    logp = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
    return float(logp.gather(1, ids[0, len(prompt) :, None]).sum())
