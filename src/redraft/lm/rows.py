"""The rows of a batch while they are answered: what they have read, and the next token's logits [B, V].

``LeanRows`` reads with a copy of the weights, where ``lean_of`` has one that computes what the model does, which is
found out on the model at hand; ``PlainRows`` is the model's own step, for everything else.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import groupby, takewhile
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.nn import functional as F  # noqa: N812

from redraft.errors import ModelError
from redraft.lm.lean import Groups, Lean, LowRank, current_adapter, low_rank, state_of, suits
from redraft.lm.load import compute_dtype
from redraft.lm.packed import fits, works

__all__ = ["Adapters", "Key", "LeanRows", "PlainRows", "adapted", "fastest", "lean_of"]

Key = str | None
"""PEFT's name of an adapter; ``None`` is the base model."""
Adapters = Mapping[Key, LowRank]

_CHUNK = 1024  # prompt tokens read at once: what they become stays in the processor's cache
_ROOM = 128  # columns that keys and values grow by
_TOLERANCE = 1e-3  # nats, of any token in float32
_ROUGH = 0.02  # nats, KL divergence per token: what half precision rounds
_known: WeakKeyDictionary[Any, dict[torch.dtype, _Copy]] = WeakKeyDictionary()


class _Copy:
    """A model's weights anew, with the adapters that were tried: ``None`` where they compute otherwise."""

    def __init__(self, state: tuple[Any, ...], lean: Lean) -> None:
        self.state, self.lean = state, lean
        self.tried: dict[Key, tuple[tuple[Any, ...], LowRank | None]] = {}


