"""What ``redraft diagnose`` advises of a log against what training on that log then brings, a row for each log.

    REDRAFT_DATA=… python tools/advice_outcome.py FOLDER [--out results/advice] [--epochs 0] office/strong/64 defacto/64

A log of a simulated user (TASK/USER/EDITS) holds the embedded model's samples and that user's edits of them; an answer
costs what the user then edits in it. A corpus (NAME/EDITS) holds people's edits of another model's texts; an answer
costs its distance from the person's text. Both are measured on contexts that no log holds. Advice agrees where no arm
costs significantly less than the one advised (95 %, paired over contexts); ``then`` is the advice once policies are
measured. ``costs.jsonl`` keeps what was measured, so that without new logs only the advice is asked for anew.
"""

import argparse
import csv
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from redraft.config import load_settings
from redraft.costs import COSTS, DEFAULT_COST
from redraft.diagnose import Trained, diagnose
from redraft.lab.bench.tasks import contexts
from redraft.lab.corpora import CORPORA
from redraft.lab.users import user_rng
from redraft.lab.users.catalogue import get_user
from redraft.lm.load import EMBEDDED, Base, load_base
from redraft.log.canonical import cleaned
from redraft.log.formats.rows import Options, Row
from redraft.policies.adapter import AdapterHost
from redraft.policies.base import BASE
from redraft.policies.evaluate import Measure
from redraft.stats import compare
from redraft.train.dataset import prepare
from redraft.train.options import METHODS, TrainOptions
from redraft.train.publish import train_version
from redraft.train.run import Answering, Run
from redraft.train.runs import read_manifest
from redraft.types import Completion, Context, Contexts, Decoding, Edit, Interaction

SEED, MOST, HELDOUT, PROMPT, ARMS = 1, 80, 40, 256, (BASE, *METHODS)
DECODING, COST = Decoding(64), COSTS[DEFAULT_COST]
FILES = {"defacto": ("defacto/train.jsonl", "defacto/val.jsonl"), "mlqe": ("mlqe-pe-ro-en/train", "mlqe-pe-ro-en/dev")}
Log = tuple[list[Interaction], Contexts, Callable[[Sequence[str]], list[float]]]
"""Logged edits, contexts held out of them, and what each of the answers to these costs."""


def log_of(case: str, base: Base, scratch: Path) -> Log:
    """The log of that name; the drafts are the same for all users of a task."""
    task, *user, edits = case.split("/")
    return simulated(task, user[0], int(edits), base, scratch) if user else corpus(task, int(edits))


def simulated(task: str, name: str, edits: int, base: Base, scratch: Path) -> Log:
    """Edits of the lab's user of that name."""
    data, user = os.environ.get("REDRAFT_DATA"), get_user("summary" if task == "summary" else "email", name)
    found = contexts(task, MOST + HELDOUT, seed=SEED, data=Path(data) if data else None)
    heldout, kept = found[MOST:], scratch / f"{task}.drafts.json"
    if not kept.exists():
        asked, sampling = [c.messages for c in found[:MOST]], Decoding(DECODING.max_new_tokens, 1.0, SEED)
        kept.write_text(json.dumps(cleaned(AdapterHost(base).policy().respond(asked, sampling))))

    def edit(context: Context, text: str, t: int) -> str:
        return user.edit(context, text, t=t, rng=user_rng(SEED, context.id))

    rows = [
        Interaction(Completion(c.id, task, c.messages, y, BASE, base.identity), Edit(c.id, edit(c, y, 0), 0, user.name))
        for c, y in list(zip(found, json.loads(kept.read_text()), strict=False))[:edits]
    ]
    return (
        rows,
        [c.messages for c in heldout],
        lambda ys: [COST(y, edit(c, y, 1)) for c, y in zip(heldout, ys, strict=True)],
    )


def corpus(name: str, edits: int) -> Log:
    """The first edits of a published corpus, and the first of its validation part to measure on."""
    files = [Path(os.environ["REDRAFT_DATA"], "edits", file) for file in FILES[name]]
    rows, later = ([r.interaction for r in CORPORA[name](f, Options(name)) if isinstance(r, Row)] for f in files)
    wanted = [i.edited or "" for i in later[:HELDOUT]]
    return rows[:edits], [i.completion.messages for i in later[:HELDOUT]], lambda ys: list(map(COST, ys, wanted))


