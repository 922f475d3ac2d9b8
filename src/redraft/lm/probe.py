"""Which way a model reads pairs rightly, found out on the model at hand.

A packed sequence [x | y' | y] is right only where tokens see each other through attention alone, by our mask and our
positions. Recurrent and convolutional layers carry y' into y, ALiBi counts columns, and a sliding window is lost when
our mask takes its place. So nothing is believed of an architecture: ``reading_of`` compares on the model at hand, with
a few tokens more than its window where that is short, and takes the first way whose numbers are those of the texts
alone. Left out: what differs only beyond a long window of a model whose configuration does not name it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any
from weakref import WeakKeyDictionary

import torch

from redraft.errors import ModelError
from redraft.lm.limits import context_of
from redraft.lm.logprobs import packed_logprobs
from redraft.lm.reading import LAYERED, TWO_PASSES, WINDOWED, Reading

__all__ = ["reading_of"]

LONGEST_PROBE = 1024  # tokens; a window beyond is taken from the configuration
_PROMPT, _CHOSEN, _REJECTED = 9, 7, 8
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}  # nats per response
_ROUGH = 0.02  # nats per token: what half precision rounds
_known: WeakKeyDictionary[Any, Reading] = WeakKeyDictionary()


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
    windows = _windows(model.config)
    prompt, *texts = _pair(model, min((size for size in windows if size <= LONGEST_PROBE), default=0))
    device = next(model.parameters()).device
    batch = {k: v.to(device) for k, v in _batch(prompt, *texts).items()}
    name = type(model).__name__
    try:
        alone = [_alone(model, prompt, text) for text in texts]
    except Exception as error:  # a model asks for more than texts in any way it likes
        raise ModelError(f"base model {name}: cannot read a text by itself ({error}): use another one") from error
    for reading in _ways(model.config, windows):
        try:
            read = packed_logprobs(model, batch, None, reading)
        except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError):  # it refuses such masks
            continue
        off = [abs(float(found) - own) for found, own in zip((read.chosen, read.rejected), alone, strict=True)]
        most = [_TOLERANCE.get(model.dtype, _ROUGH * len(text)) for text in texts]
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


def _pair(model: Any, window: int) -> tuple[list[int], list[int], list[int]]:
    """A prompt with two texts, longer than the window and no longer than the model reads."""
    config = model.config
    most = context_of(model) or 2**31
    prompt = max(3, min(_PROMPT + window, most - max(_CHOSEN, _REJECTED)))
    size, generator = prompt + _CHOSEN + _REJECTED, torch.Generator().manual_seed(0)
    drawn: list[int] = torch.randint(0, config.get_text_config().vocab_size, (size,), generator=generator).tolist()
    return drawn[:prompt], drawn[prompt:][:_CHOSEN], drawn[prompt + _CHOSEN :]


def _batch(prompt: list[int], chosen: list[int], rejected: list[int]) -> dict[str, torch.Tensor]:
    """One pair as ``redraft.train.packing.collate`` lays it out."""
    x, up, down = len(prompt), len(chosen) - 1, len(rejected) - 1
    return {
        "input_ids": torch.tensor([prompt + chosen[:-1] + rejected[:-1]]),
        "position_ids": torch.tensor([[*range(x + up), *range(x, x + down)]]),
        "segment": torch.tensor([[1] * x + [2] * up + [3] * down]),
        "logits_to_keep": torch.arange(x - 1, x + up + down),
        "labels": torch.tensor([chosen + rejected[1:]]),
        "first_rejected": torch.tensor([rejected[0]]),
        "rejected_from": torch.tensor(len(chosen)),
    }


def _alone(model: Any, prompt: list[int], text: list[int]) -> float:
    """Give log π(text | prompt) in nats, of one sequence without padding or mask."""
    ids = torch.tensor([prompt + text], device=next(model.parameters()).device)
    logp = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
    return float(logp.gather(1, ids[0, len(prompt) :, None]).sum())
