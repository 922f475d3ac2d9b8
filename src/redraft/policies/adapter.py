"""Trained policies in process: one base model in memory, and over it adapters that share batches where they can.

Adapters stay apart from the weights. Merged in, SmolLM2 answered batches of 16 only 1.1 times as fast, most of which
the merge itself costs again: not worth a second copy of the weights. ``merged_model`` is for exports. A host takes its
base model over until it is closed: PEFT puts its layers into it, and with every adapter off it computes what it did
before, bit for bit.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redraft.errors import ConflictError, DataError, ModelError, NotFoundError
from redraft.lm.encode import encode_prompt
from redraft.lm.trim import trim
from redraft.policies.base import BASE
from redraft.train.start import fitting
from redraft.types import Contexts, Decoding, Message

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from redraft.lm.generate import Watch
    from redraft.lm.load import Base

__all__ = ["AdapterHost", "AdapterPolicy", "merged_model"]


@dataclass(frozen=True)
class _Adapter:
    """``key`` is PEFT's name for it: module names may not hold the dots that ours may."""

    key: str
    folder: Path
    max_prompt: int


class AdapterHost:
    """A base model and the adapters loaded over it.

    ``max_prompt`` is how many prompt tokens the base policy is given; each adapter is given as many as its manifest
    says it was trained on. With ``None`` no prompt is cut, and one that is too long is refused. ``on_batch`` gets the
    number of contexts that each batch has answered. Threads take turns.
    """

    def __init__(
        self,
        base: Base,
        *,
        batch_size: int = 64,
        max_prompt: int | None = 512,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        self._base = base
        self._model: Any = base.model
        self._adapters: dict[str, _Adapter] = {}
        self._batch_size = batch_size
        self._max_prompt = max_prompt
        self._on_batch = on_batch
        self._turn = threading.Lock()

    def load(self, name: str, folder: Path) -> AdapterPolicy:
        """Load the adapter in ``folder`` as ``name``, once.

        Raises ``ModelError`` when it cannot be loaded or belongs to another base model, ``ConflictError`` when the
        name stands for another folder already, and ``DataError`` without a manifest.
        """
        folder = folder.resolve()
        if name == BASE or (name in self._adapters and self._adapters[name].folder != folder):
            raise ConflictError(f"policy {name!r} is already loaded: names are immutable, load {folder} under another")
        if name not in self._adapters:
            key, limits = f"adapter{len(self._adapters)}", fitting(self._base, folder).limits
            with self._turn:
                self._model = _attach(self._model, folder, key)
            self._adapters[name] = _Adapter(key, folder, limits.get("prompt", 512))
        return self.policy(name)

    def policy(self, name: str = BASE) -> AdapterPolicy:
        """A policy loaded before, or ``base``; raises ``NotFoundError`` naming what is loaded."""
        self._adapter(name)
        return AdapterPolicy(name, self)

    def respond(
        self,
        name: str,
        contexts: Contexts,
        decoding: Decoding,
        seeds: Sequence[int] | None = None,
    ) -> list[str]:
        """What the policy ``name`` answers, trimmed; as ``respond_many``. ``seeds``, one a context, go before its."""
        return self.respond_many([(name, contexts)], decoding, seeds)[0]

    def respond_many(
        self,
        asked: Sequence[tuple[str, Contexts]],
        decoding: Decoding,
        seeds: Sequence[int] | None = None,
    ) -> list[list[str]]:
        """What each policy answers to its contexts, in batches that they share; each answer is as alone.

        ``seeds``, one for each context of all, go before the decoding's. Raises ``NotFoundError`` as ``policy`` does,
        and ``DataError`` where no prompt is to be cut and one leaves no room for its answer in the model's context.
        """
        from redraft.lm.generate import generate

        names = [name for name, contexts in asked for _ in contexts]
        every = [messages for _, contexts in asked for messages in contexts]
        whole = self._max_prompt is None
        prompts = [self.encode(name, messages, whole=whole) for name, messages in zip(names, every, strict=True)]
        if whole:
            self._require_room(prompts, decoding.max_new_tokens)
        with self._turn:
            texts = generate(
                self._model, self.tokenizer, prompts, decoding,
                batch_size=self._batch_size, on_batch=self._on_batch, seeds=seeds, keys=self._keys(names),
            )  # fmt: skip
        trimmed = iter([trim(text) for text in texts])
        return [[next(trimmed) for _ in contexts] for _, contexts in asked]

    @contextmanager
    def as_base(self) -> Generator[Base]:
        """Within it the base model computes without adapters, for this thread only."""
        from redraft.lm.rows import adapted

        with self._turn, adapted(self._model, None):
            yield self._base

    def close(self) -> None:
        """Take all adapters out of the base model, which is free again; the host and its policies answer no more."""
        with self._turn:
            if self._adapters:
                self._model.unload()
                self._adapters.clear()

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Of the base model, and so of every policy."""
        return self._base.tokenizer

    @property
    def stop(self) -> frozenset[int]:
        """Tokens that end a response."""
        from redraft.lm.generate import stop_tokens

        return stop_tokens(self._model, self.tokenizer)

    def spoken(self, ids: Sequence[int]) -> str:
        """Text of a response, or of its beginning."""
        from redraft.lm.generate import spoken

        return spoken(self.tokenizer, ids, self.stop)

    @property
    def context(self) -> int | None:
        """Most tokens of prompt and answer together; ``None`` for a model that names no limit."""
        from redraft.lm.limits import context_of

        return context_of(self._base.model)

    def encode(self, name: str, messages: Sequence[Message], *, whole: bool = False) -> list[int]:
        """Token ids of a prompt, cut to what the policy ``name`` is given unless ``whole``; raises as ``policy``."""
        adapter = self._adapter(name)
        limit = self._max_prompt if adapter is None else adapter.max_prompt
        return encode_prompt(self.tokenizer, messages, None if whole else limit)

    def _require_room(self, prompts: Sequence[list[int]], answer: int) -> None:
        for number, prompt in enumerate(prompts, 1):
            if self.context is not None and len(prompt) + answer > self.context:
                raise DataError(
                    f"prompt {number} of {len(prompts)} has {len(prompt)} tokens, and its answer up to {answer}: this"
                    f" model's context is {self.context}, so shorten the prompt or lower --max-new-tokens"
                )

    def watch(
        self,
        names: Sequence[str],
        prompts: Sequence[list[int]],
        decoding: Decoding,
        seeds: Sequence[int],
        watch: Watch,
    ) -> None:
        """Answer encoded prompts by the policies named, token by token; ``watch`` sees them and may end responses."""
        from redraft.lm.generate import generate_ids

        size = len(prompts)
        with self._turn:
            generate_ids(
                self._model, prompts, decoding, self.stop,
                batch_size=size, seeds=seeds, watch=watch, keys=self._keys(names),
            )  # fmt: skip

    def _adapter(self, name: str) -> _Adapter | None:
        if name != BASE and name not in self._adapters:
            raise NotFoundError(f"policy {name!r} is not loaded; loaded are {', '.join([BASE, *self._adapters])}")
        return self._adapters.get(name)

    def _keys(self, names: Sequence[str]) -> list[str | None]:
        return [adapter and adapter.key for adapter in map(self._adapter, names)]


@dataclass(frozen=True)
class AdapterPolicy:
    """One name of a host; see ``redraft.policies.base.Policy``."""

    name: str
    host: AdapterHost

    def respond(self, contexts: Contexts, decoding: Decoding) -> list[str]:
        """One response per context, trimmed."""
        return self.host.respond(self.name, contexts, decoding)

    def samples(self, contexts: Contexts, decoding: Decoding, seeds: Sequence[int]) -> list[list[str]]:
        """For each seed one response per context; a context is read once for all of them."""
        asked = [context for context in contexts for _ in seeds]
        texts = self.host.respond(self.name, asked, decoding, [*seeds] * len(contexts))
        return [texts[number :: len(seeds)] for number in range(len(seeds))]


def merged_model(base: Base, folder: Path) -> PreTrainedModel:
    """The base model with the adapter in ``folder`` added into its weights, which ``base`` then no longer has.

    Its generation settings stop where ours stop, for every program that loads it.

    Raises ``ModelError`` and ``DataError`` as ``AdapterHost.load`` does.
    """
    fitting(base, folder)
    from redraft.lm.generate import stop_tokens

    merged = _attach(base.model, folder, "merged").merge_and_unload()
    merged.generation_config.eos_token_id = sorted(stop_tokens(merged, base.tokenizer))
    return merged


def _attach(model: Any, folder: Path, key: str) -> Any:
    """Load an adapter into a model, or into the PEFT model it has become; a failure leaves it as it was."""
    from peft import PeftConfig, PeftModel, PeftModelForCausalLM
    from safetensors import SafetensorError

    if not (folder / "adapter_config.json").is_file():
        raise ModelError(f"policy {folder} has no adapter_config.json: train or export it again")
    adapted = model
    with warnings.catch_warnings():
        # PEFT asks transformers under a name that is on its way out; nothing a user could do about it.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        try:
            if not isinstance(model, PeftModel):
                config = PeftConfig.from_pretrained(str(folder))
                config.inference_mode = True
                adapted = PeftModelForCausalLM(model, config, key)
            missing = adapted.load_adapter(str(folder), key).missing_keys
            if missing:  # PEFT itself lets half an adapter answer
                raise ValueError(f"{len(missing)} of its weights are missing")  # noqa: TRY301
        except (OSError, ValueError, TypeError, RuntimeError, KeyError, SafetensorError) as error:
            if adapted is not model:
                adapted.unload()
            elif key in getattr(model, "peft_config", ()):
                model.delete_adapter(key)
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"policy {folder} cannot be loaded ({reason}): train or export it again") from error
    return adapted.eval()
