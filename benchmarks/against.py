"""Compare today's code with a commit's: its sources beside ours in one environment, and ratios pair by pair."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]


@contextmanager
def source_of(commit: str) -> Generator[Path]:
    """Check a commit out into a folder that lasts as long as the block; gives its ``src``."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "--quiet", str(folder), commit], check=True)
        try:
            yield folder / "src"
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True)


@dataclass(frozen=True)
class Ratio:
    """The median of ``pairs`` ratios with the 95 % bootstrap interval of that median."""

    median: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}] ({self.pairs} pairs)"

    def as_dict(self) -> dict[str, Any]:
        """The same, rounded for JSON."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def ratio_of(now: Sequence[float], then: Sequence[float]) -> Ratio:
    """Ratios ``now[i] / then[i]`` of measurements that were made one after the other."""
    ratios = np.asarray(now) / np.asarray(then)
    drawn = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return Ratio(float(np.median(ratios)), float(low), float(high), len(ratios))
