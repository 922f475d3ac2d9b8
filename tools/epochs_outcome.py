"""What each epoch of a run costs online, beside what held-out edit cost, likelihood and preference loss say of it.

    REDRAFT_DATA=… python tools/epochs_outcome.py SCRATCH [--out results/epochs] [--seeds 1 2 3] [--methods sft]
    python tools/epochs_outcome.py --read [--out results/epochs]      # the table alone, from the rows that there are

The settings of runs/fair.toml: the base model's drafts, edited by a user, are learnt from at a constant rate, so that
every epoch is a whole shorter run. After each the policy answers contexts that no log holds, and the same user edits
these. ``epochs.jsonl.gz`` has a row for each epoch; the table says what the epochs chosen in each way cost, with paired
95 % intervals over runs and contexts. It goes on where it was stopped.

``choice`` is what chooses by default: edit cost, with likelihood counted as two edits. Rows that lack it have it made
of the others, with nats in units of the first epoch's. ``paper`` is preference loss for dpo, else likelihood.
"""

import argparse
import gzip
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from redraft.config import load_settings
from redraft.costs import COSTS, DEFAULT_COST
from redraft.lab.bench.cell import log_edits
from redraft.lab.bench.tasks import Split, split
from redraft.lab.users import User, user_rng
from redraft.lab.users.catalogue import get_user
from redraft.lm.encode import encode_prompt
from redraft.lm.generate import generate
from redraft.lm.load import EMBEDDED, Base, load_base
from redraft.lm.trim import trim
from redraft.log import EditLog
from redraft.policies.adapter import AdapterHost
from redraft.train.dataset import prepare
from redraft.train.fit import fit
from redraft.train.heldout import LIKELIHOOD
from redraft.train.options import TrainOptions
from redraft.train.run import Answering, Run
from redraft.types import Context, Decoding, Interaction

TRAIN, VALIDATION, ONLINE, PROMPT, TOKENS = 64, 32, 60, 192, 64
SETTINGS = [(task, user) for task in ("summary", "email") for user in ("strong", "weak")]
RATES = {"sft": 5e-4, "early": 5e-4, "dpo": 1e-4}  # at 5e-4 dpo writes nothing from the first epoch on
EPOCHS = 4
COST, DECODING = COSTS[DEFAULT_COST], Decoding(TOKENS)
CRITERIA = ("choice", "edit_cost", "nll", "preference_loss")
Key = tuple[int, str, str, str]
"""Seed, task, user, method."""


def learnt_from(base: Base, contexts: Split, key: Key, user: User, drafts: Path) -> list[Interaction]:
    """The first log of a setting; the drafts are the same for all users of a task and seed."""
    seed, task, *_ = key
    sampling, logged = Decoding(TOKENS, 1.0, seed), [*contexts.train, *contexts.validation]
    if not drafts.exists():
        texts = AdapterHost(base, max_prompt=PROMPT).policy().respond([c.messages for c in logged], sampling)
        drafts.write_text(json.dumps({c.id: y for c, y in zip(logged, texts, strict=True)}))
    known: dict[str, str] = json.loads(drafts.read_text())

    def asked(missing: Sequence[Context]) -> list[str]:
        return [known[context.id] for context in missing]

    with EditLog("sqlite://") as log:
        return log_edits(log, logged, asked, user, task=task, model=base.identity, decoding=sampling)


def rows_of(key: Key, base: Base, scratch: Path, data: Path | None) -> Iterator[dict[str, Any]]:
    """Train one policy and give a row for each epoch, the start among them."""
    seed, task, name, method = key
    contexts, user = split(task, TRAIN, VALIDATION, ONLINE, seed=seed, data=data), get_user(task, name)
    edits = learnt_from(base, contexts, key, user, scratch / f"{task}-{seed}.json")
    options = TrainOptions(
        method, learning_rate=RATES[method], epochs=EPOCHS, batch_size=4, max_prompt=PROMPT, max_response=TOKENS + 1,
        holdout=VALIDATION / (TRAIN + VALIDATION), patience=EPOCHS, seed=seed,
    )  # fmt: skip
    paid: list[list[float]] = []

    def track(model: Any, _as_reference: object) -> Mapping[str, float]:
        paid.append(priced(model, base, contexts.online, user, seed))
        return {"online": fmean(paid[-1])}

    run = Run(
        base, prepare(edits, base, options), options, scratch / "@".join(map(str, key)), f"{task}/{method}@1",
        scratch / "cache", answering=Answering(COST, DECODING), track=track,
    )  # fmt: skip
    history = [line for line in fit(run).history if "eval_online" in line]
    paid = [paid[-1], *paid[:-1]]  # the start is priced last and told first
    for line, costs in zip(history, paid, strict=True):
        scores = {name: line.get(f"eval_{name}") for name in CRITERIA}
        yield {
            "seed": seed, "task": task, "user": name, "method": method, "epoch": round(line["epoch"]), **scores,
            "choosing": len(run.data.choosing), "online": [round(cost, 6) for cost in costs],
        }  # fmt: skip


