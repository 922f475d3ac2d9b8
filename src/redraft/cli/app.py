"""``redraft``: the commands put together, and the one place where an error becomes an exit status.

Commands import what they need when they run, so that ``redraft --help`` stays quick and loads no torch. Mistyped
commands and options are typer's: it suggests the nearest.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from redraft import __version__
from redraft.cli import log, policy
from redraft.cli.bench import bench_app
from redraft.cli.demo import demo
from redraft.cli.diagnose import diagnose
from redraft.cli.evaluate import evaluate
from redraft.cli.forget import forget
from redraft.cli.init import init, welcome
from redraft.cli.ope import ope
from redraft.cli.serve import keys_app, serve
from redraft.cli.theory import theory_app
from redraft.cli.train import train_app
from redraft.errors import RedraftError
from redraft.files import full

__all__ = ["app", "main"]

EXTRAS = {
    "torch": "train",
    "transformers": "train",
    "peft": "train",
    "gguf": "train",
    "aiohttp": "serve",
    "fastapi": "serve",
    "httpx": "serve",
    "prometheus_client": "serve",
    "uvicorn": "serve",
    "scipy": "theory",
}
"""Package that a base install lacks → the extra that brings it."""

app = typer.Typer(
    name="redraft",
    help="Learn from how people edit what a model wrote.",
    pretty_exceptions_enable=False,
)
app.command()(init)
app.command("import")(log.import_file)
app.command()(diagnose)
app.add_typer(train_app, name="train")
app.command()(policy.generate)
app.add_typer(policy.policies_app, name="policies")
app.command()(evaluate)
app.command()(ope)
log.export_app.command("policy")(policy.export_policy)
app.add_typer(log.export_app, name="export")
app.command()(serve)
app.add_typer(keys_app, name="keys")
app.add_typer(bench_app, name="bench")
app.add_typer(theory_app, name="theory")
app.command()(demo)
app.add_typer(log.log_app, name="log")
app.command()(forget)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"redraft {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(  # pyright: ignore[reportUnusedFunction]
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(help="Settings file. Default: redraft.toml in the working folder."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    if config is not None:
        os.environ["REDRAFT_CONFIG"] = str(config)
    if context.invoked_subcommand is None:
        welcome()


def main() -> None:
    """Run the command line; an error that the caller can mend is one line and exit status 2."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")  # the libraries' bars; ours are enough
    try:
        app()
    except RedraftError as error:
        typer.echo(f"redraft: {error}", err=True)
        sys.exit(2)
    except (OSError, RuntimeError) as error:
        if not full(error):
            raise
        place = getattr(error, "filename", None) or Path.cwd()
        typer.echo(f"redraft: {place}: the disk is full: free some room and repeat the command", err=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        remedy = f"pip install 'redraft[{EXTRAS[error.name]}]'"
        typer.echo(f"redraft: this needs {error.name}, which is not installed: {remedy}", err=True)
        sys.exit(2)
