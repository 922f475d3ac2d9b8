"""What an answer is where its text is not all: a running stream's text so far, OpenAI's message, what is not taught.

Why ``partial`` stands beside ``content``: a response without content is not finished, and an edit has to be priced
against a text that no longer changes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns; of what was logged before, all is as it was."""
    op.add_column("texts", sa.Column("partial", sa.Text))
    op.add_column("texts", sa.Column("answer", sa.JSON))
    op.add_column("texts", sa.Column("untaught", sa.Text))
