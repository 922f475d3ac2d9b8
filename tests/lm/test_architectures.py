"""A batch of pairs reads every architecture as the texts alone do, whichever way it takes."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_architecture_is_equal_or_refused() -> None:
    found = sweep()
    rows = list(found.rows(found.names()))
    assert [row for row in rows if row["nats"] and not float(row["nats"]) <= 1e-3] == []
    assert sum(row["way"] == "not built" for row in rows) <= 0.1 * len(rows)
