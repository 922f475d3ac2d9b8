"""A real vLLM behind the gateway, two of our adapters loaded while it runs (`make vllm` starts it)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from gateway_parts import served

from redraft.config import PolicySettings, ServeSettings, Settings, TaskSettings, UpstreamSettings
from redraft.gateway.app import create_app
from redraft.gateway.auth import Authority
from redraft.gateway.setup import make_gateway
from redraft.lm.load import EMBEDDED, load_base
from redraft.log import EditLog
from redraft.train.runs import Manifest, write_manifest

URL = "http://127.0.0.1:8123/v1"
NAMES = ("email/first@1", "email/second@1")
pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two adapters of SmolLM2 with weights of their own."""
    try:
        httpx.get(f"{URL}/models", timeout=5).raise_for_status()
    except httpx.HTTPError as error:
        pytest.skip(f"no vLLM at {URL} ({type(error).__name__}): run `make vllm`")
    import torch
    from peft import LoraConfig, get_peft_model

    from redraft.config import load_settings

    root = tmp_path_factory.mktemp("policies")
    for seed, name in enumerate(NAMES):
        base = load_base(EMBEDDED, load_settings().cache)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = LoraConfig(r=8, lora_alpha=64, target_modules="all-linear", init_lora_weights=False)
            get_peft_model(base.model, config).save_pretrained(str(root / name))
        described: dict[str, Any] = {"name": base.name, "source": base.source, "revision": base.revision}
        write_manifest(root / name, Manifest(name, "complete", described, {}, {"prompt": 256}, {"method": "sft"}))
    return root


@pytest.fixture
def client(policies: Path, tmp_path: Path) -> Iterator[openai.OpenAI]:
    there = UpstreamSettings(url=URL, adapters=True, models={"base": "smollm2"})
    settings = Settings(
        policies=PolicySettings(root=policies),
        serve=ServeSettings(upstreams={"vllm": there}),
        tasks={"email": TaskSettings(policies=("base", *NAMES))},
    )
    with EditLog(f"sqlite:///{tmp_path / 'log.db'}") as log:
        app = create_app(make_gateway(settings, log), Authority(log.key, "default"))
        with served(app) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as found:
            yield found
        assert log.verify() == []


def test_adapters_are_loaded_and_chosen_among(client: openai.OpenAI) -> None:
    ask: Any = [{"role": "user", "content": "Notes: the review is on Friday. Write a short email."}]
    known = {row["id"] for row in httpx.get(f"{URL}/models").json()["data"]}
    assert set(NAMES) <= known
    answers = [
        client.chat.completions.create(model="email", messages=ask, temperature=0, max_tokens=12) for _ in range(3)
    ]
    assert {answer.model for answer in answers} == {"email/base", *NAMES}
    assert len({answer.choices[0].message.content for answer in answers}) == 3  # each with weights of its own
    stream = client.chat.completions.create(
        model=NAMES[0], messages=ask, temperature=0, max_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == next(answer for answer in answers if answer.model == NAMES[0]).choices[0].message.content
    assert chunks[-1].usage is not None
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="email/base", messages=ask, max_tokens=10**6)
