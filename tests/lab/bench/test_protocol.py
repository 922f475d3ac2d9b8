"""A whole experiment on the tiny model: what it leaves, how it goes on, and that a replay on its rows is a live run."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_server import ChatServer, serving

from redraft.costs import COSTS
from redraft.errors import ConfigError, DataError
from redraft.lab.bench.experiment import Ablation, AnyExperiment, Experiment, load_experiment
from redraft.lab.bench.folder import RunFolder
from redraft.lab.bench.matrix import MatrixRow, cost_table
from redraft.lab.bench.protocol import Outcome, Place, run_experiment
from redraft.lab.bench.tasks import split
from redraft.lab.replay import replay
from redraft.lab.users import user_rng
from redraft.lab.users.catalogue import get_user
from redraft.lm.load import load_base
from redraft.log import EditLog
from redraft.log.canonical import cleaned
from redraft.policies.adapter import AdapterHost
from redraft.policies.best_of import risks
from redraft.select import LateEnsemble, Uniform
from redraft.select.base import Selector
from redraft.types import Decoding

ROOT = Path(__file__).parents[3]
ARMS = ("base", "sft", "early")
Progress = Callable[[str, int, int], None]


class PowerCutError(Exception):
    """What a kill looks like from inside."""


def silent(_what: str, _done: int, _total: int) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def experiment(tiny_model_folder: Path) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "tiny",
            "model": str(tiny_model_folder),
            "tasks": ["office"],
            "train_users": ["strong", "weak"],
            "test_users": ["strong"],
            "seeds": [1, 2],
            "methods": ["sft", "early"],
            "sizes": {"train": 6, "validation": 3, "online": 5},
            "decoding": {"max_prompt": 96, "max_new_tokens": 12},
            "training": {"epochs": 1, "rank": 2},
            "sweep": {"sft": {"learning_rate": [1e-4, 1e-2]}},
        }
    )


@pytest.fixture(scope="module")
def place(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("whole") / "run", tiny_model_folder.parent)


@pytest.fixture(scope="module")
def whole(experiment: Experiment, place: Place) -> Iterator[RunFolder]:
    """The run that nothing interrupts; leave its folder as it is."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert run(experiment, place).left == []
    yield RunFolder(place.out)
    torch.set_num_threads(threads)


def run(experiment: AnyExperiment, place: Place, progress: Progress = silent, **more: Any) -> Outcome:
    return run_experiment(experiment, place, progress=progress, command="redraft bench run tiny.toml", **more)


def watched(seen: list[str]) -> Progress:
    return lambda what, _done, _total: seen.append(what)


def timeless(rows: list[MatrixRow]) -> list[MatrixRow]:
    return sorted((replace(row, seconds=0.0) for row in rows), key=lambda row: row.cell)


def trained(folder: RunFolder) -> list[dict[str, Any]]:
    rows = [asdict(replace(row, seconds=0.0)) for row in folder.training()]
    return sorted(rows, key=json.dumps)


def copied(whole: RunFolder, out: Path, *, work: bool = False) -> RunFolder:
    """The run as git brings it to a new machine, or with all that it keeps."""
    shutil.copytree(whole.path, out, ignore=None if work else shutil.ignore_patterns("work"))
    return RunFolder(out)


def test_the_matrix_is_complete_and_every_cost_follows_from_its_texts(whole: RunFolder) -> None:
    rows = whole.rows()
    assert len({row.cell for row in rows}) == len(rows) == 2 * 2 * len(ARMS) * 5
    assert [row.seed for row in rows] == sorted(row.seed for row in rows)  # all settings of the first seed come first
    word = COSTS["word"]
    assert all(
        (row.raw, row.cost) == (word.raw(row.response, row.edited), word(row.response, row.edited)) for row in rows
    )
    users = {"strong": get_user("office", "strong")}
    online = {(seed, c.id): c for seed in (1, 2) for c in split("office", 6, 3, 5, seed=seed).online}
    for row in rows:
        context, rng = online[row.seed, row.context_id], user_rng(row.seed, row.context_id)
        assert row.edited == users[row.test_user].edit(context, row.response, t=row.t, rng=rng)