def lean_of(model: Any, dtype: torch.dtype, keys: Sequence[Key] | None) -> tuple[Lean, Adapters] | None:
    """A copy of a model with these adapters, or as it is set now, made once and anew when their weights have changed.

    ``None`` where the model is of another kind, memory is short, or the copy does not compute what the model does.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not suits(base) or (base.device.type == "cpu" and not works(dtype)):
        return None
    if base.device.type != "cpu" and dtype == torch.float32:  # the default: as the model is there
        dtype = base.dtype
    copies, state = _known.setdefault(base, {}), state_of(base)
    if dtype not in copies or copies[dtype].state != state:
        copies.pop(dtype, None)  # first: two would not fit as easily
        if dtype == base.dtype and not fits(base.parameters()):
            return None
        copies[dtype] = _Copy(state, Lean(base, dtype))
    copy = copies[dtype]
    try:
        asked = {current_adapter(base)} if keys is None else {*keys}
    except ValueError:
        return None
    for key in asked:
        own = () if key is None else state_of(base, key)
        if key not in copy.tried or copy.tried[key][0] != own:
            copy.tried[key] = own, _proved(model, copy.lean, key)
    found = {key: part for key in asked if (part := copy.tried[key][1]) is not None}
    return (copy.lean, found) if len(found) == len(asked) else None


def fastest(model: Any) -> str:
    """The precision in which a model writes fastest here: bfloat16 where the hardware has it and a lean copy can."""
    dtype = compute_dtype()
    found = dtype if dtype == model.dtype or lean_of(model, dtype, None) is not None else torch.float32
    return str(found).removeprefix("torch.")


@contextmanager
def adapted(model: Any, key: Key) -> Generator[None]:
    """Within it a model of PEFT computes with one adapter, or with none; any other is the base model."""
    if key is not None:
        model.set_adapter(key, inference_mode=True)
        yield
    elif hasattr(model, "disable_adapter"):
        with model.disable_adapter():
            yield
    else:
        yield


class LeanRows:
    """Rows over a lean copy; those of one adapter stand together.

    Equal prompts of one adapter are read once, and so is what all prompts begin with. Columns of the cache are this
    beginning, a gap, the rest of each prompt, flush right, and what is written.
    """

    def __init__(
        self, lean: Lean, adapters: Adapters, prompts: Sequence[Sequence[int]], keys: Sequence[Key], room: int
    ) -> None:
        self._lean, self._adapters, self._keys = lean, adapters, [*keys]
        self._room, self._end = min(room, _ROOM), max(map(len, prompts))
        self._lengths = torch.tensor([len(ids) for ids in prompts], device=lean.device)
        self._cache = lean.room(len(prompts), self._end + self._room)
        asked = [*zip(keys, map(tuple, prompts), strict=True)]
        places = {each: place for place, each in enumerate(dict.fromkeys(asked))}
        copies = [places[each] for each in asked]
        hidden, begun = self._first([ids for _, ids in places], [key for key, _ in places])
        self._move(reversed([*enumerate(copies)]))  # from behind: each stands at or behind what it copies
        columns = torch.arange(self._end, device=lean.device)
        read = (columns < begun) | (columns >= self._end - self._lengths[:, None] + begun)
        self._mask = F.pad(_added(read, lean.dtype), (0, self._room))[:, None, None]
        self.logits = lean.logits(hidden[copies], self._groups(self._keys))

    def step(self, tokens: torch.Tensor) -> None:
        """Read the next token of each row [B]."""
        if self._end == self._cache.shape[4]:
            self._cache, self._mask = F.pad(self._cache, (0, 0, 0, self._room)), F.pad(self._mask, (0, self._room))
        self._end += 1
        groups = self._groups(self._keys)
        cache = self._cache[:, :, : len(tokens), :, : self._end]
        positions, self._lengths = self._lengths[:, None], self._lengths + 1
        hidden = self._lean.hidden(tokens[:, None], positions, self._mask[..., : self._end], cache, groups)
        self.logits = self._lean.logits(hidden, groups)

    def keep(self, rows: Sequence[int]) -> None:
        """Leave these rows, in their order."""
        self._move(enumerate(rows))
        self._mask, self._lengths = self._mask[[*rows]], self._lengths[[*rows]]
        self._keys = [self._keys[row] for row in rows]

    def _first(self, texts: Sequence[tuple[int, ...]], keys: Sequence[Key]) -> tuple[torch.Tensor, int]:
        """Read prompts, those of one adapter together; their last states, and how many tokens all begin with."""
        runs = [*_runs(keys)]
        alike = takewhile(lambda pair: pair[0] == pair[1], zip(min(texts), max(texts), strict=False))
        begun = min(len([*alike]), min(map(len, texts)) - 1) if len(texts) > len(runs) else 0
        for key, start, end in runs if begun else ():
            self._pass([texts[start][:begun]], [key], start, 0, begun)
            self._cache[:, :, start + 1 : end, :, :begun] = self._cache[:, :, start : start + 1, :, :begun]
        size = max(1, _CHUNK // (self._end - begun))
        states = [
            self._pass(texts[start : start + size], keys[start : start + size], start, begun, self._end)
            for start in range(0, len(texts), size)
        ]
        return torch.cat(states), begun

    def _pass(
        self, texts: Sequence[tuple[int, ...]], keys: Sequence[Key], start: int, begun: int, end: int
    ) -> torch.Tensor:
        """Read texts beyond their first ``begun`` tokens into the rows from ``start``, flush with column ``end``."""
        device, width = self._lean.device, max(map(len, texts)) - begun
        lengths, columns = torch.tensor([[len(ids)] for ids in texts], device=device), torch.arange(end, device=device)
        positions = columns - end + lengths
        seen = (columns < begun) | (positions >= begun)
        mask = _added(seen[:, None] & (columns <= columns[-width:, None]), self._lean.dtype)[:, None]
        ids = torch.tensor([[0] * (width + begun - len(each)) + [*each[begun:]] for each in texts], device=device)
        cache = self._cache[:, :, start : start + len(texts), :, :end]
        return self._lean.hidden(ids, positions[:, -width:].clamp(min=0), mask, cache, self._groups(keys))

    def _groups(self, keys: Sequence[Key]) -> Groups:
        return [(self._adapters[key], start, end) for key, start, end in _runs(keys) if key is not None]

    def _move(self, rows: Iterator[tuple[int, int]]) -> None:
        """Let rows become what others are."""
        for new, old in rows:
            if new != old:
                self._cache[:, :, new, :, : self._end] = self._cache[:, :, old, :, : self._end]


class PlainRows:
    """Rows over the model's own step and cache, padded on the left."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]]) -> None:
        width, device = max(map(len, prompts)), model.device
        places = {ids: place for place, ids in enumerate(dict.fromkeys(map(tuple, prompts)))}
        ids = torch.tensor([[0] * (width - len(each)) + list(each) for each in places], device=device)
        self._mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in places], device=device)
        self._positions = (self._mask.cumsum(1) - 1).clamp(min=0)
        self._model, self._cache = model, None
        self._read(ids)
        if len(places) < len(prompts):
            self.keep([places[tuple(each)] for each in prompts])

    def step(self, tokens: torch.Tensor) -> None:
        """Read the next token of each row [B]."""
        self._positions = self._positions[:, -1:] + 1
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        self._read(tokens[:, None])

    def keep(self, rows: Sequence[int]) -> None:
        """Leave these rows, any of them several times.

        A cache with states of its own selects for itself; of others only ``reorder_cache`` knows recurrent layers.
        """
        from transformers import Cache

        kept, cache = torch.tensor(rows, device=self._mask.device), self._cache
        own = type(cache).batch_select_indices is not Cache.batch_select_indices
        (cache.batch_select_indices if own else cache.reorder_cache)(kept)
        self.logits, self._mask, self._positions = self.logits[kept], self._mask[kept], self._positions[kept]

    def _read(self, ids: torch.Tensor) -> None:
        output = self._model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache: Any = getattr(output, "past_key_values", None)
        if self._cache is None:
            kind = self._model.config.model_type
            raise ModelError(f"models of type {kind} keep no cache of keys and values: let an upstream serve it")
        self.logits: torch.Tensor = output.logits[:, -1]


