"""Seconds per example of training, ours and TRL's, on the same triples, in one process, in turn (A B A B …).

Both train LoRA of the same rank on the same layers in the precision this machine is fastest in, with the same batch
size, three epochs, and every pass counted: our reference pass is not read from a cache, and TRL computes its reference
log-probabilities once, too (``precompute_ref_log_probs``), its fastest setting for DPO. TRL's early is DPO with
``loss_type=["sigmoid", "sft"]``. Neither saves or evaluates. The last line is one JSON object.

    python benchmarks/train_speed.py [--triples 32] [--rounds 2] [--model smollm2]
    python benchmarks/train_speed.py --against 524eb1b --triples 16 --rounds 8
    python benchmarks/train_speed.py --two-passes --methods dpo early --triples 16 --rounds 4

With ``--against`` a commit's code trains beside today's, each in a process of its own, in turn on the same rows, and
what is printed is today's examples a second over the commit's: the median ratio with the 95 % interval of the median.
With ``--two-passes`` the place of TRL is taken by our own trainer, told to read y' and y in two passes, as it reads the
models for which a packed pair would be wrong; the reference pass, made once, is packed in both.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from against import ratio_of, source_of
from redraft.lm.load import Base, compute_dtype, load_base
from redraft.lm.reading import TWO_PASSES, Reading
from redraft.train.options import METHODS, TrainOptions
from redraft.train.packing import Limits, Triple, encode
from redraft.train.reference import reference_logprobs
from redraft.train.trainer import EditTrainer
from redraft.types import Completion, Edit, Interaction, Message

EPOCHS, BATCH, RANK, BETA = 3, 8, 16, 0.1


def interactions(count: int) -> list[Interaction]:
    """Real prompts and real edits; the drafts are the edits of other notes with filler, of the demo's lengths."""
    from redraft.lab.bench.office import office_contexts  # here: a commit's worker reads rows instead
    from redraft.lab.users import user_rng
    from redraft.lab.users.catalogue import get_user

    rng, user = random.Random(0), get_user("office", "strong")
    rows: list[Interaction] = []
    for context in office_contexts(count, seed=0):
        edited = user.edit(context, "", t=0, rng=user_rng(0, context.id))
        words = (edited + " I hope this finds you well and I look forward to hearing from you soon.").split()
        draft = "Dear colleague, " + " ".join(words[: rng.randint(20, len(words))])
        completion = Completion(context.id, "email", context.messages, draft)
        rows.append(Interaction(completion, Edit(context.id, edited)))
    return rows


def lora() -> LoraConfig:
    return LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")


def ours(base: Base, rows: Sequence[Interaction], method: str, *, reading: Reading | None = None) -> float:
    options = TrainOptions(method=method, epochs=EPOCHS, batch_size=BATCH, rank=RANK, beta=BETA)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        triples = encode(rows, base.tokenizer, Limits())
        model: Any = get_peft_model(base.model, lora())
        reference = {} if method == "sft" else reference_logprobs(base, triples, Path(folder))
        trainer = EditTrainer(model, options, triples, triples[:1], reference, pad=base.pad, folder=Path(folder))
        trainer.reading = reading or trainer.reading
        trainer.args.eval_strategy = trainer.args.save_strategy = "no"
        trainer.args.load_best_model_at_end = False
        trainer.callback_handler.callbacks = trainer.callback_handler.callbacks[:1]
        trainer.train()
        seconds = time.perf_counter() - started
        model.unload()
    return seconds / (len(rows) * EPOCHS)


def theirs(base: Base, rows: Sequence[Interaction], method: str) -> float:
    import trl
    from datasets import Dataset

    def chat(row: Interaction, text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    prompts = [[{"role": "user", "content": r.completion.messages[0].content}] for r in rows]
    common: dict[str, Any] = {
        "per_device_train_batch_size": BATCH,
        "num_train_epochs": EPOCHS,
        "learning_rate": 5e-4,
        "bf16": compute_dtype() == torch.bfloat16,
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
    }
    weights = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    model = AutoModelForCausalLM.from_pretrained(base.source, dtype=weights)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        if method == "sft":
            data = [{"prompt": p, "completion": chat(r, r.edited or "")} for p, r in zip(prompts, rows, strict=True)]
            trainer: Any = trl.SFTTrainer(
                model,
                args=trl.SFTConfig(output_dir=folder, **common),
                train_dataset=Dataset.from_list(data),
                processing_class=base.tokenizer,
                peft_config=lora(),
            )
        else:
            data = [
                {"prompt": p, "chosen": chat(r, r.edited or ""), "rejected": chat(r, r.completion.response)}
                for p, r in zip(prompts, rows, strict=True)
            ]
            kinds = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 1.0]} if method == "early" else {}
            trainer = trl.DPOTrainer(
                model,
                args=trl.DPOConfig(output_dir=folder, beta=BETA, precompute_ref_log_probs=True, **kinds, **common),
                train_dataset=Dataset.from_list(data),
                processing_class=base.tokenizer,
                peft_config=lora(),
            )
        trainer.train()
        return (time.perf_counter() - started) / (len(rows) * EPOCHS)


def matmul_peak() -> float:
    """FLOP/s of the model's widest product at our batch's size, the best of several: what a step could reach."""
    dtype = compute_dtype()
    left, right = torch.randn(1536, 576, dtype=dtype), torch.randn(576, 1536, dtype=dtype)
    best = 0.0
    for _ in range(30):
        started = time.perf_counter()
        left @ right
        best = max(best, 2 * left.shape[0] * left.shape[1] * right.shape[1] / (time.perf_counter() - started))
    return best


