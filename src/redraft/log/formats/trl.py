"""The Parquet columns of what we write for TRL; its rows are made in ``redraft.data``, and read in ``shapes``."""

from __future__ import annotations

from typing import Any

__all__ = ["parquet_schema"]


def parquet_schema(kind: str) -> Any:
    """Columns of exported rows: ``sft``, ``preference``, ``unpaired`` or ``cost``."""
    import pyarrow as pa

    messages = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    more: dict[str, list[tuple[str, Any]]] = {
        "sft": [("completion", messages)],
        "preference": [("chosen", messages), ("rejected", messages)],
        "unpaired": [("completion", messages), ("label", pa.bool_())],
        "cost": [("completion", messages), ("cost", pa.float64()), ("raw", pa.float64())],
    }
    return pa.schema([("prompt", messages), *more[kind]])
