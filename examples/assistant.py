"""A writing assistant for a terminal: it drafts, you edit, it learns from what you changed.

redraft serve --without-keys                              # in another terminal; needs [tasks.email] in redraft.toml
python examples/assistant.py "standup moves to 10 on Friday" "Ann brings the figures"
"""

import argparse
import os

import click

from redraft.client import Client
from redraft.errors import RedraftError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notes", nargs="+")
    parser.add_argument("--url", default="http://127.0.0.1:8400")
    parser.add_argument("--task", default="email")
    asked = parser.parse_args()
    prompt = "Write an email from these notes:\n" + "\n".join(f"- {note}" for note in asked.notes)
    with Client(asked.url, api_key=os.environ.get("REDRAFT_KEY")) as client:
        draft = client.complete(asked.task, [{"role": "user", "content": prompt}])
        text = click.edit(draft.text, extension=".txt")  # opens $EDITOR; None when it was closed without saving
        if text is not None:
            said = client.edit(draft.id, text.rstrip("\n"))
        elif click.confirm(f"{draft.text}\n\nSend it as it is?"):
            said = client.accept(draft.id)
        else:
            return  # silence is not approval: nothing is learnt
    print(f"{draft.policy} wrote it, your edit cost {said['cost']:.2f}")


if __name__ == "__main__":
    try:
        main()
    except RedraftError as error:
        raise SystemExit(f"assistant: {error}") from error
