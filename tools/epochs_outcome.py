"""What each epoch of a run's policies costs online, beside what held-out edit cost, likelihood and preference loss say.

    REDRAFT_DATA=… python tools/epochs_outcome.py RUN... --out OUT      # runs made with keep_epochs; goes on
    python tools/epochs_outcome.py --out OUT                            # the table alone, from the rows that there are

Every epoch's policy answers the contexts that the run served, and the test user edits the answers.
``epochs.jsonl.gz`` has a row for each epoch; the table says what the epochs chosen in each way cost, with paired 95 %
intervals over runs and contexts.

``choice`` is what chooses by default: edit cost, with likelihood counted as two edits. Rows of before the default have
it made of the others, with nats in units of the first epoch's. ``paper`` is preference loss for dpo, else likelihood.
"""

import argparse
import gzip
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from redraft.config import load_settings
from redraft.costs import get_cost
from redraft.errors import ConfigError
from redraft.lab.bench.cell import Setting, answer, price
from redraft.lab.bench.experiment import Experiment
from redraft.lab.bench.failures import chosen_runs
from redraft.lab.bench.folder import RunFolder, TrainedRun
from redraft.lab.bench.tasks import split
from redraft.lab.users.catalogue import get_user
from redraft.lm.load import Base, load_base
from redraft.policies.adapter import AdapterHost
from redraft.policies.store import PolicyStore
from redraft.train.heldout import LIKELIHOOD
from redraft.train.runs import EPOCHS, MANIFEST
from redraft.types import Decoding, PolicyRef

CRITERIA = ("choice", "edit_cost", "nll", "preference_loss")
Key = tuple[int, str, str, str]
"""Seed, task, training user, arm."""


def rows_of(
    folder: RunFolder, run: TrainedRun, experiment: Experiment, base: Base, data: Path | None
) -> Iterator[dict[str, Any]]:
    """A row for each epoch of one policy."""
    setting = Setting(run.seed, run.task, run.train_user)
    policy = PolicyStore(folder.workplace(setting) / "policies").path(PolicyRef(run.task, run.arm, 1))
    sizes, limits, cost = experiment.sizes, experiment.decoding, get_cost(experiment.cost)
    online = split(run.task, *sizes.of(run.task), sizes.further(run.task), seed=run.seed, data=data).online
    users = {name: get_user(run.task, name) for name in experiment.test_users}
    decoding = Decoding(limits.max_new_tokens, precision=limits.precision)
    host = AdapterHost(base, batch_size=limits.batch_size, max_prompt=limits.max_prompt)
    try:
        for line in (line for line in run.history if "eval_nll" in line):
            epoch = round(line["epoch"])
            kept = policy / EPOCHS / str(epoch)
            shutil.copy(policy / MANIFEST, kept / MANIFEST)
            answers = answer(host.load(f"epoch{epoch}", kept), online, decoding)
            rows = price(setting, run.arm, online, answers, test_users=users, cost=cost)
            yield {
                "seed": run.seed, "task": run.task, "user": run.train_user, "arm": run.arm, "method": run.method,
                "epoch": epoch, **{name: line.get(f"eval_{name}") for name in CRITERIA},
                "online": [round(row.cost, 6) for row in rows],
            }  # fmt: skip
    finally:
        host.close()


def read(file: Path) -> dict[Key, list[dict[str, Any]]]:
    """The epochs of each run, in some rows after its start."""
    found: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    if file.exists():
        for row in map(json.loads, gzip.decompress(file.read_bytes()).decode().splitlines()):
            found[row["seed"], row["task"], row["user"], row.get("arm") or row["method"]].append(row)
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
    start, epochs = run[0], [row for row in run if row["epoch"]]
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
    """Price what has no row yet, then write the table anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows, named = given.out / "epochs.jsonl.gz", os.environ.get("REDRAFT_DATA")
    for place in given.runs:
        described = json.loads((place / "experiment.json").read_text())
        experiment = Experiment.model_validate({k: v for k, v in described.items() if k in Experiment.model_fields})
        if not experiment.keep_epochs:
            raise ConfigError(f"{place}: kept no epochs: run it with keep_epochs = true")
        folder, base = RunFolder(place), load_base(experiment.model, load_settings().cache)
        for run in chosen_runs(folder.training()):
            if (run.seed, run.task, run.train_user, run.arm) not in read(rows):
                made = list(rows_of(folder, run, experiment, base, Path(named) if named else None))
                with gzip.open(rows, "at", encoding="utf-8") as file:
                    file.write("".join(json.dumps(row) + "\n" for row in made))
                costs = " ".join(f"{fmean(row['online']):.2f}" for row in made)
                print(f"{run.task} {run.train_user}, {run.arm}, seed {run.seed}: {costs}", flush=True)
    (given.out / "table.md").write_text(table(read(rows)) + "\n")
    print((given.out / "table.md").read_text())


if __name__ == "__main__":
    main()
