"""log π_ref of every response, computed once per (base model, data set) and kept.

π_ref is the policy that wrote the log, here the base model with its adapter switched off. Every method and every
trial of a sweep reads the same numbers, so that DPO costs one forward pass per pair and step. The cache is a folder of
``.npz`` files that may be deleted at any time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from redraft.files import CACHE, whole
from redraft.lm.load import Base, compute_dtype
from redraft.lm.logprobs import frozen_head, packed_logprobs
from redraft.lm.probe import reading_of
from redraft.train.packing import LengthBuckets, Triple, collate, fingerprint

__all__ = ["Reference", "reference_logprobs"]

Reference = dict[str, tuple[float, float]]
"""Triple id → (log π_ref(y'|x), log π_ref(y|x)) in nats; the second is 0 where y' = y."""


def reference_logprobs(
    base: Base,
    triples: Sequence[Triple],
    cache: Path,
    *,
    batch_size: int = 8,
    on_batch: Callable[[int], None] | None = None,
) -> Reference:
    """Read the cache, or run the base model over ``triples`` once and fill it; ``on_batch`` gets each batch's size."""
    key = hashlib.sha256(f"{base.identity} {compute_dtype()} {fingerprint(triples)}".encode()).hexdigest()[:24]
    file = cache / "reference" / f"{key}.npz"
    known = base.revision != "unknown"  # else the weights may be others under the same name
    values = _read(file, len(triples)) if known else None
    if values is None:
        values = _compute(base, triples, batch_size, on_batch)
        if known:
            with whole(file, CACHE) as scratch:
                np.savez(scratch, logprobs=values)
    elif on_batch:
        on_batch(len(triples))
    return {t.id: (float(row[0]), float(row[1])) for t, row in zip(triples, values, strict=True)}


@torch.no_grad()
def _compute(
    base: Base, triples: Sequence[Triple], batch_size: int, on_batch: Callable[[int], None] | None
) -> NDArray[np.float64]:
    device, dtype = base.model.device.type, compute_dtype()
    values = np.zeros((len(triples), 2))
    order = list(LengthBuckets([t.length for t in triples], batch_size, seed=0))
    reading = reading_of(base.model)
    with torch.autocast(device, dtype, enabled=dtype == torch.bfloat16):
        head = frozen_head(base.model, dtype)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = collate([triples[i] for i in rows], base.pad, pairs=True)
            scored = packed_logprobs(base.model, {k: v.to(device) for k, v in batch.items()}, head, reading)
            values[rows] = torch.stack([scored.chosen, scored.rejected], dim=1).double().cpu().numpy()
            if on_batch:
                on_batch(len(rows))
    return values


def _read(file: Path, rows: int) -> NDArray[np.float64] | None:
    if not file.exists():
        return None
    values: NDArray[np.float64] = np.load(file)["logprobs"]
    return values if values.shape == (rows, 2) else None