def test_hyperparameters_are_chosen_on_the_first_seed_and_kept(whole: RunFolder) -> None:
    rows = [row for row in whole.training() if row.method == "sft"]
    for user in ("strong", "weak"):
        first, second = ([r for r in rows if (r.seed, r.train_user) == (seed, user)] for seed in (1, 2))
        assert len(first) == 2
        best = min(first, key=lambda row: row.metrics["edit_cost"])
        assert [row.chosen for row in first] == [row is best for row in first]
        assert [(r.options["learning_rate"], r.chosen) for r in second] == [(best.options["learning_rate"], True)]
    assert rows[0].history
    assert rows[0].data["heldout"]


def test_training_users_share_what_does_not_depend_on_them(whole: RunFolder) -> None:
    base = [row for row in whole.rows() if row.policy == "base" and row.seed == 1]
    strong, weak = ({r.t: r.response for r in base if r.train_user == user} for user in ("strong", "weak"))
    assert strong == weak
    logs = [whole.work / "1" / "office" / user / "redraft.db" for user in ("strong", "weak")]
    drafts: list[dict[str, str]] = []
    edits: list[dict[str, str | None]] = []
    for file in logs:
        with EditLog(f"sqlite:///{file}", create=False) as log:
            assert log.verify() == []
            found = list(log.interactions("office"))
        drafts.append({i.completion.id: i.completion.response for i in found})
        edits.append({i.completion.id: i.edited for i in found})
    assert drafts[0] == drafts[1]
    assert edits[0] != edits[1]


def test_a_log_is_sampled_from_the_base_model_by_the_seed(
    whole: RunFolder, experiment: Experiment, place: Place
) -> None:
    host = AdapterHost(load_base(experiment.model, place.cache), max_prompt=experiment.decoding.max_prompt)
    for seed in experiment.seeds:
        with EditLog(f"sqlite:///{whole.work / str(seed) / 'office' / 'weak' / 'redraft.db'}", create=False) as log:
            logged = list(log.interactions("office"))
        contexts = split("office", 6, 3, 5, seed=seed)
        assert [i.completion.id for i in logged] == [c.id for c in [*contexts.train, *contexts.validation]]
        sampled = host.policy().respond([i.completion.messages for i in logged], Decoding(12, 1.0, seed))
        assert [i.completion.response for i in logged] == sampled


def test_the_folder_says_what_was_run(whole: RunFolder, experiment: Experiment, tiny_model_folder: Path) -> None:
    described = json.loads((whole.path / "experiment.json").read_text())
    assert described["identity"] == load_base(str(tiny_model_folder), tiny_model_folder.parent).identity
    assert described["command"] == "redraft bench run tiny.toml"
    assert {key: described[key] for key in experiment.model_dump()} == experiment.model_dump(mode="json")
    files = {file.name for file in whole.path.iterdir()}
    assert files == {"experiment.json", "matrix.jsonl.gz", "training.jsonl", "work"}
    assert (whole.work / ".gitignore").read_text() == "*\n"


def test_a_run_cut_off_again_and_again_ends_with_the_same_rows(
    experiment: Experiment, place: Place, whole: RunFolder, tmp_path: Path
) -> None:
    here = replace(place, out=tmp_path / "cut")
    for stage in ("log", "trials", "sft", "serve sft", "early", "serve early", "base"):
        passed: list[str] = []

        def cut(what: str, done: int, _total: int, stage: str = stage, passed: list[str] = passed) -> None:
            if what == stage and done and passed:
                raise PowerCutError
            passed.append(what)

        with pytest.raises(PowerCutError):
            run(experiment, here, cut)
    assert run(experiment, here).left == []
    assert timeless(RunFolder(here.out).rows()) == timeless(whole.rows())
    assert trained(RunFolder(here.out)) == trained(whole)


