"""What the paper reports (arXiv 2601.19055, Tables 1 and 2), to stand beside our own numbers.

Its agent is Llama-3.1-8B, its users are language models and it trained on 10,000 to 20,000 edits: what can be compared
is who wins where, not how much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["TABLE_1", "TABLE_2", "PaperTable", "paper_table"]

_SETTINGS = ("summary strong", "summary weak", "email strong", "email weak")


@dataclass(frozen=True, slots=True)
class PaperTable:
    """Mean edit cost by setting (task and training user) and policy, and Max SubOpt by policy."""

    name: str
    mean_cost: Mapping[str, Mapping[str, float]]
    max_subopt: Mapping[str, float]


def _table(name: str, rows: Mapping[str, Sequence[float]]) -> PaperTable:
    costs = {setting: {policy: row[i] for policy, row in rows.items()} for i, setting in enumerate(_SETTINGS)}
    return PaperTable(name, costs, {policy: row[-1] for policy, row in rows.items()})


TABLE_1 = _table(
    "Table 1",
    {
        "base": (0.9455, 0.9445, 0.5108, 0.4923, 0.7364),
        "sft": (0.5377, 0.9304, 0.4159, 0.4539, 0.5772),
        "dpo": (1.0790, 0.8267, 0.3365, 0.3368, 0.8698),
        "early": (0.2092, 0.3586, 0.3438, 0.4864, 0.1612),
        "late": (0.2768, 0.4403, 0.4202, 0.3739, 0.1586),
    },
)
"""Tested by the user who trained."""
TABLE_2 = _table(
    "Table 2",
    {
        "base": (0.8498, 0.8558, 0.4241, 0.4239, 0.6654),
        "sft": (0.4890, 0.7698, 0.3377, 0.3866, 0.5121),
        "dpo": (0.9650, 0.7800, 0.2955, 0.3047, 0.7805),
        "early": (0.1845, 0.2577, 0.2406, 0.4001, 0.0955),
        "late": (0.2509, 0.3403, 0.3123, 0.3428, 0.0862),
    },
)
"""Tested by another user."""


def paper_table(test_user: str, train_users: Sequence[str]) -> PaperTable | None:
    """The paper's table for a test user, if it has one: the one who trained was played by the same model.

    >>> paper_table("strong", ["strong", "weak"]).name, paper_table("other", ["strong"]).name
    ('Table 1', 'Table 2')
    >>> paper_table("llama:strong", ["qwen:strong"]).name
    'Table 2'
    """
    player, _, kind = test_user.rpartition(":")
    known = {user.rpartition(":")[0] for user in train_users}
    if kind == "strong":
        return TABLE_1 if player in known else TABLE_2
    return TABLE_2 if kind == "other" else None
