"""How fast `redraft import` logs edits, in rows a second, and how much memory it takes.

Beside it, in the same rounds: pricing the same texts alone, on one core and on as many as an import uses; and,
with ``--against``, a commit's import in this environment. Texts are drawn from a vocabulary whose words are as frequent
as in a language (Zipf), one in eight of them changed. The last line is one JSON object.

    python benchmarks/imports.py --rows 20000 --rounds 5 --against 524eb1b
    python benchmarks/imports.py --rows 1000000 --rounds 1
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil

from against import ratio_of, source_of
from redraft.costs import COSTS

SHARE, VOCABULARY = 8, 30_000
BATCH = 2000
CORES = min(os.cpu_count() or 1, 8)


def drawn(rows: int, length: int) -> Iterator[dict[str, str]]:
    """Rows with a prompt and a response of ``length`` words, and the edit of an eighth of these."""
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfw"))
    words = np.array(["".join(rng.choice(letters, length)) for length in rng.integers(2, 11, VOCABULARY)], dtype=object)
    chances = 1 / np.arange(1, VOCABULARY + 1)
    chances /= chances.sum()
    changed = length // SHARE
    for start in range(0, rows, 1000):
        ranks = rng.choice(VOCABULARY, (1000, 2 * length), p=chances)
        for number, row in enumerate(words[ranks][: rows - start], start):
            response, edited = row[:length].copy(), row[:length].copy()
            response[::12] += ","
            edited[rng.integers(0, length, changed)] = row[length : length + changed]
            prompt = " ".join(row[length + changed :])
            yield {
                "prompt": f"{number} {prompt}",
                "response": " ".join(response) + ".",
                "edited": " ".join(edited) + ".",
            }


def imported(file: Path, folder: Path, source: Path | None) -> tuple[float, float]:
    """Seconds, and the most memory of all its processes in MB, that importing a file into a new log takes."""
    environment = {**os.environ, **({"PYTHONPATH": str(source)} if source else {})}
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        log = ["--log", f"sqlite:///{fresh}/log.db", "--task", "email"]
        command = [str(Path(sys.executable).with_name("redraft")), "import", str(file), *log]
        started, most = time.perf_counter(), 0.0
        running = psutil.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        while running.poll() is None:
            most = max(most, resident(running))
            time.sleep(0.1)
        assert running.returncode == 0
        return time.perf_counter() - started, most


def resident(process: psutil.Process) -> float:
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.Error:  # it ended meanwhile
        pass
    return total / 1e6


def price(pairs: list[tuple[str, str]]) -> None:
    for response, edited in pairs:
        COSTS["word"].priced(response, edited)


def alone(file: Path, processes: int) -> float:
    """Seconds that pricing the texts of a file takes, in batches as an import's."""
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(price, [[("a b", "a c")]] * processes * 4))  # loads the tokenizer
        with file.open(encoding="utf-8") as lines:
            pairs = [(row["response"], row["edited"]) for row in map(json.loads, lines)]
        started = time.perf_counter()
        list(pool.map(price, (pairs[at : at + BATCH] for at in range(0, len(pairs), BATCH))))
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--words", type=int, default=160, help="of a response")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", metavar="COMMIT")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"import": [], "pricing": [], f"pricing, {CORES} processes": []}
    memory = dict[str, float]()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sources: dict[str, Path | None] = {"import": None}
        if options.against:
            sources["then"] = stack.enter_context(source_of(options.against))
            seconds["then"] = []
        file = folder / "edits.jsonl"
        with file.open("w", encoding="utf-8") as lines:
            lines.writelines(json.dumps(row) + "\n" for row in drawn(options.rows, options.words))
        for _ in range(options.rounds):
            for name, source in sources.items():
                took, memory[name] = imported(file, folder, source)
                seconds[name].append(took)
            seconds["pricing"].append(alone(file, 1))
            seconds[f"pricing, {CORES} processes"].append(alone(file, CORES))
    report(seconds, memory, options)


def report(seconds: dict[str, list[float]], memory: dict[str, float], options: argparse.Namespace) -> None:
    rows = options.rows
    result: dict[str, object] = {
        "rows": rows,
        "words": options.words,
        "memory_mb": {name: round(most) for name, most in memory.items()},
    }
    for name, each in seconds.items():
        rate = rows / statistics.median(each)
        result[name] = {"rows_per_second": round(rate)}
        print(f"{name:>24} {rate:10,.0f} rows/s" + (f"  {memory[name]:6,.0f} MB" if name in memory else ""))
    for name, other in seconds.items():
        if name != "import":
            ratio = ratio_of(other, seconds["import"])
            result[f"import against {name}"] = ratio.as_dict()
            print(f"the import's rate is {ratio} times that of {name}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