def step_flops(base: Base, triples: Sequence[Triple], method: str) -> float:
    """FLOPs that the matrix products of one example need: forward 2 per weight and token, and as much backward.

    Weights are frozen, so no gradient with respect to them is counted, and neither are attention scores, LoRA's own
    small products, or padding. The output head works on response tokens only. A reference pass adds a forward pass per
    epoch's third.
    """
    head = base.model.get_output_embeddings().weight.numel()  # pyright: ignore[reportOptionalMemberAccess, reportCallIssue]
    body = sum(
        p.numel() for n, p in base.model.named_parameters() if p.dim() == 2 and "embed" not in n and "lm_head" not in n
    )
    pairs = method != "sft"
    tokens = sum(len(t.prompt) + len(t.chosen) + (len(t.rejected or []) if pairs else 0) for t in triples)
    answers = sum(len(t.chosen) + (len(t.rejected or []) if pairs else 0) for t in triples)
    passes = 4 + (2 / EPOCHS if pairs else 0)
    return passes * (body * tokens + head * answers) / len(triples)


def work(base: Base) -> None:
    """Rows on the first line of standard input, then a method on each: answer with seconds per example."""
    rows: list[Interaction] = []
    for name, prompt, draft, edited in json.loads(sys.stdin.readline()):
        completion = Completion(name, "email", (Message("user", prompt),), draft)
        rows.append(Interaction(completion, Edit(name, edited)))
    for line in sys.stdin:
        print(ours(base, rows, line.strip()), flush=True)


def compare(commit: str, model: str, rows: Sequence[Interaction], methods: Sequence[str], rounds: int) -> None:
    """Today's code and a commit's, in turn."""
    texts = [(r.completion.id, r.completion.messages[0].content, r.completion.response, r.edited) for r in rows]
    with ExitStack() as stack:
        sources = {"now": Path(__file__).parents[1] / "src", "then": stack.enter_context(source_of(commit))}
        workers: dict[str, Any] = {}
        for name, source in sources.items():
            command = [sys.executable, os.path.abspath(__file__), "--worker", "--model", model]
            environment = {**os.environ, "PYTHONPATH": str(source)}
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            workers[name] = stack.enter_context(subprocess.Popen(command, env=environment, **pipes))
            workers[name].stdin.write(json.dumps(texts) + "\n")

        def seconds(name: str, method: str) -> float:
            workers[name].stdin.write(method + "\n")
            workers[name].stdin.flush()
            return float(workers[name].stdout.readline())

        result: dict[str, Any] = {}
        for method in methods:
            runs: dict[str, list[float]] = {"now": [], "then": []}
            for number in range(rounds):
                for name in list(runs)[:: -1 if number % 2 else 1]:
                    runs[name].append(seconds(name, method))
                    print(f"{method:>6} {name:>4} {runs[name][-1]:.3f} s/example", flush=True)
            ratio = ratio_of(runs["then"], runs["now"])
            result[method] = ratio.as_dict()
            print(f"{method:>6}: {ratio} times {commit}'s examples a second", flush=True)
        for worker in workers.values():
            worker.stdin.close()
    print(json.dumps({"against": commit, "triples": len(rows), "examples_per_second": result}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--triples", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--against", metavar="COMMIT")
    parser.add_argument("--two-passes", action="store_true", help="compare with two passes, not with TRL")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore")
    base = load_base(chosen.model, Path("~/.cache/redraft").expanduser())
    if chosen.worker:
        work(base)
        return
    rows = interactions(chosen.triples)
    if chosen.against:
        compare(chosen.against, chosen.model, rows, chosen.methods, chosen.rounds)
        return
    triples = encode(rows, base.tokenizer, Limits())
    peak, result, other = matmul_peak(), {}, "two passes" if chosen.two_passes else "trl"
    for method in chosen.methods:
        kinds: dict[str, Callable[[], float]] = {
            "ours": lambda m=method: ours(base, rows, m),
            other: lambda m=method: (
                ours(base, rows, m, reading=Reading(TWO_PASSES)) if chosen.two_passes else theirs(base, rows, m)
            ),
        }
        runs: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(chosen.rounds):
            for name, measure in kinds.items():
                runs[name].append(measure())
                print(f"{method:>6} {name:>10} {runs[name][-1]:.3f} s/example", flush=True)
        medians = {name: statistics.median(seconds) for name, seconds in runs.items()}
        ratios = [slow / fast for fast, slow in zip(runs["ours"], runs[other], strict=True)]
        share = step_flops(base, triples, method) / medians["ours"] / peak
        result[method] = {
            "seconds_per_example": {name: round(value, 4) for name, value in medians.items()},
            "ratio": round(statistics.median(ratios), 3),
            "ratios": [round(ratio, 3) for ratio in ratios],
            "share_of_matmul_peak": round(share, 3),
        }
        print(f"{method:>6} ratio {result[method]['ratio']:.2f}, {share:.0%} of {peak / 1e9:.0f} GFLOP/s", flush=True)
    precision = str(compute_dtype()).removeprefix("torch.")
    setting = {"triples": len(rows), "epochs": EPOCHS, "batch": BATCH, "rank": RANK, "precision": precision}
    print(json.dumps({**setting, "matmul_peak_gflops": round(peak / 1e9, 1), "methods": result}))


if __name__ == "__main__":
    main()
