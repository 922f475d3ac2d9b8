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
from typing import TYPE_CHECKING, Any

from redraft.bench.matrix import MatrixRow, append_rows, cost_table, read_rows
from redraft.bench.stats import compare, mean_interval
from redraft.bench.tasks import email_split
from redraft.costs import COSTS, DEFAULT_COST
from redraft.errors import ConfigError
from redraft.log import EditLog
from redraft.policies.store import PolicyStore
from redraft.select.base import Selector
from redraft.select.replay import replay
from redraft.select.ucb import LateEnsemble
from redraft.select.uniform import Uniform
from redraft.train.options import METHODS, TrainOptions
from redraft.types import Completion, Context, Decision, Decoding, Edit, Interaction
from redraft.users import user_rng
from redraft.users.email import strong_email_user

if TYPE_CHECKING:
    from redraft.lm.load import Base
    from redraft.train.fit import Progress
    from redraft.train.runs import Manifest

__all__ = ["DemoOptions", "run_demo"]

TASK = "email"
ARMS = ("base", *METHODS)


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
        self.user, self.cost = strong_email_user(), COSTS[DEFAULT_COST]
        self.logged, held, self.online = email_split(
            options.train, options.validation, options.online, seed=options.seed
        )
        self.logged = [*self.logged, *held]

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 2)

    def edited(self, context: Context, response: str, t: int) -> str:
        return self.user.edit(context, response, t=t, rng=user_rng(self.options.seed, context.id))

    def log_edits(self, base: Base) -> list[Interaction]:
        """The base model answers at temperature 1 (coverage) and the user edits; what is logged stays."""
        from redraft.policies.adapter import AdapterHost

        with EditLog(f"sqlite:///{self.out / 'redraft.db'}") as log:
            known = {row.completion.id for row in log.interactions(TASK, edited_only=True)}
            missing = [c for c in self.logged if c.id not in known]
            decoding = Decoding(self.options.max_new_tokens, temperature=1.0, seed=self.options.seed)
            host = AdapterHost(base, on_batch=self._counter("log", len(missing)))
            responses = host.policy().respond([c.messages for c in missing], decoding) if missing else []
            for context, response in zip(missing, responses, strict=True):
                completion = Completion(
                    context.id, TASK, context.messages, response, "base", base.identity, decoding=asdict(decoding)
                )
                log.record(completion)
                log.edit(Edit(context.id, self.edited(context, response, 0), user_id=self.user.name))
            return list(log.interactions(TASK, edited_only=True))

    def train(self, base: Base, interactions: Sequence[Interaction]) -> dict[str, Manifest]:
        """One policy per method, from the same split and the same reference."""
        from redraft.train.fit import Run, fit, prepare
        from redraft.train.runs import read_manifest

        store = PolicyStore(self.out / "policies")
        manifests: dict[str, Manifest] = {}
        data = prepare(interactions, base, self.options.training("early"))
        for method in METHODS:
            reference = replace(store.next(TASK, method), version=1)
            with self.stage(f"train {method}"):
                if not store.path(reference).exists():
                    partial = store.partial_path(reference)
                    options = self.options.training(method)
                    fit(Run(base, data, options, partial, str(reference), self.cache, self.progress), resume=True)
                    partial.rename(store.path(reference))
            manifests[method] = read_manifest(store.path(reference))
        return manifests

    def matrix(self, base: Base) -> list[MatrixRow]:
        """Every policy answers every online context once, greedily, and the user edits every answer."""
        from redraft.policies.adapter import AdapterHost

        file, store = self.out / "matrix.jsonl", PolicyStore(self.out / "policies")
        done = {(row.policy, row.t) for row in read_rows(file)} if file.exists() else set[tuple[str, int]]()
        host = AdapterHost(base, on_batch=self._counter("serve", len(self.online) * len(ARMS) - len(done)))
        decoding = Decoding(self.options.max_new_tokens)
        for arm in ARMS:
            rounds = [t for t in range(1, len(self.online) + 1) if (arm, t) not in done]
            if rounds:
                reference = store.path(replace(store.next(TASK, arm), version=1))
                policy = host.policy() if arm == "base" else host.load(arm, reference)
                started = time.perf_counter()
                responses = policy.respond([self.online[t - 1].messages for t in rounds], decoding)
                seconds = (time.perf_counter() - started) / len(rounds)
                append_rows(file, [self._row(arm, t, r, seconds) for t, r in zip(rounds, responses, strict=True)])
        return read_rows(file)

    def _row(self, arm: str, t: int, response: str, seconds: float) -> MatrixRow:
        context = self.online[t - 1]
        edited = self.edited(context, response, t)
        return MatrixRow(
            seed=self.options.seed,
            task=TASK,
            train_user=self.user.name,
            test_user=self.user.name,
            t=t,
            context_id=context.id,
            policy=arm,
            response=response,
            edited=edited,
            raw=self.cost.raw(response, edited),
            cost=self.cost(response, edited),
            seconds=round(seconds, 4),
        )

    def _counter(self, what: str, total: int) -> Any:
        done = 0

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            self.progress(what, done, total)

        return advance


