"""Experiment files: what is read, what is refused, and that those of the project are sound."""

from __future__ import annotations

import re
from math import prod
from pathlib import Path

import pytest

from redraft.errors import ConfigError
from redraft.lab.bench.experiment import Ablation, CostComparison, Experiment, load_experiment
from redraft.lab.users.catalogue import Endpoint, get_user

ROOT = Path(__file__).parents[3]
MINIMAL = """
name = "x"
tasks = ["office"]
train_users = ["strong"]
test_users = ["strong"]
seeds = [1]
sizes = { train = 8, validation = 4, online = 6 }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "x.toml"


def written(file: Path, *more: str) -> Path:
    file.write_text("\n".join([MINIMAL, *more]), "utf-8")
    return file


def benchmark(file: Path, *overrides: str, smoke: bool = False) -> Experiment:
    found = load_experiment(file, overrides, smoke=smoke)
    assert isinstance(found, Experiment)
    return found


def test_defaults_and_what_follows_from_them(file: Path) -> None:
    found = benchmark(written(file, "[training]", "epochs = 2", "[decoding]", "max_new_tokens = 31"))
    assert (found.model, found.cost, found.methods) == ("smollm2", "word", ("sft", "dpo", "early"))
    options = found.options("office", "dpo", 7)
    assert (options.method, options.seed, options.epochs) == ("dpo", 7, 2)
    assert (options.max_prompt, options.max_response) == (512, 32)
    assert options.holdout == pytest.approx(4 / 12)


def test_sizes_may_differ_by_task(file: Path) -> None:
    given = "sizes.train={office=9,email=5}"
    found = benchmark(written(file), given, 'tasks=["office","email"]')
    assert (found.sizes.of("office"), found.sizes.of("email")) == ((9, 4, 6), (5, 4, 6))
    with pytest.raises(ConfigError, match="no number for task 'summary'"):
        benchmark(file, given, 'tasks=["summary"]')


ARMS = """
[arms.rl]
method = "rl"
start = "sft"
options = { samples = 4, beta = 1 }
[arms.best]
best_of = 4
of = "rl"
"""


def test_arms_come_after_the_methods_and_are_made_of_those_before(file: Path) -> None:
    found = benchmark(written(file, ARMS), "sizes.second=5", 'methods=["sft"]')
    assert found.names == ("base", "sft", "rl", "best")
    assert found.sizes.further("office") == 5
    options = found.typed(found.arms["rl"].options)
    assert options == {"samples": 4, "beta": 1.0}
    assert isinstance(options["beta"], float)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sizes.second=0", "sizes.second says how much 'sft' logs"),
        ('arms.rl.start="best"', "arms.rl needs 'best': name it before"),
        ('arms.rl.log="best"', "arms.rl learns from 'best': name it before"),
        ('arms.best.of="dpo"', "arms.best needs 'dpo'"),
        ('arms.best.method="sft"', "arms.best: give it a method, or best_of and temperature"),
        ('arms.again={of="best",temperature=1}', "arms.again: 'best' is no policy of its own"),
        ('arms.sft={method="sft"}', "arms.sft: there is such an arm already"),
        ("arms.rl.options.nothing=1", "unknown 'nothing'"),
        ("arms.rl.options.seed=1", "unknown 'seed'"),
        ('arms.rl.method="ppo"', "unknown 'ppo'"),
        ("arms.best.best_of=1", "greater than or equal to 2"),
    ],
)
def test_arms_that_cannot_be_made_are_refused(file: Path, override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        benchmark(written(file, ARMS), "sizes.second=5", 'methods=["sft"]', override)


def test_an_arm_that_goes_on_with_the_first_log_needs_no_second(file: Path) -> None:
    found = benchmark(written(file, ARMS), 'methods=["sft"]', 'arms.rl.log="base"')
    assert (found.arms["rl"].start, found.arms["rl"].writer) == ("sft", "base")


def test_an_experiment_needs_an_arm_beside_the_base_model(file: Path) -> None:
    with pytest.raises(ConfigError, match="no arms: name one"):
        benchmark(written(file), "methods=[]")


def test_smoke_replaces_keys_and_an_override_comes_last(file: Path) -> None:
    written(file, "[sweep.dpo]", "beta = [0.1]", "[smoke]", "seeds = [9]", "sweep = { sft = { epochs = [1] } }")
    assert benchmark(file).seeds == (1,)
    quick = benchmark(file, "sizes.train=3", "model=a/b", smoke=True)
    assert (quick.seeds, quick.sweep, quick.sizes.train) == ((9,), {"sft": {"epochs": [1]}}, 3)
    assert quick.model == "a/b"  # no TOML value, so it is text


def test_options_keep_the_types_of_their_fields(file: Path) -> None:
    options = benchmark(written(file), "training.learning_rate=1", "training.epochs=4").options("office", "sft", 1)
    assert (type(options.learning_rate), type(options.epochs)) == (float, int)


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("reward=1", "unknown key 'reward'"),
        ("sizes.trian=1", "unknown key 'sizes.trian'"),
        ('tasks=["letters"]', "'letters': use email, summary, office"),
        ("tasks=[]", "tasks"),
        ("seeds=[1,1]", "names something twice"),
        ("cost=vibes", "'vibes' is unknown"),
        ('methods=["ppo"]', "'ppo': use sft, dpo, early"),
        ("sizes.online=0", "sizes.online"),
        ("training.lr=1", "unknown 'lr'"),
        ("training.seed=1", "unknown 'seed'"),
        ("training.epochs=-1", "epochs = -1: must not be negative"),
        ("training.epochs=1.5", "epochs = 1.5: must be whole"),
        ("sweep.ppo.beta=[0.1]", "unknown 'ppo'"),
        ("sweep.dpo.beta=[]", "an option without values"),
        ("sweep.dpo.beta=[0.1,-1]", "beta = -1"),
        ("sweep.dpo.max_response=[9]", "unknown 'max_response'"),
        ("name=a/b", "name"),
        ("threads=0", "threads"),
        ("kind=party", "use one of benchmark, ablation, cost"),
        ("seeds", "expected KEY.PATH=VALUE"),
        ("=1", "expected KEY.PATH=VALUE"),
        ("seeds.first=1", "no section"),
        ('endpoints.big={url="http://x"}', "endpoints.big.model is missing"),
    ],
)
def test_invalid_values_are_one_line(file: Path, override: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(reason)) as caught:
        load_experiment(written(file), [override])
    assert "\n" not in str(caught.value)


def test_all_problems_are_told_at_once(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_experiment(written(file), ["reward=1", "cost=vibes", "training.epochs=-1", "sizes.online=0"])
    assert all(key in str(caught.value) for key in ("reward", "vibes", "epochs", "online"))


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (['responses_from = "r"', 'options_from = "o"'], "responses_from trains nothing"),
        (['options_from = "o"', "[sweep.dpo]", "beta = [0.1]"], "both choose options"),
        (["[smoke]", "seed = [1]"], "smoke: unknown key 'seed'"),
        (["smoke = 1"], "must be a section"),
        (["name = "], "not valid TOML"),
    ],
)
def test_invalid_files(file: Path, lines: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_experiment(written(file, *lines))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
        load_experiment(tmp_path / "none.toml")


@pytest.mark.parametrize("smoke", [False, True])
@pytest.mark.parametrize("file", sorted(ROOT.glob("runs/*.toml")), ids=lambda file: file.stem)
def test_the_experiments_of_the_project_are_sound(file: Path, smoke: bool) -> None:
    found = load_experiment(file, smoke=smoke)
    assert found.name == file.stem
    if isinstance(found, Experiment):
        assert all(found.options(task, method, 1) for task in found.tasks for method in found.methods)
        endpoints = {name: Endpoint(**server.model_dump()) for name, server in found.endpoints.items()}
        for user in (*found.train_users, *found.test_users):
            assert all(get_user(task, user, endpoints).name for task in found.tasks)


def test_the_small_experiments_try_at_most_eight_options_a_setting() -> None:
    for name in ("cpu", "cpu-large"):
        sweep = benchmark(ROOT / "runs" / f"{name}.toml").sweep
        assert sum(prod(map(len, options.values())) for options in sweep.values()) <= 8


def test_readings_have_their_own_keys() -> None:
    assert isinstance(load_experiment(ROOT / "runs" / "ablation.toml"), Ablation)
    assert isinstance(load_experiment(ROOT / "runs" / "cost.toml"), CostComparison)
    with pytest.raises(ConfigError, match="unknown key 'seeds'"):
        load_experiment(ROOT / "runs" / "cost.toml", ["seeds=[1]"])
