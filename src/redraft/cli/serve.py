"""``redraft serve`` and ``redraft keys``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from redraft.cli.output import AsJson, emit, note
from redraft.cli.session import LogUrl, open_log, table
from redraft.errors import ConfigError

__all__ = ["keys_app", "serve"]

_LOCAL = ("127.0.0.1", "localhost", "::1")

keys_app = typer.Typer(help="API keys of the gateway.", no_args_is_help=True)


def serve(  # noqa: PLR0917 (typer's)
    host: Annotated[str | None, typer.Option(help="Address, instead of serve.host in the settings.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port, instead of serve.port in the settings.")
    ] = None,
    unix: Annotated[
        Path | None, typer.Option("--socket", help="Unix socket, instead of serve.socket in the settings.")
    ] = None,
    without_keys: Annotated[
        bool, typer.Option("--without-keys", help="Accept requests without an API key, from this machine only.")
    ] = False,
    as_json: AsJson = False,
    log: LogUrl = None,
) -> None:
    """Serve the policies of the settings' tasks behind OpenAI's API, and learn from every edit."""
    from redraft.config import load_settings

    settings = load_settings()
    given = {name: value for name, value in (("host", host), ("port", port), ("socket", unix)) if value is not None}
    place = settings.serve.model_copy(update=given)
    if host is not None or port is not None:
        place = place.model_copy(update={"socket": unix})
    if without_keys and place.socket is None and place.host not in _LOCAL:
        raise ConfigError(f"--without-keys: anyone who reaches {place.host} could use it: serve on 127.0.0.1")
    from redraft.gateway.sockets import bound

    with bound(place) as sockets:
        from redraft.gateway.server import run
        from redraft.log import EditLog
        from redraft.log.keys import list_keys

        settings = settings.model_copy(update={"serve": place})
        with EditLog.from_settings(settings, url=log) as edit_log:
            with edit_log.keys() as connection:
                usable = any(key.revoked_at is None for key in list_keys(connection))
            if not (usable or without_keys):
                note("no key yet: redraft keys add NAME, or --without-keys on this machine")
            started = partial(_started, as_json=as_json)
            run(settings, edit_log, without_keys=without_keys, started=started, sockets=sockets, read=load_settings)


def _started(where: dict[str, Any], as_json: bool) -> None:
    emit(where, as_json, lambda console: console.print(f"serving {', '.join(where['tasks'])} at {where['url']}"))
    sys.stdout.flush()


@keys_app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    project: Annotated[str, typer.Option(help="Project whose tasks it may use.")] = "default",
    scope: Annotated[
        list[str] | None, typer.Option(help="client, feedback or admin. Default: client and feedback.")
    ] = None,
    as_json: AsJson = False,
    log: LogUrl = None,
) -> None:
    """Make a key. It is shown only now: the log keeps its hash."""
    from redraft.log.keys import add_key

    with open_log(log, create=True) as edit_log, edit_log.keys() as connection:
        key, text = add_key(connection, project, name, scope or ["client", "feedback"])
    emit({"key": text, "id": key.id, "project": project, "scopes": key.scopes}, as_json, lambda c: c.print(text))


@keys_app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key, as shown by redraft keys list.")],
    as_json: AsJson = False,
    log: LogUrl = None,
) -> None:
    """Revoke a key. Running gateways refuse it within seconds."""
    from redraft.log.keys import revoke_key

    with open_log(log) as edit_log, edit_log.keys() as connection:
        key = revoke_key(connection, key_id)
    emit({"id": key.id, "revoked": True}, as_json, lambda c: c.print(f"{key.id} ({key.name}) is revoked"))


@keys_app.command("list")
def listing(as_json: AsJson = False, log: LogUrl = None) -> None:
    """List the keys: id, project, name, scopes and state. Their text is not kept."""
    from redraft.log.keys import list_keys

    with open_log(log) as edit_log, edit_log.keys() as connection:
        found = list_keys(connection)
    shown: dict[str, list[str]] = {
        "id": [key.id for key in found],
        "project": [key.project for key in found],
        "name": [key.name for key in found],
        "scopes": [", ".join(key.scopes) for key in found],
        "created": [f"{key.created_at:%Y-%m-%d}" for key in found],
        "state": ["revoked" if key.revoked_at else "active" for key in found],
    }
    emit({"keys": [asdict(key) for key in found]}, as_json, table(shown))
