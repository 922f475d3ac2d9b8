"""What a gateway keeps: statistics for selectors, API keys, conversations, idempotency keys, erasures.

Why statistics are stored although they follow from the events: every request chooses by them, and several processes
must add to the same ones. They are filled here from the events of an older log.
"""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_HOLDING = """
    SELECT c.task, d.chosen, e.cost, e.cost_name
    FROM completions c
    JOIN decisions d ON d.completion_id = c.id AND c.policy IN ('', d.chosen)
    LEFT JOIN edits e ON e.completion_id = c.id
      AND e.revision = (SELECT max(o.revision) FROM edits o WHERE o.completion_id = c.id)
"""


def upgrade() -> None:
    """Create the tables and count the past."""
    statistics = op.create_table(
        "statistics",
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("cost_name", sa.Text, nullable=False),
        sa.Column("decisions", sa.BigInteger, nullable=False),
        sa.Column("resolved", sa.BigInteger, nullable=False),
        sa.Column("total", sa.Text, nullable=False),
        sa.Column("squares", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("task", "policy", name="pk_statistics"),
    )
    op.create_table(
        "conversations",
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("task", "id", name="pk_conversations"),
    )
    op.create_table(
        "requests",
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("completion_id", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("project", "key", name="pk_requests"),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
    )
    op.create_table(
        "erasures",
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("texts", sa.Integer, nullable=False),
        sa.Column("policies", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_erasures"),
    )
    op.create_index("ix_erasures_user_id", "erasures", ["user_id"])
    rows = _counted(op.get_bind().execute(sa.text(_HOLDING)))
    if rows:
        op.bulk_insert(statistics, rows)


def _counted(found: Iterable[Any]) -> list[dict[str, object]]:
    """Statistics rows. A task priced under several costs gets an unknown one: it is counted anew at its next event."""
    sums: dict[tuple[str, str], list[int]] = {}
    names: dict[str, set[str]] = {}
    for task, policy, cost, cost_name in found:
        decisions, resolved, total, squares = sums.get((task, policy), [0, 0, 0, 0])
        units, came = cost or 0, cost is not None
        sums[task, policy] = [decisions + 1, resolved + came, total + units, squares + units**2]
        names.setdefault(task, set()).update([cost_name] if came else [])
    return [
        {
            "task": task,
            "policy": policy,
            "cost_name": min(names[task]) if len(names[task]) == 1 else "",
            "decisions": decisions,
            "resolved": resolved,
            "total": str(total),
            "squares": str(squares),
        }
        for (task, policy), (decisions, resolved, total, squares) in sums.items()
    ]
