from __future__ import annotations

from dataclasses import replace

from bench_rows import make_rows, make_training

from redraft.lab.bench.failures import STRETCH, Faults, answer_faults, chosen_runs, collapse, curve

ROW = make_rows(seeds=[1], rounds=2)[0]
TRAINING = make_training()


def test_answers_are_counted_by_hand() -> None:
    once = "0123456789" * (STRETCH // 10) + "."
    texts = [("", "x"), (" \n", "x"), ("a b c", "a b c"), (once + once, "x"), (once, "x")]
    rows = [replace(ROW, policy="sft", response=response, edited=edited) for response, edited in texts]
    assert answer_faults([*rows, replace(ROW, policy="base")])["sft"] == Faults(
        answers=5, empty=0.4, repeating=0.2, unchanged=0.2, words=1.0
    )
    assert answer_faults([]) == {}


def test_collapse_is_the_edited_text_below_the_reference() -> None:
    runs = {(run.seed, run.method): collapse(run) for run in chosen_runs(TRAINING) if run.task == "email"}
    assert {method for (_, method), run in runs.items() if run.collapsed} == {"dpo"}
    assert (runs[2, "sft"].chosen, runs[2, "sft"].rejected) == (3 * 12 + 2, 3 * -8 + 2)
    assert collapse(replace(TRAINING[0], metrics={})).collapsed is None


def test_trials_that_were_not_chosen_are_left_out() -> None:
    assert len(chosen_runs(TRAINING)) == len(TRAINING) / 2


def test_a_curve_starts_at_the_reference() -> None:
    points = curve(TRAINING[0].history)
    assert points[0] == {"step": 0.0, "chosen_logp": 0.0, "rejected_logp": 0.0}
    assert points[1] == {"step": 8.0, "chosen_logp": 13.0, "rejected_logp": -7.0}
    assert len(points) == 4
    assert len(curve([{"step": 1, "loss": 0.5}])) == 1
