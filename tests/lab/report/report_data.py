"""A run that never was, for pages to show."""

from __future__ import annotations

import numpy as np

from redraft.costs import COSTS
from redraft.lab.bench.matrix import MatrixRow
from redraft.lab.bench.office import office_contexts
from redraft.lab.report.demo import Summary
from redraft.lab.users import user_rng
from redraft.lab.users.catalogue import get_user
from redraft.stats import mean_interval
from redraft.types import Decision

ARMS = ("base", "sft", "dpo", "early")
ROUNDS = 60
DRAFT = (
    "Subject: Update\n\nDear [Recipient],\n\nI hope this email finds you well. I am writing to inform you that there "
    "have been some changes. {} Please let me know if you have any questions or concerns. I look forward to"
)
PROMPTS = {context.id: context.messages[0].content for context in office_contexts(ROUNDS, seed=1)}


def responses(t: int, right: str, first: str) -> dict[str, str]:
    lines = right.splitlines()
    sft = right if t % 3 else right.replace(lines[2], "- We will discuss it on Sunday at 7 pm.")
    return {
        "base": DRAFT.format(first),
        "sft": sft,
        "dpo": "\n".join([*lines[:4], "- and and the the the - - the the"] * 2),
        "early": right if t % 7 else right.replace("Best,", "Thanks,").replace("Hi", "Dear"),
    }


def matrix() -> list[MatrixRow]:
    user = get_user("office", "strong")
    rows: list[MatrixRow] = []
    for t, context in enumerate(office_contexts(ROUNDS, seed=1), 1):
        rng = user_rng(1, context.id)
        right = user.edit(context, "", t=t, rng=rng)
        for policy, response in responses(t, right, context.facts["facts"][0]["sentence"]).items():
            edited = user.edit(context, response, t=t, rng=rng)
            raw, cost = COSTS["word-raw"](response, edited), COSTS["word"](response, edited)
            rows.append(
                MatrixRow(1, "email", "strong", "strong", t, context.id, policy, response, edited, raw, cost, 0.1)
            )
    return rows


def decisions(rows: list[MatrixRow]) -> dict[str, list[tuple[Decision, float]]]:
    rng = np.random.default_rng(1)
    cost = {(row.policy, row.t): row.cost for row in rows}
    made: dict[str, list[tuple[Decision, float]]] = {"late": [], "uniform": []}
    for t in range(1, ROUNDS + 1):
        greedy = ARMS[t - 1] if t <= 4 else ("early" if rng.random() < 0.8 else ARMS[t % 4])
        for name, arm in (("late", greedy), ("uniform", ARMS[rng.integers(4)])):
            made[name].append((Decision(f"c{t}", ARMS, arm, t, name), cost[arm, t]))
    return made


def summary(rows: list[MatrixRow]) -> Summary:
    costs = {arm: [row.cost for row in rows if row.policy == arm] for arm in ARMS}
    made = decisions(rows)
    costs |= {name: [cost for _, cost in pairs] for name, pairs in made.items()}
    intervals = {name: mean_interval(series) for name, series in costs.items()}
    steps = range(0, 48, 4)
    return Summary(
        mean_cost={name: interval.mean for name, interval in intervals.items()},
        interval={name: [interval.low, interval.high] for name, interval in intervals.items()},
        pulls={
            name: {arm: sum(decision.chosen == arm for decision, _ in pairs) for arm in ARMS}
            for name, pairs in made.items()
        },
        seconds={"load": 21.3, "log": 70.0, "train sft": 50.2, "train dpo": 120.9, "train early": 145.0},
        seed=1,
        command="redraft demo --out demo --seed 1",
        versions={"redraft": "0.1.0", "torch": "2.13.0"},
        training={
            "sft": [{"step": s, "chosen_logp": -3.2 + 0.05 * s} for s in steps],
            "dpo": [{"step": s, "chosen_logp": -3.2 - 0.03 * s, "rejected_logp": -2.1 - 0.12 * s} for s in steps],
            "early": [{"step": s, "chosen_logp": -3.2 + 0.05 * s, "rejected_logp": -2.1 - 0.06 * s} for s in steps],
        },
        notes=["dpo lowers the edited text too: the pairs are near-duplicates <and> it repeats itself."],
    )
