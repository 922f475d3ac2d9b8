"""Ask every policy that `redraft serve` serves, whole and streamed, and compare with what `redraft generate` writes.

Needs a project with a trained task: run it where its `redraft.toml` is, with a file of interactions.

    python tools/served_as_generated.py native.jsonl [--prompts 6] [--max-tokens 64]

Exit status 1 if a text differs. In float32, one request at a time: only then are both the same arithmetic.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

REDRAFT = str(Path(sys.executable).with_name("redraft"))
ENVIRONMENT = os.environ | {"REDRAFT_PRECISION": "float32"}


def served(url: str, body: dict[str, Any]) -> tuple[str, str]:
    """The answer as a whole, and as the sum of its stream."""
    whole = httpx.post(f"{url}/chat/completions", json=body, timeout=600).raise_for_status().json()
    said = ""
    with httpx.stream("POST", f"{url}/chat/completions", json=body | {"stream": True}, timeout=600) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: {"):
                chunk = json.loads(line.removeprefix("data: "))
                said += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
    return whole["choices"][0]["message"]["content"], said


def generated(policy: str, prompts: list[Any], most: int) -> list[str]:
    """What the command line writes."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "prompts.jsonl")
        file.write_text("".join(json.dumps({"messages": prompt}) + "\n" for prompt in prompts))
        command = [
            REDRAFT,
            "generate",
            "--policy",
            policy,
            "--file",
            str(file),
            "--max-new-tokens",
            str(most),
            "--json",
        ]
        told = subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.PIPE, check=True)
    return json.loads(told.stdout)["responses"]


def main() -> int:
    """Compare and print a line for each policy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--prompts", type=int, default=6)
    parser.add_argument("--max-tokens", type=int, default=64)
    given = parser.parse_args()
    with given.file.open(encoding="utf-8") as lines:
        prompts = [json.loads(line)["messages"] for line in islice(lines, given.prompts)]
    command = [REDRAFT, "serve", "--without-keys", "--port", "0", "--json"]
    differing = 0
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as gateway:
        try:
            assert gateway.stdout is not None
            url = json.loads(gateway.stdout.readline())["url"]
            models = [model["id"] for model in httpx.get(f"{url}/models").json()["data"]]
            for policy in (model for model in models if "/" in model):
                bodies = [{"model": policy, "messages": prompt, "max_tokens": given.max_tokens} for prompt in prompts]
                written = generated(policy, prompts, given.max_tokens)
                same = sum(served(url, body) == (text, text) for body, text in zip(bodies, written, strict=True))
                differing += len(prompts) - same
                print(f"{policy}: {same} of {len(prompts)} the same, whole and streamed", flush=True)
        finally:
            gateway.terminate()
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
