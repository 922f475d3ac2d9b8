"""The steps of one cell, without a model where none is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from redraft.costs import COSTS
from redraft.errors import ConfigError, DataError
from redraft.lab.bench.cell import Answers, Setting, answer, log_edits, price
from redraft.lab.bench.learn import learn
from redraft.lab.users import user_rng
from redraft.lm.load import Base
from redraft.log import EditLog
from redraft.train.dataset import Dataset
from redraft.train.options import TrainOptions
from redraft.train.packing import Triple
from redraft.train.run import Run, counter
from redraft.train.runs import read_manifest
from redraft.types import Context, Contexts, Decoding, Message

if TYPE_CHECKING:
    from numpy.random import Generator

CONTEXTS = [Context(f"c{i}", (Message("user", f"Note {i}"),), "email") for i in range(1, 6)]
SETTING = Setting(1, "email", "strong")


@dataclass
class Marker:
    """Appends the round, and a draw of its own generator; may fail on one context."""

    name: str = "marker"
    fails_on: str = ""
    asked: list[str] = field(default_factory=list[str])

    def edit(self, context: Context, response: str, *, t: int, rng: Generator) -> str:
        if context.id == self.fails_on:
            raise DataError("no answer")
        self.asked.append(context.id)
        return f"{response} {t} {rng.integers(1000)}"


class Echo:
    """Answers with what it was asked."""

    name = "echo"

    def respond(self, contexts: Sequence[Sequence[Message]], decoding: Decoding) -> list[str]:
        return [messages[-1].content for messages in contexts]


def respond(asked: list[str]) -> Callable[[Sequence[Context]], list[str]]:
    def answers(contexts: Sequence[Context]) -> list[str]:
        asked.extend(context.id for context in contexts)
        return [f"draft {context.id}" for context in contexts]

    return answers


def test_answers_are_in_the_order_of_the_contexts() -> None:
    assert answer(Echo(), CONTEXTS, Decoding()).responses == tuple(f"Note {i}" for i in range(1, 6))


def test_a_policy_that_rounding_changes_answers_in_float32() -> None:
    class Astray(Echo):
        def respond(self, contexts: Contexts, decoding: Decoding, seeds: Sequence[int] | None = None) -> list[str]:
            if decoding.precision != "float32":
                raise ConfigError("precision 'bfloat16': writes in float32 on a CPU")
            return super().respond(contexts, decoding)

    half = Decoding(8, precision="bfloat16")
    assert answer(Astray(), CONTEXTS, half).responses == answer(Echo(), CONTEXTS, half).responses


def test_only_what_the_log_lacks_is_answered(tmp_path: Path) -> None:
    decoding = Decoding(8, temperature=1.0, seed=4)
    with EditLog(f"sqlite:///{tmp_path / 'log.db'}") as log:
        asked: list[str] = []
        for contexts in (CONTEXTS[:2], CONTEXTS):
            found = log_edits(log, contexts, respond(asked), Marker(), task="email", model="m:1", decoding=decoding)
        assert asked == ["c1", "c2", "c3", "c4", "c5"]
        assert [i.completion.id for i in found] == asked
        assert {(i.completion.policy, i.completion.model) for i in found} == {("base", "m:1")}
        assert found[0].completion.decoding["temperature"] == 1.0
        assert [i.edited for i in found] == [
            f"draft {c.id} 0 {user_rng(4, c.id).integers(1000)}"
            for c in CONTEXTS  # the log is made before round 1
        ]
        assert log.verify() == []


def test_a_user_who_fails_leaves_whole_edits_or_none(tmp_path: Path) -> None:
    with EditLog(f"sqlite:///{tmp_path / 'log.db'}") as log:
        with pytest.raises(DataError, match="no answer"):
            log_edits(log, CONTEXTS, respond([]), Marker(fails_on="c4"), task="email", model="m", decoding=Decoding())
        assert log.counts("email").completions == log.counts("email").edited
        found = log_edits(log, CONTEXTS, respond([]), Marker(), task="email", model="m", decoding=Decoding())
        assert len(found) == 5


@pytest.mark.parametrize("threads", [1, 4])
def test_rows_have_every_test_user_and_do_not_depend_on_threads(threads: int) -> None:
    answers = Answers(tuple(f"draft {i}" for i in range(5)), 0.5)
    users = {"a": Marker(), "b": Marker("other")}
    rows = price(SETTING, "sft", CONTEXTS, answers, test_users=users, cost=COSTS["word"], threads=threads)
    assert [(r.test_user, r.t, r.context_id) for r in rows] == [
        (name, t, f"c{t}") for name in ("a", "b") for t in range(1, 6)
    ]
    drawn = [user_rng(SETTING.seed, context.id).integers(1000) for context in CONTEXTS]  # whoever edits, and whenever
    assert [r.edited for r in rows] == 2 * [f"draft {t - 1} {t} {draw}" for t, draw in enumerate(drawn, 1)]
    assert {(r.seed, r.task, r.train_user, r.policy, r.seconds) for r in rows} == {(1, "email", "strong", "sft", 0.5)}
    assert all((r.raw, r.cost) == (2, 1.0) for r in rows)  # two words appended to two
    assert rows == price(SETTING, "sft", CONTEXTS, answers, test_users=users, cost=COSTS["word"])


def test_a_slow_user_is_asked_several_times_at_once() -> None:
    together = threading.Barrier(3, timeout=10)

    @dataclass
    class Slow(Marker):
        def edit(self, context: Context, response: str, *, t: int, rng: Generator) -> str:
            together.wait()  # passes only when three are here
            return response

    answers = Answers(("x",) * 3, 0.0)
    rows = price(SETTING, "sft", CONTEXTS[:3], answers, test_users={"s": Slow()}, cost=COSTS["word"], threads=3)
    assert [row.cost for row in rows] == [0.0] * 3


def test_a_counter_adds_up() -> None:
    seen: list[tuple[str, int, int]] = []

    def progress(what: str, done: int, total: int) -> None:
        seen.append((what, done, total))

    advance = counter(progress, "serve", 5)
    advance(2)
    advance(3)
    assert seen == [("serve", 2, 5), ("serve", 5, 5)]


@pytest.fixture
def run(tiny_base: Base, tmp_path: Path) -> Run:
    triples = [Triple(f"t{i}", [5, 6, 7 + i], [9, 10 + i, 2], [20, 21 + i, 2]) for i in range(8)]
    options = TrainOptions(method="sft", epochs=1, batch_size=4, rank=2, learning_rate=1e-3)
    data = Dataset(triples[:6], triples[6:])
    return Run(tiny_base, data, options, tmp_path / "unused", "email/sft@1", tmp_path / "cache")


def test_the_best_candidate_becomes_the_policy_and_is_not_trained_twice(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "email" / "sft@1"
    candidates = [replace(run.options, learning_rate=rate) for rate in (1e-5, 1e-1, 1e-3)]
    manifests = learn(run, candidates, folder)
    assert [m.metrics["nll"] for m in manifests] == sorted(m.metrics["nll"] for m in manifests)
    assert read_manifest(folder) == manifests[0]
    assert manifests[0].policy == "email/sft@1"
    changed = (folder / "adapter_model.safetensors").stat().st_mtime_ns
    assert learn(run, candidates, folder) == manifests
    assert learn(run, candidates[:1], folder) == manifests[:1]  # a policy that is there holds
    assert (folder / "adapter_model.safetensors").stat().st_mtime_ns == changed
    assert not folder.with_name("sft@1.partial").exists()


def test_one_candidate_is_trained_as_it_is(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "email" / "sft@1"
    manifest = learn(run, [replace(run.options, epochs=2)], folder)[0]
    assert (manifest.options["epochs"], read_manifest(folder)) == (2, manifest)


@pytest.mark.parametrize("rates", [(1e30,), (1e30, 1e31)])
def test_a_method_that_diverged_is_no_policy(run: Run, tmp_path: Path, rates: tuple[float, ...]) -> None:
    candidates = [replace(run.options, learning_rate=rate, warmup=0.0) for rate in rates]
    with pytest.raises(DataError, match="diverged"):
        learn(run, candidates, tmp_path / "email" / "sft@1")
    assert not (tmp_path / "email" / "sft@1").exists()
