"""API keys: shown once, found by their text, of no use once revoked."""

from __future__ import annotations

import pytest

from redraft.errors import ConfigError, NotFoundError
from redraft.log import EditLog
from redraft.log.keys import add_key, list_keys, revoke_key


def test_a_key_is_found_by_its_text_until_it_is_revoked(log: EditLog) -> None:
    with log.keys() as connection:
        key, text = add_key(connection, "letters", "my app", ["client", "feedback", "client"])
    assert log.key(text) == key
    assert key.scopes == ("client", "feedback")
    for wrong in ("", "rd", text[:-1], text + "0", text.replace("rd-", "xx-"), "rd--", f"rd-{key.id}-"):
        assert log.key(wrong) is None
    with log.keys() as connection:
        assert revoke_key(connection, key.id).revoked_at is not None
        first = revoke_key(connection, key.id).revoked_at
        assert [found.revoked_at for found in list_keys(connection)] == [first]
    assert log.key(text) is None


def test_projects_have_their_own_keys(log: EditLog) -> None:
    with log.keys() as connection:
        for project in ("a", "b", "a"):
            add_key(connection, project, "app", ["admin"])
        assert [key.project for key in list_keys(connection)] == ["a", "b", "a"]


def test_invalid_keys(log: EditLog) -> None:
    with log.keys() as connection:
        for scopes in ([], ["client", "root"]):
            with pytest.raises(ConfigError, match="use client, feedback, admin"):
                add_key(connection, "a", "app", scopes)
        with pytest.raises(NotFoundError, match="does not exist"):
            revoke_key(connection, "none")
