"""``redraft forget``: erase a person's texts, as the gateway's ``DELETE /v1/users`` does, without a gateway."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.ground import Policies
from redraft.cli.output import AsJson, emit
from redraft.cli.session import LogUrl, open_log
from redraft.errors import NotFoundError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["forget"]


def forget(
    user: Annotated[str, typer.Argument(help="The person, by the user_id of their completions and edits.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    policies: Policies = None,
    as_json: AsJson = False,
    log: LogUrl = None,
) -> None:
    """Erase all texts of a person. Events, costs and counts stay; policies that learnt from the texts are named."""
    from redraft.config import load_settings
    from redraft.policies.store import PolicyStore

    store = PolicyStore(policies or load_settings().policies.root)
    with open_log(log) as edit_log:
        count = len(edit_log.written_by(user))
        if count == 0:
            raise NotFoundError(f"user {user!r} is not in the log: give the user_id as completions and edits have it")
        if not yes and sys.stdin.isatty():
            question = f"Erase the texts of {user} in {count:,} completions? They cannot be restored."
            typer.confirm(question, abort=True, err=True)
        found = edit_log.erase(user, trained_on=store.trained_on)

    def render(console: Console) -> None:
        console.print(f"{found.texts:,} texts of {user} erased. Events, costs and counts stay.", markup=False)
        if found.policies:
            console.print(f"These learnt from them: {', '.join(found.policies)}", markup=False)
            console.print(f"They can still answer: delete their folders in {store.root} and train again.")
        else:
            console.print("No policy learnt from them.")

    emit({"user_id": user, "texts": found.texts, "policies": found.policies}, as_json, render)
