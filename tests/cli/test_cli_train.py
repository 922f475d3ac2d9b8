"""``redraft train``, ``evaluate`` and ``demo`` as a person meets them: the tiny model, and what goes wrong."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_openai import SAID, fake_openai

from redraft.cli.app import main
from redraft.config import Settings, TaskSettings
from redraft.errors import ModelError

QUICK = ("--epochs", "1", "--batch-size", "4", "--rank", "2", "--max-prompt", "64", "--max-response", "24")
Ran = tuple[int, str, str]


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run ``redraft`` in a folder with a log of twelve edits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDRAFT_MODEL__CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REDRAFT_SERVE__MAX_NEW_TOKENS", "8")  # an untrained model does not stop by itself

    def run(*args: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["redraft", *args])
        with pytest.raises(SystemExit) as caught:
            main()
        written = capsys.readouterr()
        return int(caught.value.code or 0), written.out, written.err

    Path("edits.jsonl").write_text("".join(json.dumps(row(i)) + "\n" for i in range(12)))
    assert run("import", "edits.jsonl", "--task", "email")[0] == 0
    return run


def row(i: int) -> dict[str, Any]:
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"]
    prompt = f"{words[i]} {words[-i]} notes number {i} about {words[(i * 5) % 12]}"
    return {"prompt": prompt, "response": f"Dear Sir, {words[i]}", "edited": f"Hi, {words[i]} it is."}


def test_train_all_evaluate_and_policies(shell: Callable[..., Ran], tiny_model_folder: Path) -> None:
    model = ("--model", str(tiny_model_folder))
    status, out_all, err = shell("train", "all", "email", *QUICK, *model, "--json")
    assert status == 0
    trained = json.loads(out_all)["policies"]
    assert [p["policy"] for p in trained] == ["email/sft@1", "email/dpo@1", "email/early@1", "email/rl@1"]
    assert "policy 2 of 4: dpo" in err
    assert "warning: rows of this log do not say which model wrote them" in err
    status, out, _ = shell("policies", "--json")
    assert status == 0
    assert "email/early@1" in out
    assert all(p["verdict"] for p in trained)
    evaluations = [p["evaluation"] for p in trained]
    costs = {p["policy"]: p["evaluation"]["distance"] for p in trained} | {"base": evaluations[0]["base_distance"]}
    assert costs[json.loads(out_all)["recommended"]] == min(costs.values())
    assert {e["base_distance"] for e in evaluations} == {evaluations[0]["base_distance"]}
    for own in evaluations:
        low, high = own["against_base"]
        assert low <= own["distance"] - own["base_distance"] <= high
    assert evaluations[0]["decoding"] == {"max_new_tokens": 8, "temperature": 0.0, "seed": 0}
    assert served_by_default("email") == [
        "base", *sorted(p["policy"] for p in trained if p["evaluation"]["against_base"][1] < 0)
    ]  # fmt: skip
    status, out, err = shell("train", "sft", "email", *QUICK, *model, "--seed", "2", "--resume")
    assert status == 0
    assert "warning" not in err  # sft has no reference to be wrong
    assert "nothing to resume: email/sft has no interrupted run; training email/sft@2 from the start" in err
    words = out.split()
    assert all(word in words for word in ("policy", "nll", "chosen", "rejected", "seconds"))
    assert fits(out)
    assert "\nsft: " in out
    assert "\nnext: redraft evaluate email" in out
    assert Path("policies/email/sft@2").is_dir()
    holdout = ("--holdout", "edits.jsonl", "--max-new-tokens", "4", "--limit", "4")
    status, out, _ = shell("evaluate", "email", *holdout, *model, "--json", "--out", "results/e.json")
    assert status == 0
    found = json.loads(out)
    assert found["decoding"] == {"max_new_tokens": 4, "temperature": 0.0, "seed": 0}
    assert [p["policy"] for p in found["policies"]] == [
        "base",
        "email/dpo@1",
        "email/early@1",
        "email/rl@1",
        "email/sft@2",
    ]
    assert found == json.loads(Path("results/e.json").read_text())
    base = found["policies"][0]
    assert base["log_likelihood"]["low"] <= base["log_likelihood"]["mean"] < 0
    assert base["prefers_edit_over_reference"] is None
    assert [bool(p["verdict"]) for p in found["policies"]] == [False, True, True, True, True]
    status, out, _ = shell("evaluate", "email", *holdout, *model, "--policy", "sft@1", "--policy", "email/sft")
    assert status == 0
    assert fits(out)
    assert "\nsft@1: " in out
    assert "\nnext: redraft " in out


def served_by_default(task: str) -> list[str]:
    """The arms of a gateway in this folder."""
    from redraft.config import load_settings
    from redraft.gateway.setup import make_gateway
    from redraft.log import EditLog

    settings = Settings(tasks={task: TaskSettings()}, model=load_settings().model)
    with EditLog("sqlite://") as log:
        return list(make_gateway(settings, log).tasks[task].selector.arms)


def fits(out: str) -> bool:
    """Whether a terminal of 80 columns shows every word whole."""
    return "…" not in out and max(map(len, out.splitlines())) <= 80


def log_of(shape: str, n: int) -> list[dict[str, Any]]:
    """Logs as people have them: n rows."""
    rows = [row(i % 12) | {"prompt": f"{row(i % 12)['prompt']} {i * 7919 % 1009} {i * 104729 % 997}"} for i in range(n)]
    if shape == "accepted":
        return [{"prompt": r["prompt"], "response": r["response"], "accepted": True} for r in rows]
    if shape == "cut":
        return [r | {"edited": r["edited"] + " and so on" * 9} for r in rows]
    same = {"prompt": "Write to Ann.", "response": "Dear Ann!", "edited": "Hi Ann!"}
    if shape == "identical":
        return [same] * n
    return [same | {"edited": f"Hi Ann {i}!"} for i in range(n)] if shape == "conflict" else rows


LOGS = {
    "1 edit": ("edits", 1, [], [], "a single edit: nothing can be held out"),
    "1 edit, unchecked": ("edits", 1, ["--holdout", "0"], ["sft", "dpo", "early"], "learns from at least 5 contexts"),
    "3 edits": ("edits", 3, [], ["sft", "dpo", "early"], "learns from at least 5 contexts"),
    "5 edits": ("edits", 5, [], ["sft", "dpo", "early"], "learns from at least 5 contexts"),
    "20 edits": ("edits", 20, [], ["sft", "dpo", "early", "rl"], ""),
    "64 edits": ("edits", 64, [], ["sft", "dpo", "early", "rl"], ""),
    "accepted": ("accepted", 12, [], ["sft"], "no edit to train on changes a text"),
    "identical": ("identical", 12, [], [], "use --holdout 0 to train unchecked"),
    "identical, unchecked": ("identical", 12, ["--holdout", "0"], ["sft", "dpo", "early"], "leave 1: log"),
    "contradictory, unchecked": ("conflict", 12, ["--holdout", "0"], ["sft", "dpo", "early"], "leave 1: log"),
    "all cut": ("cut", 8, [], ["sft", "dpo", "early", "rl"], ""),
}
QUICKEST = ("1 edit", "1 edit, unchecked", "accepted", "identical")  # the others cost half a minute together


@pytest.mark.parametrize(
    "case", [case if case in QUICKEST else pytest.param(case, marks=pytest.mark.slow) for case in LOGS]
)
def test_train_all_ends_in_a_row_and_a_reason_for_each_method(
    shell: Callable[..., Ran], tiny_model_folder: Path, case: str
) -> None:
    shape, n, more, methods, reason = LOGS[case]
    Path("log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log_of(shape, n)))
    assert shell("import", "log.jsonl", "--task", "own")[0] == 0
    command = ("train", "all", "own", *QUICK, *more, "--model", str(tiny_model_folder), "--json")
    status, out, err = shell(*command)
    assert status == (0 if methods else 2), err
    found = json.loads(out)
    assert [p["options"]["method"] for p in found["policies"]] == methods
    assert [*methods, *(row["method"] for row in found["left_out"])] == ["sft", "dpo", "early", "rl"]
    assert all(reason in row["reason"] for row in found["left_out"][-1:])
    assert all(p["verdict"] for p in found["policies"])
    assert "Traceback" not in err
    if not methods:
        assert err.splitlines()[-1].startswith("redraft: task 'own': nothing was trained: ")
        shown = " ".join(shell(*command[:-1])[1].split())
        assert f"sft, dpo, early, rl: not trained: {found['left_out'][0]['reason']} next: redraft diagnose own" in shown
    warned = f"warning: {n} of {n} edited texts are longer than --max-response 24 tokens and were cut, so no end" in err
    assert warned == (shape == "cut")


def test_a_model_that_cannot_answer_here_is_trained_and_not_measured(
    shell: Callable[..., Ran], tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of RWKV, which keeps no cache."""

    def refuse(*_args: object, **_more: object) -> None:
        raise ModelError("keeps no cache")

    Path("log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log_of("edits", 24)))
    assert shell("import", "log.jsonl", "--task", "own")[0] == 0
    monkeypatch.setattr("redraft.lm.generate._answered", refuse)
    status, out, err = shell("train", "all", "own", *QUICK, "--model", str(tiny_model_folder), "--json")
    assert (status, "its answers are not measured: keeps no cache" in err) == (0, True)
    found = json.loads(out)
    assert [p["options"]["method"] for p in found["policies"]] == ["sft", "dpo", "early"]
    assert all("served by default" not in p["verdict"] for p in found["policies"])
    assert found["left_out"] == [{"method": "rl", "reason": "keeps no cache"}]


def test_evaluate_says_what_was_trained_on_and_what_is_of_another_task(
    shell: Callable[..., Ran], tiny_model_folder: Path
) -> None:
    model = ("--model", str(tiny_model_folder))
    rows = [row(i) for i in range(2)] + [row(i) | {"task": "letters"} for i in range(2, 5)]
    Path("mixed.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rows))
    asked = ("evaluate", "email", "--holdout", "mixed.jsonl", "--max-new-tokens", "2", *model)
    status, out, err = shell(*asked, "--policy", "base", "--json")
    assert (status, [p["policy"] for p in json.loads(out)["policies"]]) == (0, ["base"])
    assert "3 edits left out, which are of other tasks than email: letters 3" in err
    assert json.loads(out)["edits"] == 2
    assert shell("train", "sft", "email", *QUICK, *model)[0] == 0
    status, out, err = shell(*asked, "--policy", "base", "--policy", "sft")
    assert status == 0
    assert "warning: 2 of these 2 edits were used to train email/sft@1: what follows shows memory" in err
    assert "next: redraft evaluate email --holdout FILE, with edits that no policy" in " ".join(out.split())
    Path("letters.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rows[2:]))
    status, _, err = shell("evaluate", "email", "--holdout", "letters.jsonl", *model, "--policy", "email/base")
    assert (status, "no edits of task 'email' in it" in err) == (2, True)


def test_evaluate_asks_upstreams_and_the_best_of_several_answers(
    shell: Callable[..., Ran], tiny_model_folder: Path
) -> None:
    model = ("--model", str(tiny_model_folder))
    assert shell("train", "sft", "email", *QUICK, *model)[0] == 0
    rows = [row(i) | {"prompt": f"chat: {i}"} for i in range(3)]
    Path("later.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rows))
    asked = ("evaluate", "email", "--holdout", "later.jsonl", "--max-new-tokens", "4", *model, "--json")
    with fake_openai() as fake:
        Path("redraft.toml").write_text(f'[serve.upstreams.big]\nurl = "{fake.url}"\nmodels = {{ large = "big-1" }}\n')
        status, out, err = shell(*asked, "--policy", "large", "--policy", "sft+consensus3", "--policy", "sft")
    assert status == 0, err
    found = {row["policy"]: row for row in json.loads(out)["policies"]}
    assert list(found) == ["base", "email/sft@1", "large", "sft+consensus3"]
    assert {example["own"] for example in found["large"]["examples"]} == {SAID}
    assert [body["model"] for body in fake.bodies] == ["big-1"] * 3
    assert all(body["max_tokens"] == 4 for body in fake.bodies)
    assert found["large"]["log_likelihood"] is None
    assert found["large"]["standing"] == found["sft+consensus3"]["standing"] == "direct"
    status, _, err = shell(*asked, "--policy", "nobody")
    assert (status, "policy 'nobody': not in" in err) == (2, True)


def test_a_damaged_checkpoint_is_passed_over_and_a_full_disk_is_one_line(
    shell: Callable[..., Ran], tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    command = ("train", "sft", "email", *QUICK, "--model", str(tiny_model_folder), "--epochs", "3")
    save, saved = torch.save, list[str]()

    def full_at_the_third(value: Any, file: Any, *more: Any, **others: Any) -> None:
        saved.append(str(file))
        if "checkpoint-6" in str(file):
            raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")
        save(value, file, *more, **others)

    with monkeypatch.context() as patched:
        patched.setattr("torch.save", full_at_the_third)
        status, out, err = shell(*command)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1] == (
        "redraft: policies/email/sft@1.partial: the disk is full: free some room and repeat the command with --resume"
    )
    newest = Path("policies/email/sft@1.partial/checkpoints/checkpoint-4/optimizer.pt")
    newest.write_bytes(newest.read_bytes()[:-100])
    status, _, err = shell(*command, "--resume")
    assert status == 0, err
    assert "checkpoint-4, checkpoint-6 of email/sft@1 cannot be read: going on from checkpoint-2" in err


def test_sweep_makes_the_best_trial_a_policy(shell: Callable[..., Ran], tiny_model_folder: Path) -> None:
    command = ("train", "sweep", "email", "sft", "--over", "learning_rate=1e-4,1e-2", *QUICK)
    status, out, _ = shell(*command, "--model", str(tiny_model_folder), "--json")
    assert status == 0
    trials = json.loads(out)["trials"]
    assert len(trials) == 2
    manifest = json.loads(Path("policies/email/sft@1/redraft.json").read_text())
    assert manifest["evaluation"]["edits"] == manifest["data"]["heldout"] / 2  # the others chose
    assert manifest["criterion"] == "edit_cost"
    assert [trial["metrics"]["choice"] for trial in trials] == sorted(t["metrics"]["choice"] for t in trials)
    assert manifest["options"]["learning_rate"] == trials[0]["options"]["learning_rate"]
    assert manifest["policy"] == "email/sft@1"
    again = shell(*command, "--model", str(tiny_model_folder), "--json")[1]
    assert json.loads(again)["policy"] == "email/sft@1"
    assert not Path("policies/email/sft@2").exists()


def test_resume_of_all_leaves_what_is_complete(shell: Callable[..., Ran], tiny_model_folder: Path) -> None:
    command = ("train", "all", "email", *QUICK, "--model", str(tiny_model_folder))
    assert shell(*command)[0] == 0
    status, _, err = shell(*command, "--resume")
    assert status == 0
    assert "email/sft@1 is complete: nothing to resume" in err
    assert not Path("policies/email/sft@2").exists()


def test_stopped_while_its_answers_are_measured_a_run_goes_on_with_just_that(
    shell: Callable[..., Ran], tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("train", "sft", "email", *QUICK, "--model", str(tiny_model_folder))

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("redraft.policies.adapter.AdapterHost.respond_many", stopped)
        assert shell(*command)[0] == 130
    left = Path("policies/email/sft@1.partial/redraft.json").read_bytes()
    assert [path.name for path in Path("policies/email").iterdir()] == ["sft@1.partial"]
    with monkeypatch.context() as patched:
        patched.setattr("redraft.train.fit._train", stopped)  # nothing is trained again
        status, out, _ = shell(*command, "--resume", "--json")
    assert status == 0
    (policy,) = json.loads(out)["policies"]
    assert policy["evaluation"]["edits"] == policy["data"]["heldout"] / 2  # the others chose
    assert json.loads(Path("policies/email/sft@1/redraft.json").read_text()) == json.loads(left) | {
        "evaluation": policy["evaluation"]
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("train", "sft", "letters"), "letters"),
        (("train", "sft", "email", "--model", "no-such-model-here"), "no-such-model-here"),
        (("train", "sft", "email", "--batch-size", "0"), "batch_size = 0: must be positive"),
        (("train", "sweep", "email", "ppo"), "use one of sft, dpo, early"),
        (("train", "sweep", "email", "sft", "--over", "learning_rate=fast"), "expected NAME=NUMBER"),
        (("evaluate", "letters", "--holdout", "missing.jsonl"), "has no policies"),
        (("demo", "--out", "edits.jsonl/demo"), "cannot be written"),
        (("generate", "--policy", "email/sft@9", "--prompt", "x"), "email/sft@9"),
    ],
)
def test_bad_input_is_one_line_and_status_two(shell: Callable[..., Ran], arguments: tuple[str, ...], says: str) -> None:
    status, out, err = shell(*arguments)
    assert status == 2
    assert out == ""
    assert says in err
    assert err.startswith("redraft: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("method", ["sft", "all"])
@pytest.mark.parametrize("folder", ["edits.jsonl/policies", "/proc/policies"])
def test_an_unwritable_policies_folder_is_one_line(shell: Callable[..., Ran], method: str, folder: str) -> None:
    status, out, err = shell("train", method, "email", *QUICK, "--policies", folder)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"redraft: {folder}: policies cannot be written there (")
    assert "use --policies" in err


def test_models_that_did_not_write_the_log_are_named(shell: Callable[..., Ran], tiny_model_folder: Path) -> None:
    named = [row(i) | {"model": "llama:abc"} for i in range(12)]
    Path("named.jsonl").write_text("".join(json.dumps(line) + "\n" for line in named))
    assert shell("import", "named.jsonl", "--task", "named")[0] == 0
    status, _, err = shell("train", "early", "named", *QUICK, "--model", str(tiny_model_folder))
    assert status == 0
    assert "warning: this log was written by llama:abc, not by " in err
    assert "do not say" not in err


def test_a_wrong_task_is_told_before_torch_is_loaded(shell: Callable[..., Ran]) -> None:
    code = (
        "import sys; from redraft.cli.app import main\n"
        "sys.argv = ['redraft', 'train', 'sft', 'nosuch']\n"
        "try: main()\nexcept SystemExit as exit: status = exit.code\n"
        "sys.exit(3 if 'torch' in sys.modules else status)"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    assert "task 'nosuch' is not in the log: use one of email" in ran.stderr


def test_a_cost_model_is_no_policy_and_says_how_good_it_is(shell: Callable[..., Ran], tiny_model_folder: Path) -> None:
    model = ("--model", str(tiny_model_folder), "--max-prompt", "64", "--max-response", "24")
    status, out, err = shell("train", "cost", "email", *model, "--json")
    assert status == 0, err
    found = json.loads(out)
    assert Path(found["folder"]).name == "cost@1"
    assert {"r2", "rank_correlation", "coverage", "bonus"} <= found["heldout"].keys()
    assert json.loads(shell("policies", "--json")[1])["policies"] == []
    assert json.loads(shell("train", "cost", "email", *model, "--json")[1])["folder"].endswith("cost@2")
    for wrong, says in ((("nobody",), "not in the log"), (("email", "--limit", "3"), "log edits of more")):
        status, _, err = shell("train", "cost", *wrong, *model)
        assert status == 2
        assert says in err
        assert err.strip().count("\n") == 0


def test_train_rl_asks_for_a_cost_model_and_then_uses_it(shell: Callable[..., Ran], tiny_model_folder: Path) -> None:
    model = ("--model", str(tiny_model_folder))
    status, _, err = shell("train", "rl", "email", *QUICK, *model)
    assert status == 2
    assert "no cost model in policies: redraft train cost email makes one" in err
    limits = ("--max-prompt", "64", "--max-response", "24")
    assert shell("train", "cost", "email", "--holdout", "0.4", *limits, *model)[0] == 0
    status, out, _ = shell("train", "rl", "email", *QUICK, *model, "--solver", "contrast", "--samples", "2", "--json")
    assert status == 0
    policy = json.loads(out)["policies"][0]
    assert policy["policy"] == "email/rl@1"
    assert policy["options"]["solver"] == "contrast"
    status, out, _ = shell("train", "rl", "email", *QUICK, *model, "--json")
    assert status == 0
    assert "regression_loss" in json.loads(out)["policies"][0]["metrics"]
    status, _, err = shell("train", "rl", "email", *QUICK, *model, "--pessimism", "-1")
    assert status == 2
    assert "pessimism = -1.0: must not be negative" in err


def test_a_second_round_goes_on_from_a_policy_and_best_of_reranks_it(
    shell: Callable[..., Ran], tiny_model_folder: Path
) -> None:
    model = ("--model", str(tiny_model_folder))
    assert shell("train", "sft", "email", *QUICK, *model)[0] == 0
    status, out, err = shell("train", "dpo", "email", *QUICK, *model, "--start", "sft", "--json")
    assert status == 0
    (policy,) = json.loads(out)["policies"]
    assert policy["options"]["start"] == "email/sft@1"
    first = next(line for line in policy["history"] if "preference_loss" in line)
    assert first["preference_loss"] == pytest.approx(math.log(2), abs=1e-4)  # it begins as its reference
    assert "the reference is email/sft@1" in err
    status, _, err = shell("train", "dpo", "email", *QUICK, *model, "--start", "email/nobody")
    assert status == 2
    assert "policy 'email/nobody': not in policies" in err
    ask = ("generate", "--prompt", "Hi", "--max-new-tokens", "8", "--best-of", "3", *model, "--json")
    status, _, err = shell(*ask, "--policy", "email/sft")
    assert status == 2
    assert "no cost model" in err
    assert shell("train", "cost", "email", "--holdout", "0.4", "--max-response", "24", *model)[0] == 0
    status, out, _ = shell(*ask, "--policy", "email/sft")
    assert status == 0
    assert json.loads(out)["policy"] == "email/sft@1, best of 3"
    status, _, err = shell(*ask, "--policy", "base")
    assert status == 2
    assert "--best-of needs a task: use --policy TASK/NAME" in err
