"""A board is the log's statistics plus what is on its way there."""

from __future__ import annotations

from redraft.gateway.board import Board
from redraft.select import LateEnsemble
from redraft.types import Count, Decision

ARMS = ("a", "b")


def decisions(board: Board) -> dict[str, int]:
    return {arm: count.decisions for arm, count in board.counts().items()}


def test_decisions_on_their_way_spread_requests() -> None:
    board = Board(LateEnsemble(ARMS))
    assert [board.choose(str(n)).chosen for n in range(4)] == ["a", "b", "a", "b"]
    assert decisions(board) == {"a": 2, "b": 2}


def test_written_or_void_each_decision_counts_once() -> None:
    board = Board(LateEnsemble(ARMS))
    for name in ("written", "void", "open"):
        board.choose(name)
    board.settle({"a": Count(decisions=1)})  # "written" is in the log now
    board.close("written")
    board.close("void")
    board.close("unknown")
    assert decisions(board) == {"a": 2, "b": 0}


def test_what_others_wrote_is_taken_over_and_retired_policies_are_left_aside() -> None:
    board = Board(LateEnsemble(ARMS))
    board.settle({"a": Count(9, 8, 8 * 10**9, 8 * 10**18), "b": Count(9, 8, 10**9, 10**18), "gone": Count(1, 1, 1, 1)})
    decision = board.choose("x")
    assert (decision.chosen, decision.t) == ("b", 17)


def test_a_kept_decision_says_why() -> None:
    board = Board(LateEnsemble(ARMS))
    decision = board.keep("x", "b")
    expected = Decision("x", ARMS, "b", 1, "late", {"conversation": True}, None, (0.0, 1.0))
    assert decision == expected
    assert decisions(board) == {"a": 0, "b": 1}
