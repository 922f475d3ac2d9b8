"""The whole loop on the embedded model: log → train → serve and choose → report, in one folder.

A small model writes emails from notes, a simulated user edits them, the edits are logged and three policies learn from
them; then every policy answers new notes once, and selectors replay on the matrix of what each answer would have
cost. Every stage keeps what it made, so that a demo which was interrupted goes on where it stopped. The folder:

    redraft.db      the edit log          policies/       the trained policies
    matrix.jsonl    who would have paid what                report.html, summary.json
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from redraft.costs import COSTS, DEFAULT_COST
from redraft.errors import ConfigError, ModelError
from redraft.files import write_text
from redraft.lab.bench.cell import Setting, answer, log_edits, price
from redraft.lab.bench.failures import curve
from redraft.lab.bench.matrix import MatrixRow, append_rows, cost_table, read_rows
from redraft.lab.bench.tasks import split
from redraft.lab.replay import replay
from redraft.lab.users.catalogue import get_user
from redraft.log import EditLog
from redraft.policies.base import BASE
from redraft.policies.store import PolicyStore
from redraft.select.base import Selector
from redraft.select.ucb import LateEnsemble
from redraft.select.uniform import Uniform
from redraft.stats import compare, mean_interval
from redraft.train.options import METHODS, TrainOptions
from redraft.train.run import counter
from redraft.types import Context, Decision, Decoding, Interaction, PolicyRef

if TYPE_CHECKING:
    from redraft.lab.report.demo import Summary
    from redraft.lm.load import Base
    from redraft.train.run import Progress
    from redraft.train.runs import Manifest

__all__ = ["DemoOptions", "run_demo"]

TASK = "email"
DOMAIN = "office"  # of that task, the one whose contexts need no data
ARMS = (BASE, *METHODS)


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """How large the demo is. The defaults fit twelve minutes on two cores."""

    seed: int = 1
    train: int = 64
    validation: int = 16
    online: int = 60
    max_new_tokens: int = 64
    epochs: int = 2
    learning_rate: float = 5e-4

    def training(self, method: str) -> TrainOptions:
        """The options of one method; ``validation`` of the logged edits choose its epoch."""
        return TrainOptions(
            method=method,
            learning_rate=self.learning_rate,
            epochs=self.epochs,
            max_response=self.max_new_tokens + 1,  # and its end-of-turn token
            holdout=self.validation / (self.train + self.validation),
            seed=self.seed,
        )


class _Demo:
    def __init__(self, out: Path, options: DemoOptions, cache: Path, progress: Progress) -> None:
        self.out, self.options, self.cache, self.progress = out, options, cache, progress
        self.seconds: dict[str, float] = {}
        self.user, self.cost = get_user(TASK, "strong"), COSTS[DEFAULT_COST]
        contexts = split(DOMAIN, options.train, options.validation, options.online, seed=options.seed)
        self.logged, self.online = [*contexts.train, *contexts.validation], contexts.online
        self.store = PolicyStore(out / "policies")

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 2)

    def decoding(self, base: Base) -> Decoding:
        """Greedy, in the precision that is fastest here, in which some answers differ."""
        from redraft.lm.rows import fastest

        return Decoding(self.options.max_new_tokens, precision=fastest(base.model))

    def log_edits(self, base: Base) -> list[Interaction]:
        """The base model answers at temperature 1 (coverage) and the user edits; what is logged stays."""
        from redraft.policies.adapter import AdapterHost

        decoding = replace(self.decoding(base), temperature=1.0, seed=self.options.seed)

        def respond(missing: Sequence[Context]) -> Sequence[str]:
            host = AdapterHost(base, on_batch=counter(self.progress, "log", len(missing)))
            return answer(host.policy(), missing, decoding).responses

        with EditLog(f"sqlite:///{self.out / 'redraft.db'}") as log:
            return log_edits(log, self.logged, respond, self.user, task=TASK, model=base.identity, decoding=decoding)

    def train(self, base: Base, interactions: Sequence[Interaction]) -> dict[str, Manifest]:
        """One policy per method, from the same split and the same reference."""
        from redraft.lab.bench.learn import learn
        from redraft.policies.evaluate import Measure
        from redraft.train.dataset import prepare
        from redraft.train.run import Answering, Run

        decoding = self.decoding(base)
        measure, answering = Measure(base, self.cost, decoding, self.progress), Answering(self.cost, decoding)
        manifests: dict[str, Manifest] = {}
        data = prepare(interactions, base, self.options.training("early"))
        for method in METHODS:
            options, reference = self.options.training(method), PolicyRef(TASK, method, 1)
            folder = self.store.path(reference)
            with self.stage(f"train {method}"):
                run = Run(
                    base, data, options, folder, str(reference), self.cache, self.progress,
                    answering=answering,
                )  # fmt: skip
                manifests[method] = learn(run, [options], folder, lambda place: measure(place, data.reporting))[0]
        return manifests

    def matrix(self, base: Base) -> list[MatrixRow]:
        """Every policy answers every online context once, greedily, and the user edits every answer."""
        from redraft.policies.adapter import AdapterHost

        file, decoding = self.out / "matrix.jsonl", self.decoding(base)
        done = {(row.policy, row.t) for row in read_rows(file)}
        missing = {arm: [t for t in range(1, len(self.online) + 1) if (arm, t) not in done] for arm in ARMS}
        arms = [arm for arm in ARMS if missing[arm]]
        host = AdapterHost(base, on_batch=counter(self.progress, "serve", len(self.online) * len(arms)))
        setting, users = Setting(self.options.seed, TASK, self.user.name), {self.user.name: self.user}
        for arm in arms:
            policy = host.policy() if arm == BASE else host.load(arm, self.store.path(PolicyRef(TASK, arm, 1)))
            answers = answer(policy, self.online, decoding)
            rows = price(setting, arm, self.online, answers, test_users=users, cost=self.cost)
            append_rows(file, [row for row in rows if row.t in missing[arm]])
        return read_rows(file)


def run_demo(
    out: Path, options: DemoOptions, *, model: str, cache: Path, progress: Progress, command: str = "redraft demo"
) -> Summary:
    """Run the demo in ``out``, or the rest of one that was interrupted there, and return its summary.

    Raises ``ConfigError`` when ``out`` cannot be written or holds a demo with other options.
    """
    from redraft.lab.report.demo import write_report
    from redraft.lm.load import load_base
    from redraft.train.runs import versions

    fresh = _claim(out, options, model)
    demo = _Demo(out, options, cache, progress)
    with demo.stage("load"):
        try:
            base = load_base(model, cache)
        except ModelError:
            if fresh:  # the command put right would meet "other options"
                (out / "demo.json").unlink()
            raise
    with demo.stage("log"):
        interactions = demo.log_edits(base)
    manifests = demo.train(base, interactions)
    with demo.stage("serve"):
        rows = demo.matrix(base)
    costs = {arm: cost_table(rows)[arm] for arm in ARMS}
    selectors: dict[str, Selector] = {"late": LateEnsemble(ARMS), "uniform": Uniform(ARMS, seed=options.seed)}
    decisions = {name: [(r.decision, r.cost) for r in replay(selector, costs)] for name, selector in selectors.items()}
    summary = replace(
        _summary(costs, decisions, manifests),
        options=asdict(options),
        seed=options.seed,
        model=base.identity,
        command=command,
        versions=versions(),
        seconds=demo.seconds,
    )
    prompts = {context.id: context.messages[-1].content for context in demo.online}
    write_report(out, summary, rows, decisions, prompts)
    return summary


def _claim(out: Path, options: DemoOptions, model: str) -> bool:
    """Make the folder this demo's, or see that it is; return whether it was not before."""
    file, mine = out / "demo.json", asdict(options) | {"model": model}
    try:
        out.mkdir(parents=True, exist_ok=True)
        fresh = not file.exists()
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror}): choose another folder") from error
    if fresh:
        write_text(file, json.dumps(mine) + "\n")
    if json.loads(file.read_text("utf-8")) != mine:
        raise ConfigError(f"--out {out}: holds a demo with other options: choose another folder or delete it")
    return fresh


