"""The example app, run as its docstring says: a real editor process, a real gateway."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gateway_parts import WORDS, Scripted, served, task

from redraft.gateway.app import create_app
from redraft.gateway.auth import Authority
from redraft.gateway.service import Gateway
from redraft.log import EditLog

APP = Path(__file__).parents[2] / "examples" / "assistant.py"


def run(url: str, editor: str, said: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(APP), "all is well", "--url", url]
    environment = {"PATH": "/usr/bin:/bin", "VISUAL": editor}  # which goes before EDITOR
    return subprocess.run(command, input=said, capture_output=True, text=True, timeout=60, env=environment, check=False)


def test_drafts_edits_and_learns(tmp_path: Path) -> None:
    with EditLog(f"sqlite:///{tmp_path / 'log.db'}") as log:
        app = create_app(Gateway(log, [task(Scripted())]), Authority(log.key, "default"))
        with served(app) as url:
            assert (
                run(url, "sed -i s/well/splendid/").stdout == "email/base wrote it, your edit cost 0.14\n"
            )  # one word of seven
            assert "email/sft@1 wrote it, your edit cost 0.00" in run(url, "true", "y\n").stdout
            assert "wrote it" not in run(url, "true", "n\n").stdout
        counts, edits = log.counts("email"), [row.edited for row in log.interactions("email")]
    text = "".join(WORDS)
    assert sorted(edits, key=str) == sorted([text.replace("well", "splendid"), text, None], key=str)
    assert (counts.completions, counts.edited, counts.accepted, counts.awaiting) == (3, 1, 1, 1)


def test_one_line_when_nobody_serves() -> None:
    found = run("http://127.0.0.1:9", "true")
    assert found.returncode == 1
    assert found.stderr.startswith("assistant: gateway http://127.0.0.1:9")
    assert found.stderr.count("\n") == 1
