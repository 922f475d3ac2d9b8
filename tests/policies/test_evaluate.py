"""When a policy is called better, worse, or broken."""

from __future__ import annotations

import pytest

from redraft.policies.evaluate import degenerate, verdict
from redraft.stats import Interval


@pytest.mark.parametrize(
    ("mean", "against", "broken", "says"),
    [
        (0.18, (-0.3, -0.1), 0.0, "better than base, 0.41 → 0.18"),
        (0.5, (0.01, 0.2), 0.0, "worse than base, 0.41 → 0.50"),
        (0.4, (-0.1, 0.1), 0.4, "cannot be told from base, 0.41 → 0.40"),
        (3.9, (2.0, 4.5), 0.0, "broken, do not serve: much farther"),
        (0.18, (-0.3, -0.1), 0.5, "broken, do not serve: 50% of its answers"),
    ],
)
def test_a_verdict_needs_an_interval_on_one_side(
    mean: float, against: tuple[float, float], broken: float, says: str
) -> None:
    found = verdict(Interval(mean, 0, 9), Interval(0.41, 0.3, 0.5), Interval(mean - 0.41, *against), broken)
    assert found.startswith(says)


def test_degenerate_answers_are_empty_or_repeat_themselves() -> None:
    assert degenerate(" \n")
    assert degenerate("we meet on " * 6)
    assert not degenerate("Hi Ann, we meet on Monday at ten in room two. Please bring the budget. Bob")
    assert not degenerate("Yes, yes, yes.")