def measured(log: Log, base: Base, epochs: int, folder: Path) -> dict[str, Any]:
    """A policy for each method, as ``train all`` makes it, and costs of greedy answers to held-out contexts."""
    edits, heldout, price = log
    known, measure = dict[str, Any](), Measure(base, COST, DECODING, lambda *_: None)  # type: ignore[misc]
    for method in METHODS:
        options = TrainOptions(method, epochs=epochs, max_prompt=PROMPT, max_response=DECODING.max_new_tokens + 32)
        data, place = prepare(edits, base, options), folder / f"{method}@1"
        if not place.exists():
            answering = Answering(COST, DECODING)
            run = Run(
                base, data, options, place, f"{folder.name}/{method}@1", folder.parent / "cache", answering=answering
            )
            train_version(run, place, resume=True, measured=lambda policy, held=data.reporting: measure(policy, held))
        found = read_manifest(place).evaluation
        known[method] = [
            found["distance"],
            found["base_distance"],
            found["edits"],
            len(edits),
            found["against_base"][1],
        ]
        print(f"{folder.name} {method}: {read_manifest(place).seconds:.0f} s", flush=True)
    host = AdapterHost(base, max_prompt=PROMPT)
    policies = [host.policy(), *(host.load(method, folder / f"{method}@1") for method in METHODS)]
    costs = {arm: price(policy.respond(heldout, DECODING)) for arm, policy in zip(ARMS, policies, strict=True)}
    host.close()
    return {"trained": known, "costs": costs}


def row_of(found: dict[str, Any], edits: list[Interaction]) -> dict[str, Any]:
    """Advice before training and, ``then``, with the policies measured, each beside the arm that cost least."""
    costs, known = found["costs"], [Trained(f"log/{m}@1", m, *numbers) for m, numbers in found["trained"].items()]
    best = min(ARMS, key=lambda arm: fmean(costs[arm]))
    row = {"log": found["log"], "epochs": found["epochs"], **{arm: f"{fmean(costs[arm]):.3f}" for arm in ARMS}}
    for when, trained in (("advised", []), ("then", known)):
        name = diagnose(edits, COST, trained=trained, model=EMBEDDED).prefer.removeprefix("log/").removesuffix("@1")
        more = compare(costs[name], costs[best]).difference
        row |= {when: name, f"{when} costs more by": f"{more.mean:.3f} [{more.low:.3f}, {more.high:.3f}]"}
        row[f"{when} agrees"] = "yes" if more.low <= 0 else "no"
    return row


def main() -> None:
    """Measure what is missing and write the table anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("cases", nargs="*", help="TASK/USER/EDITS or CORPUS/EDITS")
    parser.add_argument("--out", type=Path, default=Path("results/advice"))
    parser.add_argument("--epochs", type=int, default=0, help="0: as many as by default")
    given, base = parser.parse_intermixed_args(), load_base(EMBEDDED, load_settings().cache)
    for folder in (given.scratch, given.out):
        folder.mkdir(parents=True, exist_ok=True)
    raw = given.out / "costs.jsonl"
    done = [json.loads(line) for line in raw.read_text().splitlines()] if raw.exists() else []
    for case in given.cases:
        if not any((row["log"], row["epochs"]) == (case, given.epochs) for row in done):
            folder = given.scratch / f"{case.replace('/', '-')}-{given.epochs}"
            found = measured(log_of(case, base, given.scratch), base, given.epochs, folder)
            done.append({"log": case, "epochs": given.epochs, **found})
            with raw.open("a") as lines:
                lines.write(json.dumps(done[-1]) + "\n")
    rows = [row_of(row, log_of(row["log"], base, given.scratch)[0]) for row in done]
    with (given.out / "table.csv").open("w", newline="") as table:
        csv.writer(table).writerows([rows[0], *(row.values() for row in rows)])


if __name__ == "__main__":
    main()
