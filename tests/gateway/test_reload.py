"""New settings without a restart: what runs ends as it began, and settings that cannot be served change nothing."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_parts import ARMS, WORDS, Scripted, request, task
from test_crash import process
from test_crash import settings as process_settings

from redraft.config import Settings
from redraft.errors import ConfigError
from redraft.gateway.service import Gateway
from redraft.gateway.setup import Engines, make_gateway, reload_gateway
from redraft.log import EditLog
from redraft.select import LateEnsemble
from redraft.types import Edit


def settings(folder: Path, *policies: str, **more: Any) -> Settings:
    upstream = {"url": "http://127.0.0.1:1/v1", "models": {"small": "s", "large": "l"}, "retries": 0}
    return Settings.model_validate(
        {
            "policies": {"root": str(folder / "policies")},
            "serve": {"upstreams": {"there": upstream}},
            "tasks": {"email": {"policies": policies, **more}},
        }
    )


def test_settings_are_taken_over_or_leave_all_as_it_was(tmp_path: Path) -> None:
    async def use() -> None:
        first, engines = settings(tmp_path, "small"), Engines()
        with EditLog.from_settings(first, url=f"sqlite:///{tmp_path / 'log.db'}") as log:
            async with make_gateway(first, log, engines) as gateway:
                kept = gateway.tasks["email"].engines["small"]
                await reload_gateway(gateway, settings(tmp_path, "small", "large"), engines)
                assert gateway.models("default") == ["email", "email/small", "email/large"]
                assert gateway.tasks["email"].engines["small"] is kept  # with its open connections
                for wrong, said in (
                    (settings(tmp_path, "smal"), "'smal' is neither trained"),
                    (settings(tmp_path, "small", cost="character"), "restart it"),
                ):
                    with pytest.raises(ConfigError, match=said):
                        await reload_gateway(gateway, wrong, engines)
                    assert gateway.models("default") == ["email", "email/small", "email/large"]

    asyncio.run(use())


def test_running_answers_end_as_they_began(tmp_path: Path) -> None:
    async def use() -> None:
        with EditLog(f"sqlite:///{tmp_path / 'log.db'}") as log:
            async with Gateway(log, [task(Scripted())]) as gateway:
                reply = await gateway.complete(request(stream=True), "default")
                assert reply.pieces is not None
                said = (await anext(reply.pieces)).text
                await gateway.reload([task(Scripted(), LateEnsemble([*ARMS, "email/dpo@1"]))])
                said += "".join([piece.text async for piece in reply.pieces])
                assert said == "".join(WORDS)
                await gateway.edit(Edit(reply.completion_id, "all anew", -1), "default")
                counts = gateway.board("email").counts()
                assert [counts[arm].resolved for arm in (*ARMS, "email/dpo@1")] == [1, 0, 0]
                assert {(await gateway.complete(request(), "default")).policy for _ in range(3)} > set(ARMS)

    asyncio.run(use())


@pytest.mark.slow
def test_redraft_serve_hears_sighup(tmp_path: Path) -> None:
    file = process_settings(tmp_path, "http://127.0.0.1:1", f"sqlite:///{tmp_path / 'log.db'}")
    with process(file) as (running, url):
        file.write_text(file.read_text().replace('policies = ["plain", "kind", "brief"]', 'policies = ["kind"]'))
        running.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while [row["id"] for row in httpx.get(f"{url}/v1/models").json()["data"]] != ["email", "email/kind"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert running.poll() is None
