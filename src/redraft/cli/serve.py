"""``redraft serve`` and ``redraft keys``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from redraft.cli.output import AsJson, emit
from redraft.cli.session import LogUrl, open_log, table
from redraft.errors import ConfigError

__all__ = ["keys_app", "serve"]

_LOCAL = ("127.0.0.1", "localhost", "::1")

keys_app = typer.Typer(help="API keys of the gateway.", no_args_is_help=True)


def serve(
    host: Annotated[str | None, typer.Option(help="Address, instead of serve.host in the settings.")] = None,
    port: Annotated[int | None, typer.Option(help="Port, instead of serve.port in the settings.")] = None,
    without_keys: Annotated[
        bool, typer.Option("--without-keys", help="Ask nobody for a key; on this machine only, to try things out.")
    ] = False,
    as_json: AsJson = False,
    log: LogUrl = None,
) -> None:
    """Serve the policies of the settings' tasks behind OpenAI's API, and learn from every edit."""
    from redraft.config import load_settings
    from redraft.gateway.server import run
    from redraft.log import EditLog

    settings = load_settings()
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    place = settings.serve.model_copy(update=given)
    if without_keys and place.host not in _LOCAL:
        raise ConfigError(f"--without-keys: everyone who reaches {place.host} could use it: serve on 127.0.0.1")
    settings = settings.model_copy(update={"serve": place})
    with EditLog.from_settings(settings, url=log) as edit_log:
        run(settings, edit_log, without_keys=without_keys, started=lambda where: _started(where, as_json))


def _started(where: dict[str, Any], as_json: bool) -> None:
    emit(where, as_json, lambda console: console.print(f"serving {', '.join(where['tasks'])} at {where['url']}"))
    sys.stdout.flush()


@keys_app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    project: Annotated[str, typer.Option(help="Project whose tasks it may use.")] = "default",
    scope: Annotated[list[str] | None, typer.Option(help="client, feedback or admin; the first two if none.")] = None,
    as_json: AsJson = False,
    log: LogUrl = None,
) -> None:
    """Make a key. It is shown now and never again: the log keeps its hash."""
    from redraft.log.keys import add_key

    with open_log(log, create=True) as edit_log, edit_log.keys() as connection:
        key, text = add_key(connection, project, name, scope or ["client", "feedback"])
    emit({"key": text, "id": key.id, "project": project, "scopes": key.scopes}, as_json, lambda c: c.print(text))


@keys_app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as redraft keys list shows it.")],
    as_json: AsJson = False,
    log: LogUrl = None,
) -> None:
    """Let a key be of no use any more; running gateways know within seconds."""
    from redraft.log.keys import revoke_key

    with open_log(log) as edit_log, edit_log.keys() as connection:
        key = revoke_key(connection, key_id)
    emit({"id": key.id, "revoked": True}, as_json, lambda c: c.print(f"{key.id} ({key.name}) is revoked"))


@keys_app.command("list")
def listing(as_json: AsJson = False, log: LogUrl = None) -> None:
    """Every key's id, project, scopes and state; never its text."""
    from redraft.log.keys import list_keys

    with open_log(log) as edit_log, edit_log.keys() as connection:
        found = list_keys(connection)
    rows = [asdict(key) | {"scopes": ",".join(key.scopes)} for key in found]
    shown: dict[str, Any] = {
        name: [row[name] for row in rows] for name in ("id", "project", "name", "scopes", "created_at")
    }
    shown["state"] = ["revoked" if key.revoked_at else "active" for key in found]
    plain = [{name: _plain(value) for name, value in asdict(key).items()} for key in found]
    emit({"keys": plain}, as_json, table(shown))


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