def _summary(
    costs: Mapping[str, Sequence[float]],
    decisions: Mapping[str, Sequence[tuple[Decision, float]]],
    manifests: Mapping[str, Manifest],
) -> Summary:
    from redraft.lab.report.demo import Summary

    paid = {name: [cost for _, cost in rounds] for name, rounds in decisions.items()}
    everyone = {**costs, **paid}
    intervals = {name: mean_interval(values) for name, values in everyone.items()}
    return Summary(
        mean_cost={name: found.mean for name, found in intervals.items()},
        interval={name: [found.low, found.high] for name, found in intervals.items()},
        against_base={name: compare(values, costs[BASE]) for name, values in everyone.items() if name != BASE},
        late_against_uniform=compare(paid["late"], paid["uniform"]),
        pulls={
            name: {arm: sum(decision.chosen == arm for decision, _ in rounds) for arm in ARMS}
            for name, rounds in decisions.items()
        },
        data=manifests["early"].data,
        heldout=_heldout(manifests),
        heldout_edits=manifests["early"].evaluation.get("edits", 0),
        training={method: curve(manifest.history) for method, manifest in manifests.items()},
        notes=[_about_dpo(manifests["dpo"], intervals["dpo"].mean, intervals[BASE].mean)],
    )


def _heldout(manifests: Mapping[str, Manifest]) -> dict[str, float]:
    """Held-out edit cost of each policy that was measured, and of the base model."""
    known: dict[str, float] = {}
    for method, manifest in manifests.items():
        if manifest.distances is not None:
            known[method], known[BASE] = manifest.distances
    return known


def _about_dpo(manifest: Manifest, cost: float, base: float) -> str:
    """What DPO did, from its numbers; the explanation only where they show it."""
    chosen = [line["chosen_above_reference"] for line in manifest.history if "chosen_above_reference" in line]
    end, drafts = manifest.metrics["chosen_above_reference"], manifest.metrics["rejected_above_reference"]
    said = (
        f"DPO costs {cost:.2f} (base {base:.2f}). In training the edited texts rose to {max(chosen):+.0f} nats above "
        f"the base model; on held-out edits they end at {end:+.0f}, and the drafts at {drafts:+.0f}."
    )
    if end > max(chosen) / 2:
        return said
    return said + (
        " Eq. 4 rewards only the difference, and pushing a draft down is the easier way to widen it: the probability "
        "goes to texts that nobody wrote. The likelihood term of early (eq. 7) keeps the edited text likely."
    )
