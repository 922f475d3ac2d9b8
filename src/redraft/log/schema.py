"""The tables of the edit log: events that are only ever added, and apart from them the texts.

``completions``, ``decisions`` and ``edits`` are append-only; ``position`` is the order of arrival. Every text stands
in ``texts`` under (completion, revision), where revision −1 is the response itself together with its context: setting
``content`` and ``messages`` to NULL erases what a person wrote while all events, costs and counts stay. A response
that is still being written has messages and no content; ``partial`` is what of it has been said. ``answer`` keeps
OpenAI's message where the response is not all of it, ``untaught`` why nothing learns from it (no text of a person: it
stays when texts are erased).

What can be derived is kept only where erasure would take it away: the raw distance, the cost in integer 10⁻⁹ units
(so that sums do not depend on their order) with the name of its Δ, and whether y' = y. What selectors learn from,
``statistics``, is derived too and kept because it must be at hand for every request.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, ForeignKey, Integer, Table, Text

from redraft.log.canonical import utc

__all__ = [
    "RESPONSE",
    "UtcDateTime",
    "WholeNumber",
    "completions",
    "conversations",
    "decisions",
    "edits",
    "erasures",
    "keys",
    "requests",
    "schema",
    "statistics",
    "texts",
]

RESPONSE = -1


class UtcDateTime(sa.TypeDecorator[datetime]):
    """An instant: written in UTC, read back aware of it. A naive time is taken to be UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Move to UTC; SQLite then drops the zone that is always the same."""
        return utc(value)

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> datetime | None:
        """Give the zone back where the database has none."""
        return utc(value)


class WholeNumber(sa.TypeDecorator[int]):
    """An integer of any size, which no database has: sums of squares in 10⁻¹⁸ units leave 64 bits at once."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: sa.Dialect) -> str | None:
        """Write it in decimal."""
        return None if value is None else str(value)

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> int | None:
        """Read it from decimal."""
        return None if value is None else int(value)


_Position = BigInteger().with_variant(Integer, "sqlite")
_Json = sa.JSON(none_as_null=True)

schema = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

completions = Table(
    "completions",
    schema,
    Column("position", _Position, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("task", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("user_id", Text, index=True),
    Column("created_at", UtcDateTime),
    Column("decoding", _Json, nullable=False),
    Column("metadata", _Json, nullable=False),
    sa.Index(None, "task", "position"),
)

decisions = Table(
    "decisions",
    schema,
    Column("completion_id", Text, ForeignKey("completions.id"), primary_key=True),
    Column("candidates", _Json, nullable=False),
    Column("chosen", Text, nullable=False),
    Column("t", BigInteger, nullable=False),
    Column("selector", Text, nullable=False),
    Column("parameters", _Json, nullable=False),
    Column("scores", _Json),
    Column("propensities", _Json),
)

edits = Table(
    "edits",
    schema,
    Column("position", _Position, primary_key=True),
    Column("completion_id", Text, ForeignKey("completions.id"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("accepted", sa.Boolean, nullable=False),
    Column("unchanged", sa.Boolean, nullable=False),
    Column("user_id", Text, index=True),
    Column("created_at", UtcDateTime),
    Column("metadata", _Json, nullable=False),
    Column("raw", sa.Float, nullable=False),
    Column("cost", BigInteger, nullable=False),
    Column("cost_name", Text, nullable=False),
    sa.UniqueConstraint("completion_id", "revision"),
    sa.CheckConstraint("revision >= 0", name="revision_counts_up"),
    sa.CheckConstraint("cost >= 0", name="cost_not_negative"),
)

texts = Table(
    "texts",
    schema,
    Column("completion_id", Text, ForeignKey("completions.id"), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("messages", _Json),
    Column("content", Text),
    Column("partial", Text),
    Column("answer", _Json),
    Column("untaught", Text),
)

statistics = Table(
    "statistics",
    schema,
    Column("task", Text, primary_key=True),
    Column("policy", Text, primary_key=True),
    Column("cost_name", Text, nullable=False),
    Column("decisions", BigInteger, nullable=False),
    Column("resolved", BigInteger, nullable=False),
    Column("total", WholeNumber, nullable=False),
    Column("squares", WholeNumber, nullable=False),
)
"""What selectors have learnt, under the Δ named ``cost_name``; see ``redraft.log.statistics``."""

conversations = Table(
    "conversations",
    schema,
    Column("task", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("policy", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
"""The policy that answers all of a conversation."""

requests = Table(
    "requests",
    schema,
    Column("project", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("completion_id", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
"""Idempotency keys: which revision an edit request made, so that sending it again makes no other."""

keys = Table(
    "keys",
    schema,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("scopes", _Json, nullable=False),
    Column("digest", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
)
"""API keys of the gateway: SHA-256 of the secret, never the secret."""

erasures = Table(
    "erasures",
    schema,
    Column("position", _Position, primary_key=True),
    Column("user_id", Text, nullable=False, index=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("texts", Integer, nullable=False),
    Column("policies", _Json, nullable=False),
)
"""Whose texts were erased, and which policies had been trained on them by then."""
