"""The losses against numbers worked by hand, and against TRL's on the same model and batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch

from redraft.lm.load import Base, load_base
from redraft.lm.logprobs import frozen_head
from redraft.train.losses import early_loss, preference_loss, sft_loss
from redraft.train.packing import Triple
from redraft.train.scoring import score

if TYPE_CHECKING:
    from pathlib import Path

BETA, NLL_WEIGHT = 0.3, 0.7
PAIRS = [
    ("Notes: two", "Hi, two chairs.", "Dear Sir, chairs"),
    ("Notes: room 4", "Hi, room 4.", "Hello, it is about a room"),
    ("Notes: late", "Sorry, late.", "Late"),
]


def test_sft_by_hand() -> None:
    assert sft_loss(torch.tensor([-3.0, -5.0]), torch.tensor([2, 2])).item() == 2.0


def test_preference_by_hand() -> None:
    # log-ratios: y' up by 2 nats, y down by 1; τ = 0.5 → margin 1.5.
    values = (torch.tensor([v]) for v in (-3.0, -6.0, -5.0, -5.0))
    assert preference_loss(*values, beta=0.5).item() == pytest.approx(math.log(1 + math.exp(-1.5)))


def test_preference_at_the_reference_is_log_two() -> None:
    same = torch.tensor([-4.0, -7.0])
    assert preference_loss(same, same, same, same, beta=0.1).tolist() == pytest.approx([math.log(2)] * 2)


def test_early_by_hand() -> None:
    assert early_loss(torch.tensor(2.0), torch.tensor(4.0), 0.5).item() == 4.0


@pytest.fixture
def trained(tiny_model_folder: Path, tmp_path: Path) -> tuple[Base, Any]:
    """The tiny model under an adapter that has not moved yet."""
    from peft import LoraConfig, get_peft_model

    base = load_base(str(tiny_model_folder), tmp_path)
    model = get_peft_model(base.model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))  # pyright: ignore[reportArgumentType]
    return base, model


def move(model: Any) -> None:
    """Take the adapter away from the base model, so that no log-ratio is 0."""
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B.default" in name:
            weight.data.normal_(0, 0.3, generator=generator)


def ours(base: Base, model: Any) -> dict[str, torch.Tensor]:
    def ids(text: str) -> list[int]:
        return base.tokenizer(text, add_special_tokens=False)["input_ids"]  # pyright: ignore[reportReturnType]

    end = [int(base.tokenizer.eos_token_id)]  # pyright: ignore[reportArgumentType]
    rows = [Triple(str(i), ids(x), ids(c) + end, ids(r) + end) for i, (x, c, r) in enumerate(PAIRS)]
    zero = {t.id: (0.0, 0.0) for t in rows}
    with model.disable_adapter():
        reference = score(model, rows, zero, pad=base.pad, head=None)
    found = score(model, rows, zero, pad=base.pad, head=frozen_head(model))
    preference = preference_loss(found.chosen, found.rejected, reference.chosen, reference.rejected, BETA)
    nll = sft_loss(found.chosen, found.chosen_tokens)
    return {"sft": nll, "dpo": preference.mean(), "early": early_loss(preference.mean(), nll, NLL_WEIGHT)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["sft", "dpo", "early"])
def test_loss_equals_trl(trained: tuple[Base, Any], tmp_path: Path, method: str) -> None:
    import trl
    from datasets import Dataset

    base, model = trained
    common: dict[str, Any] = {
        "output_dir": str(tmp_path),
        "per_device_train_batch_size": len(PAIRS),
        "report_to": "none",
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
    }
    if method == "sft":
        rows = Dataset.from_list([{"prompt": x, "completion": c} for x, c, _ in PAIRS])
        config = trl.SFTConfig(**common)
        trainer = trl.SFTTrainer(model, args=config, train_dataset=rows, processing_class=base.tokenizer)  # pyright: ignore[reportArgumentType]
    else:
        rows = Dataset.from_list([{"prompt": x, "chosen": c, "rejected": r} for x, c, r in PAIRS])
        kinds = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, NLL_WEIGHT]} if method == "early" else {}
        config = trl.DPOConfig(beta=BETA, **kinds, **common)
        trainer = trl.DPOTrainer(model, args=config, train_dataset=rows, processing_class=base.tokenizer)  # pyright: ignore[reportArgumentType]
    move(model)  # only now: TRL takes the adapter it is given for the reference
    expected = ours(base, model)[method]
    batch = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        theirs = trainer.compute_loss(trainer.model, batch)  # pyright: ignore[reportArgumentType]
    assert float(theirs) == pytest.approx(float(expected), rel=1e-4)
