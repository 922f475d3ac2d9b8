"""The edit log: completions, the decisions behind them, the edits they got, and all texts apart.

Why texts stand apart: a person may ask for theirs to be erased, and the events must survive that.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create everything the first version has."""
    position = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "completions",
        sa.Column("position", position, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("created_at", sa.DateTime(timezone=True)),
        sa.Column("decoding", sa.JSON, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_completions"),
        sa.UniqueConstraint("id", name="uq_completions_id"),
    )
    op.create_index("ix_completions_task_position", "completions", ["task", "position"])
    op.create_index("ix_completions_user_id", "completions", ["user_id"])
    op.create_table(
        "decisions",
        sa.Column("completion_id", sa.Text, nullable=False),
        sa.Column("candidates", sa.JSON, nullable=False),
        sa.Column("chosen", sa.Text, nullable=False),
        sa.Column("t", sa.BigInteger, nullable=False),
        sa.Column("selector", sa.Text, nullable=False),
        sa.Column("parameters", sa.JSON, nullable=False),
        sa.Column("scores", sa.JSON),
        sa.Column("propensities", sa.JSON),
        sa.PrimaryKeyConstraint("completion_id", name="pk_decisions"),
        sa.ForeignKeyConstraint(["completion_id"], ["completions.id"], name="fk_decisions_completion_id"),
    )
    op.create_table(
        "edits",
        sa.Column("position", position, nullable=False),
        sa.Column("completion_id", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("accepted", sa.Boolean, nullable=False),
        sa.Column("unchanged", sa.Boolean, nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("created_at", sa.DateTime(timezone=True)),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("raw", sa.Float, nullable=False),
        sa.Column("cost", sa.BigInteger, nullable=False),
        sa.Column("cost_name", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_edits"),
        sa.UniqueConstraint("completion_id", "revision", name="uq_edits_completion_id_revision"),
        sa.ForeignKeyConstraint(["completion_id"], ["completions.id"], name="fk_edits_completion_id"),
        sa.CheckConstraint("revision >= 0", name="ck_edits_revision_counts_up"),
        sa.CheckConstraint("cost >= 0", name="ck_edits_cost_not_negative"),
    )
    op.create_index("ix_edits_user_id", "edits", ["user_id"])
    op.create_table(
        "texts",
        sa.Column("completion_id", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("messages", sa.JSON),
        sa.Column("content", sa.Text),
        sa.PrimaryKeyConstraint("completion_id", "revision", name="pk_texts"),
        sa.ForeignKeyConstraint(["completion_id"], ["completions.id"], name="fk_texts_completion_id"),
    )
