"""One trainer for every signal of an edit: transformers' Trainer with our batches, our loss and our held-out scores.

The objective is w_p · L_DPO + w_l · NLL(y') (eq. 7), with weights (0, 1) for sft, (1, 0) for dpo and (1, λ) for early:
one flow, no subclass per method. For rl (eq. 6) the regression takes the place of L_DPO. Rows with y' = y teach the
likelihood and no preference. Accelerate, checkpoints and callbacks are the Trainer's own
(tried in one process so far). Guaranteed: gradient accumulation does not change the gradient (denominators are those of
the whole step), and a run resumed from a checkpoint equals an uninterrupted one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from redraft.lm.load import compute_dtype
from redraft.lm.logprobs import PackedLogprobs, frozen_head, packed_logprobs
from redraft.lm.lora import one_step
from redraft.lm.probe import reading_of
from redraft.train.losses import early_loss, preference_loss, regression_loss, sft_loss
from redraft.train.options import RL, TrainOptions, metric_of
from redraft.train.packing import LengthBuckets, Triple
from redraft.train.reference import Reference
from redraft.train.scoring import Scores, score, with_reference

__all__ = ["EditTrainer"]


class EditTrainer(Trainer):
    """Train a PEFT model on triples.

    Parameters
    ----------
    model
        A PEFT model; what has ``requires_grad`` is trained.
    options
        The method and its numbers.
    train, heldout
        Triples; ``heldout`` is scored after each epoch, and chooses the best one if that is what is kept;
        without any, the last is kept.
    reference
        log π_ref of ``heldout`` and, unless the method is sft, of ``train``.
    pad
        Padding token.
    folder
        Where checkpoints go.
    criterion
        The held-out score, or number that ``measure`` gives, that chooses the best epoch: lower is better.
    measure
        More numbers to log beside the held-out scores.
    """

    def __init__(
        self,
        model: Any,
        options: TrainOptions,
        train: Sequence[Triple],
        heldout: Sequence[Triple],
        reference: Reference,
        *,
        pad: int,
        folder: Path,
        criterion: str = "nll",
        measure: Callable[[Scores], Mapping[str, float]] = lambda _: {},
    ) -> None:
        self.options, self.heldout, self.reference, self.pad = options, list(heldout), reference, pad
        self._sums: dict[str, float] = defaultdict(float)
        self._measure, self._lengths = measure, [triple.length for triple in train]
        pairs = options.preference_weight > 0
        super().__init__(
            model=model,
            args=_arguments(
                options, folder, len(train), device=model.device.type, checked=bool(heldout), criterion=criterion
            ),
            data_collator=partial(with_reference, reference=reference, pad=pad, pairs=pairs),
            train_dataset=list(train),  # pyright: ignore[reportArgumentType]
            eval_dataset=list(heldout) or None,  # pyright: ignore[reportArgumentType]
        )
        self.loss_is_scaled_for_ga = True  # compute_loss divides by the whole step's counts
        # Inside a distributed wrapper the forward call must stay the wrapper's own.
        self.reading = reading_of(model)
        self.head = frozen_head(model, compute_dtype()) if self.accelerator.num_processes == 1 else None

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As every ``Trainer`` does, with the layers of ``redraft.lm.lora``."""
        with one_step(self.model):  # pyright: ignore[reportArgumentType]
            return super().train(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthBuckets:
        return LengthBuckets(self._lengths, self.options.batch_size, self.options.seed)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor]:
        """Fetch one step's batches and count its response tokens and pairs [2], over all processes."""
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        tokens = sum((b["labels"][:, : int(b["rejected_from"])] != -100).sum() for b in batches)
        pairs = sum((b["first_rejected"] != -100).sum() for b in batches)
        counts = torch.tensor([float(tokens), float(pairs)], device=device)
        return batches, self.accelerator.reduce(counts, "sum")  # pyright: ignore[reportReturnType]

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return this batch's share of the step's objective, so that the shares of one step add up to it."""
        scored = packed_logprobs(model, inputs, self.head, self.reading)
        assert isinstance(num_items_in_batch, torch.Tensor)
        tokens, pairs = num_items_in_batch
        nll = sft_loss(scored.chosen, tokens)
        self._count(nll_sum=-scored.chosen.sum(), tokens=scored.chosen_tokens.sum())
        if self.options.preference_weight == 0:
            loss = nll
        else:
            preference = self._preference(scored, inputs)
            share = preference.mean() * (len(preference) / pairs.clamp(min=1)) if len(preference) else nll * 0
            loss = early_loss(share, nll, self.options.likelihood_weight)
        # Distributed wrappers average gradients over processes; the counts above are sums over them.
        return loss * self.accelerator.num_processes

    def _preference(self, scored: PackedLogprobs, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        pair = inputs["first_rejected"] != -100
        ref = inputs["reference"][pair]
        chosen, rejected = scored.chosen[pair], scored.rejected[pair]
        if self.options.method == RL:
            gaps = inputs["gaps"][pair]
            loss = regression_loss(chosen, rejected, ref[:, 0], ref[:, 1], gaps, beta=self.options.beta)
        else:
            loss = preference_loss(chosen, rejected, ref[:, 0], ref[:, 1], self.options.beta)
        self._count(
            pairs=pair.sum(),
            preference_sum=loss.sum(),
            chosen_sum=(chosen - ref[:, 0]).sum(),
            rejected_sum=(rejected - ref[:, 1]).sum(),
        )
        return loss

    def _count(self, **sums: torch.Tensor) -> None:
        for name, value in sums.items():
            self._sums[name] += float(value.detach())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means since the last line: NLL per token, and how far log π moved from the reference, in nats."""
        s = self._sums
        if s["tokens"] and "loss" in logs:
            logs["nll"] = s["nll_sum"] / s["tokens"]
            if s["pairs"]:
                name = "regression_loss" if self.options.method == RL else "preference_loss"
                logs[name] = s["preference_sum"] / s["pairs"]
                logs["chosen_above_reference"] = s["chosen_sum"] / s["pairs"]
                logs["rejected_above_reference"] = s["rejected_sum"] / s["pairs"]
            s.clear()
        super().log(logs, start_time)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score the held-out triples (see ``Scores.metrics``) under the names ``eval_…``."""
        scores = score(
            self.model,
            self.heldout,
            self.reference,
            pad=self.pad,
            head=self.head,
            batch_size=self.options.batch_size,
        )
        metrics = scores.metrics(self.options.beta) | dict(self._measure(scores))
        if "regression_loss" in metrics:
            metrics["objective"] = metrics["regression_loss"] + self.options.likelihood_weight * metrics["nll"]
        named = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.log(named)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, named)
        return named


def _arguments(
    options: TrainOptions, folder: Path, rows: int, *, device: str, checked: bool, criterion: str
) -> TrainingArguments:
    epochs, steps = options.steps_of(rows)
    warmup = round(options.warmup * steps)
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=options.batch_size,
        gradient_accumulation_steps=options.accumulation,
        num_train_epochs=epochs,
        learning_rate=options.learning_rate,
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={
            "num_decay_steps": min(round(options.decay * steps), steps - warmup),
            "decay_type": "linear",
        },
        warmup_steps=warmup,
        weight_decay=0.0,
        max_grad_norm=1.0,
        bf16=compute_dtype() == torch.bfloat16,
        use_cpu=device == "cpu",  # else bfloat16 on a processor that has it is refused
        eval_strategy="epoch" if checked else "no",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=checked and options.keep == "best",
        metric_for_best_model=f"eval_{metric_of(criterion)}" if options.keep == "best" else None,
        greater_is_better=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        restore_callback_states_from_checkpoint=True,  # early stopping counts on where it was
        seed=options.seed,
        data_seed=options.seed,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=torch.cuda.is_available(),
    )
