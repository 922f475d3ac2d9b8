"""How many tokens a second are written: ours, a commit's and transformers' own ``generate``, in turn, in one run.

Greedy, every answer exactly as many tokens as asked for, prompts of the office task, 1, 4, 16 and 64 at once. Each
contender answers in a process of its own, on the same threads. Beside its rate stands the share of answers that are
token for token those of the first contender. The last line is one JSON object.

    python benchmarks/generate.py --rounds 3 --against 524eb1b
    python benchmarks/generate.py --rounds 1 --streams 1 4 --tokens 16
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from against import ROOT, ratio_of, source_of

Answers = list[list[int]]
Contender = Callable[[Sequence[list[int]], int], Answers]
"""Token ids of the answers to prompts [B], each of so many tokens."""


def redraft(model: Any) -> Contender:
    from redraft.lm.generate import generate_ids
    from redraft.types import Decoding

    return lambda prompts, tokens: generate_ids(model, prompts, Decoding(tokens), frozenset())


def transformers(model: Any) -> Contender:
    def answers(prompts: Sequence[list[int]], tokens: int) -> Answers:
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(each)) + each for each in prompts])
        mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in prompts])
        limits = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False, "pad_token_id": 0}
        with torch.no_grad():
            return model.generate(input_ids=ids, attention_mask=mask, **limits)[:, width:].tolist()

    return answers


CONTENDERS: dict[str, Callable[[Any], Contender]] = {"redraft": redraft, "transformers": transformers}


def work(name: str, model: str) -> None:
    """Prompts and a number of tokens on each line of standard input; answer with seconds and token ids."""
    from redraft.lm.load import load_base

    answer = CONTENDERS[name](load_base(model, Path("~/.cache/redraft").expanduser()).model)
    for line in sys.stdin:
        asked = json.loads(line)
        started = time.perf_counter()
        ids = answer(asked["prompts"], asked["tokens"])
        print(json.dumps({"seconds": time.perf_counter() - started, "ids": ids}), flush=True)


def prompts_of(model: str, count: int) -> list[list[int]]:
    from redraft.lab.bench.office import office_contexts
    from redraft.lm.encode import encode_prompt
    from redraft.lm.load import load_base

    tokenizer = load_base(model, Path("~/.cache/redraft").expanduser()).tokenizer
    return [encode_prompt(tokenizer, context.messages, None) for context in office_contexts(count, seed=0)]


class Worker:
    """A contender in a process of its own."""

    def __init__(self, name: str, model: str, source: Path, stack: ExitStack) -> None:
        command = [sys.executable, os.path.abspath(__file__), "--worker", name, "--model", model]
        environment = {**os.environ, "PYTHONPATH": str(source)}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process: Any = stack.enter_context(subprocess.Popen(command, env=environment, **pipes))
        stack.callback(self._process.stdin.close)

    def ask(self, prompts: Sequence[list[int]], tokens: int) -> tuple[float, Answers]:
        """Seconds, and the answers."""
        self._process.stdin.write(json.dumps({"prompts": prompts, "tokens": tokens}) + "\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline())
        return told["seconds"], told["ids"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", metavar="COMMIT")
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.model)
        return
    prompts = prompts_of(options.model, max(options.streams))
    with ExitStack() as stack:
        workers = {name: Worker(name, options.model, ROOT / "src", stack) for name in CONTENDERS}
        if options.against:
            workers["then"] = Worker("redraft", options.model, stack.enter_context(source_of(options.against)), stack)
        for worker in workers.values():
            worker.ask(prompts[:2], 2)  # loads and prepares
        rows = [measured(workers, prompts[:streams], options) for streams in options.streams]
    print(json.dumps({"tokens": options.tokens, "threads": torch.get_num_threads(), "rows": rows}))


def measured(workers: dict[str, Worker], prompts: Sequence[list[int]], options: argparse.Namespace) -> dict[str, Any]:
    """Tokens a second of each contender with so many prompts at once."""
    rates: dict[str, list[float]] = {name: [] for name in workers}
    answers: dict[str, Answers] = {}
    for number in range(options.rounds):
        for name in list(workers)[:: -1 if number % 2 else 1]:
            seconds, answers[name] = workers[name].ask(prompts, options.tokens)
            rates[name].append(len(prompts) * options.tokens / seconds)
    row: dict[str, Any] = {"streams": len(prompts)}
    first, *_ = workers
    for name, each in rates.items():
        same = statistics.fmean(a == b for a, b in zip(answers[name], answers[first], strict=True))
        row[name] = {"tokens_per_second": round(statistics.median(each), 1), "same_answers": same}
        beside = "" if name == first else f"  {ratio_of(rates[first], each)} times it is {first}"
        print(
            f"{len(prompts):>3} at once {name:>14} {row[name]['tokens_per_second']:8.1f} tokens/s, {same:.0%}{beside}"
        )
    return row


if __name__ == "__main__":
    main()
