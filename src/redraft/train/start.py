"""π_ref: the base model, or the policy that a run continues from, which should then have written its log."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from redraft.errors import ConfigError, ModelError
from redraft.lm.load import Base
from redraft.train.options import TrainOptions
from redraft.train.runs import Manifest, read_manifest

__all__ = ["as_begun", "begin", "fitting", "reference_model", "trainable"]


def begin(base: Base, options: TrainOptions, start: Path | None) -> Any:
    """A PEFT model to train over ``base``: a new adapter, which changes nothing yet, or the one in a policy's folder.

    Raises ``ConfigError`` when the policy's adapter has another rank, ``ModelError`` for a model that PEFT cannot give
    adapters, ``ModelError`` and ``DataError`` as ``fitting``.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    if start is not None:
        before = fitting(base, start).options
        for name in ("rank", "lora_alpha"):
            if before[name] != getattr(options, name):
                raise ConfigError(f"{name} = {getattr(options, name)}: {start} has {before[name]}, use the same")
        return PeftModel.from_pretrained(base.model, str(start), is_trainable=True)
    lora = LoraConfig(r=options.rank, lora_alpha=options.lora_alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        try:
            return get_peft_model(base.model, lora)  # pyright: ignore[reportArgumentType]
        except (ValueError, TypeError, NotImplementedError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ModelError(f"base model {base.name!r} cannot be trained ({reason}): use another model") from error


def trainable(model: Any) -> dict[str, torch.Tensor]:
    """A copy of what training will change, by name."""
    return {name: part.detach().clone() for name, part in model.named_parameters() if part.requires_grad}


@contextmanager
def as_begun(model: Any, begun: Mapping[str, torch.Tensor]) -> Generator[None]:
    """Within it, a model in training is π_ref again, from what ``trainable`` gave when it began."""
    now = trainable(model)
    parts = dict(model.named_parameters())
    try:
        with torch.no_grad():
            for name, value in begun.items():
                parts[name].copy_(value)
        yield
    finally:
        with torch.no_grad():
            for name, value in now.items():
                parts[name].copy_(value)


@contextmanager
def reference_model(base: Base, start: Path | None) -> Generator[Base]:
    """π_ref as a base model: ``base`` itself, or within the context ``base`` with a policy's adapter in it.

    Its identity then names the adapter's weights too. ``base`` is as it was afterwards.
    """
    if start is None:
        yield base
        return
    from peft import PeftModel

    fitting(base, start)
    digest = hashlib.sha256((start / "adapter_model.safetensors").read_bytes()).hexdigest()[:12]
    revision = base.revision if base.revision == "unknown" else f"{base.revision}+{digest}"
    model: Any = PeftModel.from_pretrained(base.model, str(start))
    try:
        yield replace(base, model=model.eval(), revision=revision)
    finally:
        model.unload()


def fitting(base: Base, folder: Path) -> Manifest:
    """The manifest of an adapter; raises ``ModelError`` when it was trained on another base model."""
    manifest = read_manifest(folder)
    name, wanted = manifest.base.get("name"), f"{manifest.base.get('name')}:{manifest.base.get('revision')}"
    if wanted not in base.identities:
        since = (
            " (its weights, settings, tokenizer or template have changed), or train again" if name == base.name else ""
        )
        raise ModelError(
            f"policy {folder} was trained on {wanted}, not on {base.identity}: set [model] name to its base{since}"
        )
    return manifest