def priced(model: Any, base: Base, online: Sequence[Context], user: User, seed: int) -> list[float]:
    """What the user edits in a model's greedy answers."""
    training, prompts = model.training, [encode_prompt(base.tokenizer, c.messages, PROMPT) for c in online]
    answers = [trim(text) for text in generate(model.eval().get_base_model(), base.tokenizer, prompts, DECODING)]
    model.train(training)
    edits = [
        user.edit(c, y, t=t, rng=user_rng(seed, c.id)) for t, (c, y) in enumerate(zip(online, answers, strict=True), 1)
    ]
    return [COST(y, edited) for y, edited in zip(answers, edits, strict=True)]


def read(file: Path) -> dict[Key, list[dict[str, Any]]]:
    """The epochs of each finished run, its start first."""
    found: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    if file.exists():
        for row in map(json.loads, gzip.decompress(file.read_bytes()).decode().splitlines()):
            found[row["seed"], row["task"], row["user"], row["method"]].append(row)
    return found


def table(runs: Mapping[Key, list[dict[str, Any]]]) -> str:
    """What the epochs chosen in each way cost online, and what ours cost more than the two others'."""
    groups: dict[str, list[Key]] = defaultdict(list)
    for key in sorted(runs, key=str):
        _, task, user, method = key
        for name in (f"{task} {user}, {method}", f"{task} {user}", method, "all"):
            groups[name].append(key)
    ways, others = (*CRITERIA, "paper", "best", "last"), ("nll", "paper")
    head = ("runs of", "seeds", *(f"by {name}" for name in ways[:-2]), "best epoch", "last epoch")
    head = (*head, *(f"choice − {name}" for name in others))
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    for name in sorted(groups, key=lambda name: (name == "all", "," not in name, name)):
        chosen = {by: np.array([costs_of(runs[key], by) for key in groups[name]]) for by in ways}
        told = [f"{costs.mean():.3f}" for costs in chosen.values()]
        told += [interval(chosen["choice"] - chosen[other]) for other in others]
        lines.append(f"| {name} | {len({key[0] for key in groups[name]})} | {' | '.join(told)} |")
    return "\n".join(lines)


def costs_of(run: Sequence[Mapping[str, Any]], by: str) -> list[float]:
    """Online costs of the epoch that a criterion chooses, the first of equals; the start is no choice."""
    start, *epochs = run
    if by == "last":
        return epochs[-1]["online"]
    if by == "paper":
        by = "preference_loss" if start["method"] == "dpo" else "nll"

    def score(row: Mapping[str, Any]) -> float:
        if by == "best":
            return fmean(row["online"])
        if by != "choice" or row.get(by) is not None:
            return row[by]
        cost, nll, edits = row["edit_cost"] / start["edit_cost"], row["nll"] / epochs[0]["nll"], row["choosing"]
        return (edits * cost + LIKELIHOOD * nll) / (edits + LIKELIHOOD)

    return min(epochs, key=score)["online"]


def interval(more: "np.ndarray[Any, np.dtype[np.float64]]") -> str:
    """Mean and percentile bootstrap of differences [runs, contexts]: runs are drawn, and contexts within them."""
    rng, (runs, contexts) = np.random.default_rng(0), more.shape
    drawn = [more[rng.integers(0, runs, runs)][:, rng.integers(0, contexts, contexts)].mean() for _ in range(10_000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{more.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def main() -> None:
    """Measure what is missing, then write the table anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=Path("results/epochs"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--methods", nargs="+", default=list(RATES), choices=RATES)
    parser.add_argument("--tasks", nargs="+", default=["summary", "email"], choices=["summary", "email", "office"])
    parser.add_argument("--users", nargs="+", default=["strong", "weak"])
    parser.add_argument("--read", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows = given.out / "epochs.jsonl.gz"
    if not given.read:
        given.scratch.mkdir(parents=True, exist_ok=True)
        named, base = os.environ.get("REDRAFT_DATA"), load_base(EMBEDDED, load_settings().cache)
        settings = [(task, user) for task in given.tasks for user in given.users]
        for seed in given.seeds:
            for method in given.methods:
                for task, user in settings:
                    if (seed, task, user, method) not in read(rows):
                        made = [
                            *rows_of((seed, task, user, method), base, given.scratch, Path(named) if named else None)
                        ]
                        with gzip.open(rows, "at", encoding="utf-8") as file:
                            file.write("".join(json.dumps(row) + "\n" for row in made))
                        print(
                            f"{task} {user}, {method}, seed {seed}",
                            *(f"{fmean(r['online']):.2f}" for r in made),
                            flush=True,
                        )
    (given.out / "table.md").write_text(table(read(rows)) + "\n")
    print((given.out / "table.md").read_text())


if __name__ == "__main__":
    main()
