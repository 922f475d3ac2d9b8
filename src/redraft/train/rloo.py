"""Eq. 6 on-policy: REINFORCE leave-one-out (arXiv 2402.14740) by TRL's trainer, with −f̄ as its reward and β as its KL.

K answers of the policy itself to each context in every step; what one costs less than the K − 1 others, KL included, is
its advantage. It may reach what π_ref hardly ever writes, which no off-line solver can, and it may find what the cost
model prices wrongly: the run is followed on held-out contexts, and the epoch of the least f̄ + β·KL there is kept. The
start policy, or the base model, is π_ref. With a GPU and vLLM installed, vLLM draws. Left out: resuming; and contexts
longer than the prompt limit, which TRL does not cut.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from redraft.errors import ConfigError, DataError
from redraft.lm.load import compute_dtype
from redraft.train.runs import COMPLETE, DIVERGED, Manifest, new_manifest, write_card, write_manifest, write_sources
from redraft.train.start import as_begun, begin, trainable

if TYPE_CHECKING:
    from redraft.train.run import Run
    from redraft.types import Contexts, Price

__all__ = ["fit_rloo"]


def fit_rloo(run: Run) -> Manifest:
    """Train one adapter on answers of its own and leave it in ``run.folder``; the base model is unchanged afterwards.

    ``run.rollouts`` has the training contexts, ``run.track`` measures on those that are held out. Raises
    ``ConfigError`` without TRL, and ``DataError`` when no context is short enough.
    """
    if find_spec("trl") is None:
        raise ConfigError("solver rloo: needs the package trl: pip install 'redraft[rloo]', or use another solver")
    assert run.track is not None, "what chooses the epoch"
    assert run.rollouts is not None
    options = run.options
    contexts = _short(run, run.rollouts.contexts)
    shutil.rmtree(run.folder, ignore_errors=True)
    manifest = new_manifest(run.policy, run.base, run.data.counts, options)
    write_manifest(run.folder, manifest)
    started = time.perf_counter()
    model = begin(run.base, options, run.start)
    try:
        keeper = _Keeper(run, model)
        history = _train(run, model, contexts, run.rollouts.price, keeper)
        keeper.restore()
        model.save_pretrained(run.folder)
        run.base.tokenizer.save_pretrained(run.folder)
    finally:
        model.unload()
        vars(run.base.model).pop("forward", None)  # TRL put one of its own in
        run.base.model.eval()
    done = replace(
        manifest,
        status=COMPLETE if math.isfinite(keeper.least) else DIVERGED,
        metrics=keeper.best,
        history=history,
        seconds=round(time.perf_counter() - started, 2),
    )
    write_card(run.folder, done)
    write_sources(run.folder, sorted({t.source or t.id for t in (*run.data.train, *run.data.heldout)}))
    write_manifest(run.folder, done)
    return done


class _Keeper(TrainerCallback):
    """Measure before the first step and after each epoch, and keep the weights of the least f̄ + β·KL."""

    def __init__(self, run: Run, model: Any) -> None:
        self.run, self.model, self.begun = run, model, trainable(model)
        self.least, self.best, self.lines = math.inf, dict[str, float](), list[dict[str, float]]()
        self.weights = self.begun

    def measure(self, epoch: float, step: int) -> None:
        assert self.run.track is not None
        with torch.no_grad():
            found = dict(self.run.track(self.model, partial(as_begun, self.model, self.begun)))
        found["objective"] = found["own_cost"] + self.run.options.beta * found["own_kl"]
        line = {"epoch": epoch, "step": float(step)} | {f"eval_{k}": round(v, 6) for k, v in found.items()}
        self.lines.append(line)
        self.run.on_log(line)
        if step and found["objective"] < self.least:
            self.least, self.best, self.weights = found["objective"], {**found, "epoch": epoch}, trainable(self.model)

    def restore(self) -> None:
        parts = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, value in self.weights.items():
                parts[name].copy_(value)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.measure(float(round(state.epoch)), state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.run.progress("rloo", state.global_step, state.max_steps)


def _train(run: Run, model: Any, contexts: Contexts, price: Price, keeper: _Keeper) -> list[dict[str, float]]:
    from datasets import Dataset
    from trl import RLOOConfig, RLOOTrainer

    options, k = run.options, run.options.samples
    keeper.measure(0.0, 0)
    rows = [[{"role": m.role, "content": m.content} for m in messages] for messages in contexts]
    known = {_key(row): messages for row, messages in zip(rows, contexts, strict=True)}

    def reward(prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float | None]:
        texts = [str(completion[-1]["content"]) for completion in completions]
        training = model.training
        with torch.no_grad(), model.disable_adapter():
            costs = price([known[_key(prompt)] for prompt in prompts], texts)
        model.train(training)
        return [-float(cost) for cost in costs]

    gpu = torch.cuda.is_available()
    with TemporaryDirectory() as scratch:
        settings = RLOOConfig(
            output_dir=scratch,
            learning_rate=options.learning_rate,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=0,
            num_train_epochs=options.epochs,
            per_device_train_batch_size=k * -(-options.batch_size // k),  # whole groups of K
            gradient_accumulation_steps=options.accumulation,
            num_generations=k,
            max_completion_length=options.max_response - 1,
            temperature=1.0,
            beta=options.beta,
            bf16=gpu and compute_dtype() == torch.bfloat16,
            activation_checkpointing=False,
            dataloader_pin_memory=gpu,
            use_vllm=gpu and find_spec("vllm") is not None,
            save_strategy="no",
            logging_steps=1,
            seed=options.seed,
            report_to="none",
            disable_tqdm=True,
        )
        trainer = RLOOTrainer(
            model,
            reward,
            settings,
            Dataset.from_list([{"prompt": row} for row in rows]),
            processing_class=run.base.tokenizer,
            callbacks=[keeper],
        )
        _quiet(trainer)
        trainer.train()
        model.delete_adapter("ref")
    steps = [_numbers(line) for line in trainer.state.log_history if "reward" in line]
    return sorted([*steps, *keeper.lines], key=lambda line: line["step"])


def _short(run: Run, contexts: Contexts) -> Contexts:
    from redraft.lm.encode import encode_prompt

    limit = run.options.max_prompt
    found = [x for x in contexts if len(encode_prompt(run.base.tokenizer, x, limit + 1)) <= limit]
    if not found:
        raise DataError(f"no context has at most {limit} tokens: raise --max-prompt")
    return found


def _key(messages: Sequence[Mapping[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((m["role"], m["content"]) for m in messages)


def _quiet(trainer: Any) -> None:
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)


def _numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """What TRL logs of a step that is worth keeping: reward and KL are means over its answers."""
    kept = ("reward", "reward_std", "kl", "entropy", "loss", "grad_norm", "epoch", "step", "completions/mean_length")
    return {name: round(float(line[name]), 6) for name in kept if name in line and math.isfinite(float(line[name]))}
