"""A batch of pairs reads every architecture as the texts alone do, whichever way it takes."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from redraft.lm.encode import encode_prompt, encode_response
from redraft.lm.load import Base
from redraft.lm.pooled import pooled
from redraft.types import Message

FILE = Path(__file__).parents[2] / "benchmarks" / "architectures.py"
WAYS = {
    "llama": "packed",
    "gpt2": "packed",
    "mistral": "packed, windowed",
    "gemma3_text": "packed, windowed by layer",
    "gpt_oss": "packed, windowed by layer",
    "qwen3_5_text": "two passes",
    "mamba2": "two passes",
    "bloom": "two passes",
    "mpt": "two passes",
}


def sweep() -> Any:
    spec = importlib.util.spec_from_file_location("architectures", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", WAYS)
def test_pairs_read_as_texts_alone(name: str) -> None:
    found = sweep()
    way, nats = found.furthest(found.tiny(name))
    assert way == WAYS[name]
    assert nats <= 1e-3


@pytest.mark.parametrize("name", ["llama", "mistral", "cohere", "qwen3_5_text", "mamba2", "bloom"])
def test_a_cost_model_reads_texts_as_they_are_alone(name: str, tiny_base: Base, tmp_path: Path) -> None:
    found = sweep()
    found.SIZES["vocab_size"] = len(tiny_base.tokenizer)
    base = replace(tiny_base, model=found.tiny(name), name=name)
    contexts = [(Message("user", text),) for text in ("Hi", "Notes by Ann: we meet on Friday.") for _ in range(2)]
    responses = ["Dear all", "We meet."] * 2
    hidden, likely = pooled(base, contexts, responses, tmp_path)
    for n, (messages, response) in enumerate(zip(contexts, responses, strict=True)):
        prompt, text = encode_prompt(base.tokenizer, messages, 512), encode_response(base.tokenizer, response)
        with torch.no_grad():
            read = base.model(input_ids=torch.tensor([prompt + text]), use_cache=False, output_hidden_states=True)
        states = read.hidden_states[-1][0, len(prompt) :].double().mean(0).numpy()
        logp = read.logits[0, len(prompt) - 1 : -1].log_softmax(1).gather(1, torch.tensor(text)[:, None]).mean()
        assert [*hidden[n], likely[n]] == pytest.approx([*states, float(logp)], abs=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_architecture_is_equal_or_refused() -> None:
    found = sweep()
    rows = list(found.rows(found.names()))
    assert [row for row in rows if row["nats"] and not float(row["nats"]) <= 1e-3] == []
    assert sum(row["way"] == "not built" for row in rows) <= 0.1 * len(rows)