@pytest.fixture(scope="module")
def with_arms(experiment: Experiment) -> Experiment:
    """A second round, an arm reranked, and nothing else."""
    rl = {"method": "rl", "start": "sft", "options": {"samples": 2, "beta": 0.1}}
    best, warm = {"best_of": 2, "of": "sft"}, {"of": "sft", "temperature": 1}
    agreed = best | warm | {"best_of": 3, "by": "consensus"}
    return Experiment.model_validate(
        experiment.model_dump(mode="json")
        | {"methods": ["sft"], "train_users": ["strong"], "seeds": [1], "sweep": {}, "options_from": None}
        | {"arms": {"rl": rl, "best": best, "warm": warm, "agreed": agreed}}
        | {"sizes": {"train": 6, "validation": 3, "online": 5, "second": 9}}
    )


def test_arms_are_made_of_what_earlier_arms_left(with_arms: Experiment, place: Place, tmp_path: Path) -> None:
    here = replace(place, out=tmp_path / "arms")
    assert run(with_arms, here).left == []
    folder = RunFolder(here.out)
    costs = cost_table([row for row in folder.rows() if "#" not in row.policy])
    assert list(costs) == ["base", "sft", "rl", "best", "warm", "agreed"]
    cell = folder.work / "1" / "office" / "strong"
    with EditLog(f"sqlite:///{cell / 'redraft-sft.db'}") as log:
        second = list(log.interactions("office", edited_only=True))
    contexts = split("office", 6, 3, 5, 9, seed=1)
    assert {i.completion.id for i in second} == {c.id for c in contexts.second}
    assert {i.completion.policy for i in second} == {"sft"}
    host = AdapterHost(load_base(with_arms.model, place.cache), max_prompt=96)
    wrote = host.load("sft", cell / "policies/office/sft@1").respond(
        [c.messages for c in contexts.second], Decoding(12, 1.0, 1)
    )
    assert {i.completion.id: i.completion.response for i in second} == {
        c.id: cleaned(text) for c, text in zip(contexts.second, wrote, strict=True)
    }
    (trained_rl,) = (row for row in folder.training() if row.arm == "rl")
    assert trained_rl.options["start"] == "sft"
    assert trained_rl.history[0]["eval_own_kl"] == 0
    by_policy = {name: [r for r in folder.rows() if r.policy == name] for name in {r.policy for r in folder.rows()}}
    assert [r.response for r in by_policy["sft"]] == [r.response for r in by_policy["best#0"]]
    for one, two, best in zip(by_policy["best#0"], by_policy["best#1"], by_policy["best"], strict=True):
        told = {p.policy: p.mean + p.bonus for p in folder.predictions() if (p.arm, p.t) == ("best", best.t)}
        assert best.response == (one if told["best#0"] <= told["best#1"] else two).response
    assert {row.writer for row in folder.cost_models()} == {"sft"}
    assert [r.response for r in by_policy["agreed#0"]] == [r.response for r in by_policy["warm"]]
    assert "agreed" not in {p.arm for p in folder.predictions()}
    for t, given in enumerate(by_policy["agreed"]):
        drawn = [by_policy[f"agreed#{k}"][t].response for k in range(3)]
        judged = risks(drawn, COSTS[with_arms.cost])
        assert given.response == drawn[judged.index(min(judged))]
    seen: list[str] = []
    run(with_arms, here, watched(seen))
    assert set(seen) == {"cells"}


def test_a_pipeline_learns_from_the_first_log_with_the_options_chosen_for_its_method(
    experiment: Experiment, place: Place, tmp_path: Path
) -> None:
    given = experiment.model_dump(mode="json") | {"train_users": ["strong"], "seeds": [1], "methods": ["sft", "early"]}
    arms = {
        "then": {"method": "early", "start": "sft", "log": "base", "options": {"beta": 0.3}},
        "second": {"method": "early", "start": "early"},
    }
    sizes = {"train": 6, "validation": 3, "online": 5, "second": 9}
    rates = {"sweep": {"early": {"learning_rate": [1e-3, 2e-3], "nll_weight": [0.5]}}, "options_from": None}
    here = replace(place, out=tmp_path / "pipeline")
    assert run(Experiment.model_validate(given | rates | {"arms": arms, "sizes": sizes}), here).left == []
    chosen = {row.arm: dict(row.options) for row in RunFolder(here.out).training() if row.chosen}
    first, then, second = (chosen[name] for name in ("early", "then", "second"))
    assert (first["nll_weight"], first["beta"], first["start"]) == (0.5, 0.1, "")
    assert then == first | {"start": "sft", "beta": 0.3}
    assert second == first | {"start": "early"}
    cell = here.out / "work/1/office/strong"
    assert {file.name for file in cell.glob("*.db")} == {"redraft.db", "redraft-early.db"}
    told = [json.loads((cell / f"policies/office/{name}@1/completions.json").read_text()) for name in ("sft", "then")]
    assert told[0] == told[1]


