"""What a newcomer's first import and first command cost."""

import subprocess
import sys
from pathlib import Path

import pytest


def test_import_loads_no_torch() -> None:
    code = "import redraft, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("words", [[], ["--help"], ["init"]], ids=" ".join)
def test_the_first_commands_load_no_torch(words: list[str], tmp_path: Path) -> None:
    code = (
        f"import sys; sys.argv = ['redraft', *{words}]\n"
        "from redraft.cli.app import main\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules"
    )
    environment = {"HOME": str(tmp_path / "home"), "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment, capture_output=True)


def test_serving_remote_policies_loads_no_torch() -> None:
    code = (
        "import sys; from redraft.gateway.server import run; from redraft.log import EditLog\n"
        "from redraft.gateway.setup import make_gateway\n"
        "from redraft.config import ServeSettings, Settings, TaskSettings, UpstreamSettings\n"
        "there = UpstreamSettings(url='http://127.0.0.1:9/v1', models={'a': 'm'})\n"
        "tasks = {'email': TaskSettings(policies=('a',))}\n"
        "make_gateway(Settings(serve=ServeSettings(upstreams={'x': there}), tasks=tasks), EditLog('sqlite://'))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
