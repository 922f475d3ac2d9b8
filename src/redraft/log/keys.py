"""API keys: made once, shown once, kept as a hash, revoked and never deleted.

A key is ``rd-ID-SECRET`` with 128 random bits in its secret, so one round of SHA-256 keeps it as safe as many would:
there is nothing to guess. It belongs to one project and may do what its scopes say.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, RowMapping, insert, select, update

from redraft.errors import ConfigError, NotFoundError
from redraft.log.schema import keys

__all__ = ["SCOPES", "Key", "add_key", "find_key", "list_keys", "revoke_key"]

SCOPES = ("client", "feedback", "admin")
"""Ask for completions; send edits and read one's own; everything else."""


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key. ``id`` is its public part."""

    id: str
    project: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None = None


def add_key(connection: Connection, project: str, name: str, scopes: Sequence[str]) -> tuple[Key, str]:
    """Make a key and return it with its text, which is stored nowhere; raises ``ConfigError`` for an unknown scope."""
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise ConfigError(f"scope {(*unknown, '')[0]!r}: use {', '.join(SCOPES)}")
    key = Key(secrets.token_hex(6), project, name, tuple(dict.fromkeys(scopes)), datetime.now(UTC))
    text = f"rd-{key.id}-{secrets.token_hex(16)}"
    connection.execute(insert(keys).values(**asdict(key), digest=_digest(text)))
    return key, text


def find_key(connection: Connection, text: str) -> Key | None:
    """The key with this text; ``None`` if it is unknown or was revoked."""
    start, _, rest = text.partition("-")
    row = connection.execute(select(keys).where(keys.c.id == rest.partition("-")[0])).mappings().first()
    if start != "rd" or row is None or row["revoked_at"] is not None:
        return None
    return _key(row) if hmac.compare_digest(row["digest"], _digest(text)) else None


def list_keys(connection: Connection) -> list[Key]:
    """Every key, revoked ones too, in the order they were made."""
    return [_key(row) for row in connection.execute(select(keys).order_by(keys.c.created_at)).mappings()]


def revoke_key(connection: Connection, key_id: str) -> Key:
    """Revoke a key; raises ``NotFoundError`` if there is no key with this id."""
    now = datetime.now(UTC)
    connection.execute(update(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None)).values(revoked_at=now))
    row = connection.execute(select(keys).where(keys.c.id == key_id)).mappings().first()
    if row is None:
        raise NotFoundError(f"key {key_id!r} does not exist: see redraft keys list")
    return _key(row)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _key(row: RowMapping) -> Key:
    return Key(row["id"], row["project"], row["name"], tuple(row["scopes"]), row["created_at"], row["revoked_at"])
