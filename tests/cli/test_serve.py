"""``redraft serve`` before it serves, and ``redraft keys``."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Generator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

Typed = Callable[..., CompletedProcess[str]]


@pytest.fixture
def served(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Settings with which serving would have begun, in a folder where it can."""
    begun: list[Any] = []
    monkeypatch.setattr("redraft.gateway.server.run", lambda settings, log, **_: begun.append(settings))  # pyright: ignore[reportUnknownLambdaType]
    typed("init")
    return begun


@pytest.fixture
def taken() -> Generator[int]:
    """A port that someone listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_port_in_use_is_told_before_anything_is_opened(typed: Typed, served: list[Any], taken: int) -> None:
    refused = typed("serve", "--port", str(taken), "--without-keys")
    assert (refused.returncode, refused.stdout, served) == (2, "", [])
    assert refused.stderr == f"redraft: port {taken} is in use: stop what listens there or use --port\n"
    assert not Path("redraft.db").exists()


def test_a_host_that_is_not_ours(typed: Typed, served: list[Any]) -> None:
    refused = typed("serve", "--host", "192.0.2.1")
    assert (refused.returncode, refused.stderr.count("\n"), served) == (2, 1, [])
    assert "192.0.2.1:8400: Cannot assign requested address: use another --host or --port" in refused.stderr


def test_without_a_key_it_says_how_to_get_one(typed: Typed, served: list[Any]) -> None:
    hint = "no key yet: redraft keys add NAME, or --without-keys on this machine\n"
    assert typed("serve", "--port", "0").stderr == hint
    assert typed("serve", "--port", "0", "--without-keys").stderr == ""
    key = json.loads(typed("keys", "add", "app", "--json").stdout)["id"]
    assert typed("serve", "--port", "0").stderr == ""
    assert typed("keys", "revoke", key).stdout == f"{key} (app) is revoked\n"
    assert typed("serve", "--port", "0").stderr == hint
    assert [settings.serve.port for settings in served] == [0] * 4


def test_without_keys_serves_this_machine_only(typed: Typed, served: list[Any]) -> None:
    refused = typed("serve", "--without-keys", "--host", "0.0.0.0")
    assert (refused.returncode, refused.stderr.count("\n"), served) == (2, 1, [])


def test_keys_as_json_have_times_and_no_secret(typed: Typed) -> None:
    made = json.loads(typed("keys", "add", "app", "--json").stdout)
    (key,) = json.loads(typed("keys", "list", "--json").stdout)["keys"]
    assert key["created_at"][10] == "T"
    assert {name: key[name] for name in ("id", "name", "project", "scopes", "revoked_at")} == {
        "id": made["id"],
        "name": "app",
        "project": "default",
        "scopes": ["client", "feedback"],
        "revoked_at": None,
    }
    assert made["key"] not in typed("keys", "list").stdout