def run_demo(
    out: Path, options: DemoOptions, *, model: str, cache: Path, progress: Progress, command: str = "redraft demo"
) -> dict[str, Any]:
    """Run the demo in ``out``, or the rest of one that was interrupted there, and return its summary.

    Raises ``ConfigError`` when ``out`` cannot be written or holds a demo with other options.
    """
    from redraft.lm.load import load_base
    from redraft.report.demo import write_report
    from redraft.train.runs import versions

    _claim(out, options, model)
    demo = _Demo(out, options, cache, progress)
    with demo.stage("load"):
        base = load_base(model, cache)
    with demo.stage("log"):
        interactions = demo.log_edits(base)
    manifests = demo.train(base, interactions)
    with demo.stage("serve"):
        rows = demo.matrix(base)
    costs = {arm: cost_table(rows)[arm] for arm in ARMS}
    selectors: dict[str, Selector] = {"late": LateEnsemble(ARMS), "uniform": Uniform(ARMS, seed=options.seed)}
    decisions = {name: [(r.decision, r.cost) for r in replay(selector, costs)] for name, selector in selectors.items()}
    summary = _summary(costs, decisions, manifests) | {
        "options": asdict(options),
        "seed": options.seed,
        "model": base.identity,
        "command": command,
        "versions": versions(),
        "seconds": demo.seconds,
    }
    prompts = {context.id: context.messages[-1].content for context in demo.online}
    write_report(out, summary, rows, decisions, prompts)
    return summary


def _claim(out: Path, options: DemoOptions, model: str) -> None:
    """Make the folder this demo's, or see that it is."""
    file, mine = out / "demo.json", asdict(options) | {"model": model}
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            scratch = file.with_suffix(".new")
            scratch.write_text(json.dumps(mine) + "\n", "utf-8")
            scratch.replace(file)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror}): choose another folder") from error
    if json.loads(file.read_text("utf-8")) != mine:
        raise ConfigError(f"--out {out}: holds a demo with other options: choose another folder or delete it")


def _summary(
    costs: Mapping[str, Sequence[float]],
    decisions: Mapping[str, Sequence[tuple[Decision, float]]],
    manifests: Mapping[str, Manifest],
) -> dict[str, Any]:
    paid = {name: [cost for _, cost in rounds] for name, rounds in decisions.items()}
    everyone = {**costs, **paid}
    intervals = {name: mean_interval(values) for name, values in everyone.items()}
    return {
        "mean_cost": {name: found.mean for name, found in intervals.items()},
        "interval": {name: [found.low, found.high] for name, found in intervals.items()},
        "against_base": {name: asdict(compare(v, costs["base"])) for name, v in everyone.items() if name != "base"},
        "late_against_uniform": asdict(compare(paid["late"], paid["uniform"])),
        "pulls": {
            name: {arm: sum(decision.chosen == arm for decision, _ in rounds) for arm in ARMS}
            for name, rounds in decisions.items()
        },
        "data": manifests["early"].data,
        "training": {method: _curve(manifest) for method, manifest in manifests.items()},
        "notes": [_about_dpo(manifests["dpo"], intervals["dpo"].mean, intervals["base"].mean)],
    }


def _curve(manifest: Manifest) -> list[dict[str, float]]:
    """Held-out log-probabilities after each epoch, in nats above the reference; both are 0 before the first."""
    names = {"chosen_logp": "eval_chosen_above_reference", "rejected_logp": "eval_rejected_above_reference"}
    points = [line for line in manifest.history if "eval_nll" in line]
    start = {"step": 0.0, "chosen_logp": 0.0, "rejected_logp": 0.0}
    return [start, *({"step": p["step"]} | {k: p[v] for k, v in names.items() if v in p} for p in points)]


def _about_dpo(manifest: Manifest, cost: float, base: float) -> str:
    """What DPO did, from its numbers; the explanation only where they show it."""
    chosen = [line["chosen_above_reference"] for line in manifest.history if "chosen_above_reference" in line]
    end, drafts = manifest.metrics["chosen_above_reference"], manifest.metrics["rejected_above_reference"]
    said = (
        f"DPO costs {cost:.2f} (base {base:.2f}). In training the edited texts rose to {max(chosen):+.0f} nats against "
        f"the base model; held out they end at {end:+.0f}, the drafts at {drafts:+.0f}."
    )
    if end > max(chosen) / 2:
        return said
    return said + (
        " Eq. 4 asks for the difference alone, and pushing a draft down is the cheaper way to it: the probability goes "
        "to texts that nobody wrote. The likelihood term of early (eq. 7) keeps the edited text likely."
    )