def test_arms_of_a_run_cut_off_are_the_same(with_arms: Experiment, place: Place, tmp_path: Path) -> None:
    here, whole = replace(place, out=tmp_path / "cut"), replace(place, out=tmp_path / "whole")
    for stage in ("sft", "rl", "serve rl", "serve best"):

        def cut(what: str, done: int, _total: int, stage: str = stage) -> None:
            if what == stage and done:
                raise PowerCutError

        with pytest.raises(PowerCutError):
            run(with_arms, here, cut)
    for one in (here, whole):
        assert run(with_arms, one).left == []
    assert timeless(RunFolder(here.out).rows()) == timeless(RunFolder(whole.out).rows())
    assert RunFolder(here.out).predictions() == RunFolder(whole.out).predictions()


def test_an_ablation_is_described_again(tmp_path: Path) -> None:
    values = {"name": "x", "kind": "ablation", "rows_from": "rows", "arms": [["base", "sft"]], "alphas": [1.0]}
    for rounds in ([25], [25], [25, 50]):
        now = Ablation.model_validate(values | {"rounds": rounds}).model_dump(mode="json")
        if rounds == [25]:
            RunFolder(tmp_path).claim(now, {})
        else:
            with pytest.raises(ConfigError, match="other rounds"):
                RunFolder(tmp_path).claim(now, {})


def test_a_run_older_than_an_option_had_its_default(with_arms: Experiment, tmp_path: Path) -> None:
    values = with_arms.model_dump(mode="json")
    assert values["arms"]["warm"].pop("by") == "cost"
    assert values["decoding"].pop("batch_size") == 64
    assert values.pop("cost") == "word"
    RunFolder(tmp_path).claim(values, {})
    RunFolder(tmp_path).claim(with_arms.model_dump(mode="json"), {})
    values = with_arms.model_dump(mode="json")
    del values["arms"]["agreed"]["by"]
    RunFolder(tmp_path / "other").claim(values, {})
    with pytest.raises(ConfigError, match=r"other arms\.agreed"):
        RunFolder(tmp_path / "other").claim(with_arms.model_dump(mode="json"), {})


def test_an_arm_that_changed_its_meaning_is_refused(with_arms: Experiment, place: Place, tmp_path: Path) -> None:
    here = replace(place, out=tmp_path / "arms")
    RunFolder(here.out).claim(with_arms.model_dump(mode="json"), {})
    values = with_arms.model_dump(mode="json")
    RunFolder(here.out).claim({**values, "arms": {"rl": values["arms"]["rl"]}}, {})  # one less
    RunFolder(here.out).claim(values, {})
    values["arms"]["rl"]["options"]["beta"] = 0.2
    with pytest.raises(ConfigError, match=r"other arms\.rl: choose another"):
        RunFolder(here.out).claim(values, {})


def test_a_killed_run_goes_on_from_rows_alone(
    experiment: Experiment, place: Place, whole: RunFolder, tmp_path: Path
) -> None:
    folder = copied(whole, tmp_path / "killed")
    packed = folder.path / "matrix.jsonl.gz"
    lines = gzip.decompress(packed.read_bytes()).splitlines(keepends=True)
    (folder.path / "matrix.jsonl").write_bytes(b"".join(lines[:-7]) + lines[-7][:40])  # in the middle of an arm
    packed.unlink()
    seen: list[str] = []
    assert run(experiment, replace(place, out=folder.path), watched(seen)).left == []
    assert timeless(folder.rows()) == timeless(whole.rows())
    assert trained(folder) == trained(whole)
    assert "trials" not in seen  # what was chosen is not swept again
    assert {"sft", "early"} & set(seen)


