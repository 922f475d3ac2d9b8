"""Options of a training run: one dataclass, a sentence of help for each field, derived values as properties."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from redraft.errors import ConfigError

__all__ = ["CHOICE", "EDIT_COST", "METHODS", "PAPER", "RL", "SHARED", "SOLVERS", "TrainOptions", "metric_of"]

METHODS = ("sft", "dpo", "early")  # what edits alone teach
RL = "rl"  # needs a cost model too
KEPT = ("best", "last")
EDIT_COST, PAPER, CHOICE = "edit_cost", "paper", "choice"
CRITERIA = (EDIT_COST, "nll", "preference_loss", PAPER)
SHARED = frozenset({"method", "start", "holdout", "criterion", "seed", "max_prompt", "max_response"})
"""What all trials of a sweep, and all runs that take options over from another, have in common."""
SOLVERS = ("contrast", "regression")  # of eq. 6
_PASSES, _STEPS = 3, 20  # a handful of edits is a step a pass, and three steps change little


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Options of one run. Defaults suit some dozens to some thousands of edits and a small model."""

    method: str = _option("early", "sft (eq. 3), dpo (eq. 4), early (eq. 7) or rl (eq. 6).")
    learning_rate: float = _option(5e-4, "Peak rate, reached after the warm-up and held until the decay.")
    epochs: int = _option(
        0, f"Passes over the training edits, at most; 0: {_PASSES}, or as many as make {_STEPS} optimiser steps."
    )
    batch_size: int = _option(8, "Edits in one forward pass.")
    accumulation: int = _option(1, "Forward passes to one optimiser step.")
    beta: float = _option(0.1, "τ of eq. 4, usually called beta; for rl, β of eq. 6: the cost of a nat of KL.")
    nll_weight: float = _option(1.0, "λ of eq. 7 (early, rl): weight of the likelihood of y' beside the loss on pairs.")
    solver: str = _option("regression", "For rl: regression (on logged pairs) or contrast (of samples of π_ref).")
    samples: int = _option(8, "For contrast: responses to draw and price for each context.")
    pessimism: float = _option(1.0, "For rl: weight of the cost model's bonus; 0 trusts its mean.")
    warmup: float = _option(0.1, "Share of all steps over which the learning rate rises.")
    decay: float = _option(
        0.0, "Share of all steps, at the end, over which it falls to zero; at most what the warm-up leaves."
    )
    rank: int = _option(16, "Rank of the LoRA matrices, on all linear layers but the output head.")
    lora_alpha: int = _option(32, "LoRA's scale is this over the rank.")
    max_prompt: int = _option(512, "Prompt tokens kept; a longer prompt loses its middle.")
    max_response: int = _option(512, "Response tokens kept.")
    holdout: float = _option(
        0.15,
        "Share of the contexts held out: half of them choose the best epoch or trial, the others tell how good it is; "
        "0 keeps the last epoch, unchecked.",
    )
    criterion: str = _option(
        EDIT_COST,
        "What chooses epoch and trial: edit_cost (of its answers, from held-out edited texts), nll, preference_loss, "
        "or paper (preference_loss for dpo, the objective for rl, else nll).",
    )
    keep: str = _option("best", "The epoch to keep: best (by held-out score) or last (for runs with a decay).")
    patience: int = _option(
        2, "With --keep best: stop after so many epochs, and 20 steps, without a better held-out score."
    )
    start: str = _option(
        "",
        "Continue from this policy. It becomes the reference, so it should have written the log. "
        "Default: the base model.",
    )
    seed: int = _option(1, "Seed of the split, the order and the LoRA initialisation.")

    def __post_init__(self) -> None:
        problems = [text for broken, text in self._rules() if broken]
        if problems:
            raise ConfigError("; ".join(problems))

    def _rules(self) -> list[tuple[bool, str]]:
        positive = ("learning_rate", "batch_size", "accumulation", "beta", "rank", "lora_alpha", "patience")
        not_negative = ("nll_weight", "pessimism", "epochs")
        rules = [(getattr(self, n) <= 0, f"{n} = {getattr(self, n)}: must be positive") for n in positive]
        return [
            *rules,
            (self.solver not in SOLVERS, f"solver = {self.solver!r}: use one of {', '.join(SOLVERS)}"),
            (self.samples < 2, f"samples = {self.samples}: must be at least 2"),
            (self.method not in (*METHODS, RL), f"method = {self.method!r}: use one of {', '.join((*METHODS, RL))}"),
            *((getattr(self, n) < 0, f"{n} = {getattr(self, n)}: must not be negative") for n in not_negative),
            (not 0 <= self.warmup < 1, f"warmup = {self.warmup}: must be in [0, 1)"),
            (not 0 <= self.decay <= 1, f"decay = {self.decay}: must be in [0, 1]"),
            (self.keep not in KEPT, f"keep = {self.keep!r}: use one of {', '.join(KEPT)}"),
            (
                self.criterion not in CRITERIA,
                f"criterion = {self.criterion!r}: use one of {', '.join(CRITERIA)}",
            ),
            (not 0 <= self.holdout < 1, f"holdout = {self.holdout}: must be at least 0 and below 1"),
            (min(self.max_prompt, self.max_response) < 2, "max_prompt and max_response: must be at least 2"),
        ]

    @property
    def preference_weight(self) -> float:
        """Weight of L_DPO in the objective; for rl of the regression, which needs pairs."""
        return 0.0 if self.method == "sft" else 1.0

    @property
    def likelihood_weight(self) -> float:
        """Weight of the NLL of y' in the objective."""
        return {"sft": 1.0, "dpo": 0.0}.get(self.method, self.nll_weight)

    def steps_of(self, edits: int) -> tuple[int, int]:
        """How many passes so many training edits get at most, and how many optimiser steps these are."""
        steps = self._steps(edits)
        passes = self.epochs or max(_PASSES, -(-_STEPS // max(1, steps)))
        return passes, passes * steps

    def patience_of(self, edits: int) -> int:
        """How many passes without a better score end a run: those of a step or two are too few to tell."""
        return max(self.patience, -(-_STEPS // max(1, self._steps(edits))))

    def _steps(self, edits: int) -> int:
        return -(-edits // (self.batch_size * self.accumulation))

    def chosen_by(self, *, answers: bool) -> str:
        """The held-out number that chooses, lower is better; the paper's where no ``answers`` are priced."""
        if self.criterion == EDIT_COST and answers:
            return EDIT_COST
        paper = {"dpo": "preference_loss", RL: "objective"}.get(self.method, "nll")
        return paper if self.criterion in (EDIT_COST, PAPER) else self.criterion

    def as_dict(self) -> dict[str, Any]:
        """Every field by name, for a manifest."""
        return asdict(self)


def metric_of(criterion: str) -> str:
    """The held-out number that a criterion compares: edit cost is not alone where it rests on few edits."""
    return CHOICE if criterion == EDIT_COST else criterion