def _added(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What is added to scores: no infinity, since a row of padding sees nothing."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)


def _runs(keys: Sequence[Key]) -> Iterator[tuple[Key, int, int]]:
    end = 0
    for key, run in groupby(keys):
        start, end = end, end + len(list(run))
        yield key, start, end


@torch.no_grad()
def _proved(model: Any, lean: Lean, key: Key) -> LowRank | None:
    """The adapter's part, if two texts with one beginning then read as the model itself reads each alone."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    generator = torch.Generator().manual_seed(0)
    drawn: list[int] = torch.randint(0, base.config.vocab_size, (16,), generator=generator).tolist()
    texts = [drawn[:12], drawn[:3] + drawn[12:]]
    try:
        current = current_adapter(base) == key
        part = () if key is None else low_rank(base, key)
    except ValueError:
        return None
    rows = LeanRows(lean, {key: part}, [ids[:-1] for ids in texts], [key, key], 1)
    first = rows.logits
    rows.step(torch.tensor([ids[-1] for ids in texts], device=lean.device))
    found = torch.stack([first, rows.logits], 1).log_softmax(-1)
    with nullcontext() if current else adapted(model, key):
        tensors = [torch.tensor([ids], device=lean.device) for ids in texts]
        alone = [model(input_ids=ids, use_cache=False, logits_to_keep=2).logits for ids in tensors]
    told = torch.cat(alone).float().log_softmax(-1)
    if lean.dtype == torch.float32:
        same = (found - told).abs().max() <= _TOLERANCE and bool((found.argmax(-1) == told.argmax(-1)).all())
    else:
        same = (told.exp() * (told - found)).sum(-1).max() <= _ROUGH
    return part if same else None