def test_rows_of_both_files_are_kept(experiment: Experiment, place: Place, whole: RunFolder, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path / "both")
    lines = gzip.decompress((folder.path / "matrix.jsonl.gz").read_bytes()).splitlines(keepends=True)
    (folder.path / "matrix.jsonl").write_bytes(b"".join(lines[:9]))  # killed while unpacking
    seen: list[str] = []
    run(experiment, replace(place, out=folder.path), watched(seen))
    assert set(seen) == {"cells"}  # a complete run loads no model
    assert timeless(folder.rows()) == timeless(whole.rows())


def test_another_test_user_edits_the_answers_there_are(
    experiment: Experiment, place: Place, whole: RunFolder, tmp_path: Path
) -> None:
    folder, seen = copied(whole, tmp_path / "more"), list[str]()
    run(
        experiment.model_copy(update={"test_users": ("strong", "other")}),
        replace(place, out=folder.path),
        watched(seen),
    )
    assert set(seen) == {"cells"}
    rows = folder.rows()
    assert len(rows) == 2 * len(whole.rows())
    other = {row.cell[:3] + row.cell[4:]: row.response for row in rows if row.test_user == "other"}
    assert other == {row.cell[:3] + row.cell[4:]: row.response for row in whole.rows()}


def test_responses_of_another_run_are_edited_without_a_model(
    experiment: Experiment, place: Place, whole: RunFolder, tmp_path: Path
) -> None:
    given = {"responses_from": whole.path, "sweep": {}, "model": "no-such-model", "test_users": ("other",)}
    transfer, here = experiment.model_copy(update=given), replace(place, out=tmp_path / "transfer")
    assert run(transfer, here).left == []
    rows = RunFolder(here.out).rows()
    assert {row.test_user for row in rows} == {"other"}
    assert sorted(row.response for row in rows) == sorted(row.response for row in whole.rows())
    longer = transfer.model_copy(update={"seeds": (1, 2, 3)})
    assert run(longer, here).left == ["office strong, seed 3", "office weak, seed 3"]


@pytest.mark.parametrize("variant", ["strong+noise=0.5", "0.5 other; 0.5 strong+noise=0.5"])
def test_options_of_another_run_serve_variants_of_its_user(
    experiment: Experiment, place: Place, whole: RunFolder, tmp_path: Path, variant: str
) -> None:
    given = {"options_from": whole.path, "sweep": {}, "train_users": (variant,), "seeds": (1,)}
    seen: list[str] = []
    here = replace(place, out=tmp_path / "noise")
    assert run(experiment.model_copy(update=given), here, watched(seen)).left == []
    assert "trials" not in seen
    chosen = {r.method: r.options for r in whole.training() if r.chosen and r.train_user == "strong"}
    rows = RunFolder(here.out).training()
    assert [(r.method, r.options["learning_rate"]) for r in rows] == [
        (method, chosen[method]["learning_rate"]) for method in ("sft", "early")
    ]


def test_time_that_is_up_leaves_the_rest_for_later(experiment: Experiment, place: Place, tmp_path: Path) -> None:
    here = replace(place, out=tmp_path / "late")
    found = run(experiment, here, minutes=0)
    assert (found.cells, len(found.left), found.settings) == (4, 4, [])
    assert RunFolder(here.out).rows() == []


def judge_and_revise(request: dict[str, Any]) -> str:
    """What a language model might say as PRELUDE's user: nothing suits it, and it marks what it revises."""
    asked = request["messages"][-1]["content"]
    return "No." if asked.endswith("yes or no.") else f"Hi, this is {request['model']}. Bye."


def test_the_papers_own_file_runs_with_its_models_replaced(tiny_model_folder: Path, tmp_path: Path) -> None:
    with serving(ChatServer(judge_and_revise)) as server:
        replaced = [f"model={tiny_model_folder}", 'tasks=["office"]', "training.rank=2"]
        replaced += [f"endpoints.{name}.url={server.url}" for name in ("qwen", "llama")]
        paper = load_experiment(ROOT / "runs" / "paper.toml", replaced, smoke=True)
        found = run(paper, Place(tmp_path / "paper", tmp_path))
        assert found.left == []
        rows = RunFolder(tmp_path / "paper").rows()
        asked = len(server.requests)
        again = run(paper, Place(tmp_path / "again", tmp_path))
        assert len(server.requests) == asked > 0  # all from the cache of answers
    assert again.settings == found.settings
    assert {(r.train_user, r.test_user) for r in rows} == {
        (f"qwen:{kind}", f"{name}:strong") for kind in ("strong", "weak") for name in ("qwen", "llama")
    }
    said = {"qwen:strong": "Qwen/Qwen3-32B", "llama:strong": "meta-llama/Llama-3.3-70B-Instruct"}
    assert all(row.edited == f"Hi, this is {said[row.test_user]}. Bye." for row in rows)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("make", [LateEnsemble, partial(Uniform, seed=5)], ids=["late", "uniform"])
def test_replay_on_the_matrix_is_a_live_run_decision_for_decision(
    make: Callable[[tuple[str, ...]], Selector], seed: int, experiment: Experiment, place: Place, whole: RunFolder
) -> None:
    host = AdapterHost(load_base(experiment.model, place.cache), max_prompt=experiment.decoding.max_prompt)
    for arm in ARMS[1:]:
        host.load(arm, whole.work / str(seed) / "office" / "weak" / "policies" / "office" / f"{arm}@1")
    selector, user, cost = make(ARMS), get_user("office", "strong"), COSTS[experiment.cost]
    live: list[Any] = []
    for t, context in enumerate(split("office", 6, 3, 5, seed=seed).online, 1):
        decision = selector.select(f"round-{t}")
        response = host.policy(decision.chosen).respond([context.messages], Decoding(12))[0]
        paid = cost(response, user.edit(context, response, t=t, rng=user_rng(seed, context.id)))
        selector.update(decision, paid)
        live.append((decision, pytest.approx(paid, abs=1e-9)))
    table = cost_table([row for row in whole.rows() if (row.seed, row.train_user) == (seed, "weak")])
    assert [(found.decision, found.cost) for found in replay(make(ARMS), table)] == live


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cost": "character"}, "holds a run with other cost: choose another --out"),
        ({"training": {"epochs": 2}, "sweep": {}}, "other training, sweep"),
        ({"train_users": ("nobody",)}, "nobody"),
        ({"responses_from": Path("none"), "sweep": {}}, "responses_from = none: there are no rows"),
        ({"options_from": Path("none"), "sweep": {}}, "options_from = none: nothing was trained"),
    ],
)
def test_what_cannot_be_run_is_refused_and_changes_nothing(
    change: dict[str, Any], reason: str, experiment: Experiment, place: Place, whole: RunFolder
) -> None:
    before = {file: file.read_bytes() for file in whole.path.iterdir() if file.is_file()}
    with pytest.raises(ConfigError, match=reason):
        run(experiment.model_copy(update=change), place)
    assert {file: file.read_bytes() for file in whole.path.iterdir() if file.is_file()} == before


def test_contexts_of_other_sizes_are_noticed(
    experiment: Experiment, place: Place, whole: RunFolder, tmp_path: Path
) -> None:
    sizes = experiment.sizes.model_copy(update={"train": 7})
    given = {"responses_from": whole.path, "sweep": {}, "sizes": sizes}
    with pytest.raises(ConfigError, match="use the sizes that the rows were made with"):
        run(experiment.model_copy(update=given), replace(place, out=tmp_path / "sizes"))


def test_another_base_model_is_noticed(experiment: Experiment, place: Place, whole: RunFolder, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path / "model")
    file = folder.path / "experiment.json"
    file.write_text(file.read_text().replace('"identity": "', '"identity": "another-'))
    with pytest.raises(ConfigError, match="was begun with another-"):
        run(experiment.model_copy(update={"seeds": (1, 2, 3)}), replace(place, out=folder.path))


def test_unusable_folders_are_named(experiment: Experiment, place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        run(experiment, replace(place, out=tmp_path / "file" / "run"))
    (tmp_path / "experiment.json").write_text("{")
    with pytest.raises(DataError, match="not a description of a run"):
        run(experiment, replace(place, out=tmp_path))
    (tmp_path / "training.jsonl").write_text("{\n")
    with pytest.raises(DataError, match="not JSON"):
        RunFolder(tmp_path).training()
