"""How many tokens a second are written: ours, a commit's and other engines', in turn, in one run.

Greedy, every answer exactly as many tokens as asked for, prompts of the office task, 1, 4, 16 and 64 at once; with
``--policies 4`` also by four adapters to 16 prompts each. Each contender answers in a process of its own, on the same
threads; one that is not installed is left out and says so. Beside its rate stands the share of answers that are token
for token those of the first contender. ``--gateway`` times lone requests to the gateway's embedded engine. ``--demo``
says, of the policies in a demo's folder, how many answers change in bfloat16 and what they leave to edit. The last line
is one JSON object.

    pip install openvino-genai xllamacpp    # for those two
    python benchmarks/generate.py --rounds 3 --against 524eb1b --policies 4 --gateway
    redraft demo --seed 1 --out DEMO; python benchmarks/generate.py --streams --demo DEMO
    python benchmarks/generate.py --rounds 1 --streams 1 4 --tokens 16 --only redraft transformers
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from against import ROOT, ratio_of, source_of
from contenders import CACHED, CONTENDERS, THREADS, Asked, missing

MIXED = 16  # prompts that each policy answers
REQUESTS = 8  # to the gateway's engine, one after the other


def work(name: str, model: str, folders: Sequence[str]) -> None:
    """What to answer on each line of standard input; answer with seconds and token ids."""
    answer, gateway = None, None
    for line in sys.stdin:
        told = json.loads(line)
        if "messages" in told and gateway is None:
            gateway = asyncio.Runner()
            engine = gateway.run(embedded(model))
        if "asked" in told and answer is None:
            answer = CONTENDERS[name](model, folders)
        started = time.perf_counter()
        if "asked" in told:
            ids = answer(told["asked"], told["tokens"])
        else:
            ids = gateway.run(lone(engine, told["messages"], told["tokens"]))
        print(json.dumps({"seconds": time.perf_counter() - started, "ids": ids}), flush=True)


async def embedded(model: str) -> Any:
    """The engine of a gateway whose base model answers."""
    from redraft.gateway.embedded import Embedded
    from redraft.lm.load import load_base
    from redraft.policies.adapter import AdapterHost

    engine = Embedded(lambda: AdapterHost(load_base(model, CACHED)), {})
    await engine.start(["base"])
    return engine


async def lone(engine: Any, messages: Sequence[Mapping[str, str]], tokens: int) -> str:
    """The answer to one request, as a client gets it."""
    from redraft.gateway.openai import ChatRequest

    asked = {"model": "office", "messages": messages, "temperature": 0, "max_tokens": tokens}
    return (await engine.complete("base", ChatRequest.model_validate(asked))).text


class Worker:
    """A contender in a process of its own."""

    def __init__(self, name: str, source: Path, model: str, folders: Sequence[str], stack: ExitStack) -> None:
        command = [sys.executable, os.path.abspath(__file__), "--worker", name, "--model", model, "--folders", *folders]
        environment = {**os.environ, "PYTHONPATH": str(source)}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process: Any = stack.enter_context(subprocess.Popen(command, env=environment, **pipes))
        stack.callback(self._process.stdin.close)
        self._name = name

    def ask(self, **told: Any) -> tuple[float, Any]:
        """Seconds, and the answers."""
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith('{"seconds"'):  # an engine may print too
                answered = json.loads(line)
                return answered["seconds"], answered["ids"]
        sys.exit(f"{self._name} failed: its error stands above")


def messages_of(count: int) -> list[list[dict[str, str]]]:
    from redraft.lab.bench.office import office_contexts

    return [[message.plain for message in context.messages] for context in office_contexts(count, seed=0)]


def prompts_of(model: str, asked: Sequence[Sequence[Mapping[str, Any]]]) -> list[list[int]]:
    from redraft.lm.encode import encode_prompt
    from redraft.lm.load import load_base
    from redraft.types import Message

    tokenizer = load_base(model, CACHED).tokenizer
    return [encode_prompt(tokenizer, [Message(**message) for message in messages], None) for messages in asked]


@contextmanager
def adapters_over(model: str, count: int) -> Generator[list[str]]:
    """Folders of policies with adapters of random weights, rank 16, under which the base model still writes English."""
    import torch
    from peft import LoraConfig, get_peft_model

    from redraft.lm.load import load_base
    from redraft.train.runs import MANIFEST

    with TemporaryDirectory() as root:
        folders = [Path(root) / f"random@{number + 1}" for number in range(count)]
        for number, folder in enumerate(folders):
            base = load_base(model, CACHED)
            torch.manual_seed(number)
            lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
            adapted: Any = get_peft_model(base.model, lora)  # pyright: ignore[reportArgumentType]
            for name, part in adapted.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(part, std=0.01)
            adapted.save_pretrained(folder)
            manifest = {  # what every version reads
                "policy": f"office/{folder.name}",
                "status": "complete",
                "base": {"name": base.name, "source": base.source, "revision": base.revision},
                "data": {},
                "limits": {"prompt": 512, "response": 512},
                "options": {"method": "sft"},
            }
            (folder / MANIFEST).write_text(json.dumps(manifest), "utf-8")
        yield list(map(str, folders))


def main() -> None:
    options = arguments()
    if options.worker:
        work(options.worker, options.model, options.folders)
        return
    asked = messages_of(max([*options.streams, MIXED]))
    prompts = prompts_of(options.model, asked)
    with ExitStack() as stack:
        folders = stack.enter_context(adapters_over(options.model, options.policies)) if options.policies else []
        sources = {name: (name, ROOT / "src") for name in present(options)}
        if options.against:
            sources[options.against] = ("redraft", stack.enter_context(source_of(options.against)))
        workers = {name: Worker(*of, options.model, folders, stack) for name, of in sources.items()}
        able = {name: worker for name, worker in workers.items() if not name.startswith("llama")}
        for name, worker in workers.items():  # loads and prepares
            worker.ask(asked=[(folder, prompts[:2]) for folder in [None, *(folders if name in able else [])]], tokens=2)
        rows = [measured(workers, [(None, prompts[:streams])], options) for streams in options.streams]
        if folders:
            rows.append(measured(able, [(folder, prompts[:MIXED]) for folder in folders], options))
        if options.gateway:
            # In processes of their own: where a second thread has computed, the same request takes 1.3 times as long.
            ours = {name: Worker(*of, options.model, [], stack) for name, of in sources.items() if of[0] == "redraft"}
            rows.append(requests(ours, asked[:REQUESTS], options))
    if options.demo:
        rows += edit_costs(options.demo, options.model)
    print(json.dumps({"tokens": options.tokens, "threads": THREADS, "rounds": options.rounds, "rows": rows}))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 4, 16, 64])
    parser.add_argument("--policies", type=int, default=0, help=f"adapters that answer {MIXED} prompts each")
    parser.add_argument("--gateway", action="store_true", help="time lone requests to the embedded engine too")
    parser.add_argument("--demo", type=Path, metavar="FOLDER", help="of redraft demo: its policies in each precision")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", metavar="COMMIT")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folders", nargs="*", default=[], help=argparse.SUPPRESS)
    return parser.parse_args()


def present(options: argparse.Namespace) -> list[str]:
    """The contenders that can answer here; of the others it says why not."""
    for name in options.only:
        if why := missing(name, options.model):
            print(f"left out: {name} ({why})")
    return [name for name in options.only if not missing(name, options.model)]


def measured(workers: Mapping[str, Worker], asked: Asked, options: argparse.Namespace) -> dict[str, Any]:
    """Tokens a second of each contender with so many prompts at once."""
    streams = sum(len(prompts) for _, prompts in asked)
    seconds, answers = in_turn(workers, options.rounds, asked=asked, tokens=options.tokens)
    policies = f" by {len(asked)} policies" if len(asked) > 1 else ""
    rates = {name: [streams * options.tokens / each for each in took] for name, took in seconds.items()}
    row: dict[str, Any] = {"streams": streams, "policies": len(asked)}
    return row | table(f"{streams:>3} at once{policies}", "tokens/s", rates, answers)


def requests(workers: Mapping[str, Worker], asked: Sequence[Any], options: argparse.Namespace) -> dict[str, Any]:
    """Median time of lone requests to the embedded engine of each version, in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in workers}
    answers: dict[str, list[str]] = {name: [] for name in workers}
    for messages in asked:
        seconds, texts = in_turn(workers, options.rounds, messages=messages, tokens=options.tokens)
        for name in workers:
            times[name].append(1000 * statistics.median(seconds[name]))
            answers[name].append(texts[name])
    return {"requests": len(asked)} | table("one request", "ms", times, answers)


def edit_costs(demo: Path, model: str) -> list[dict[str, Any]]:
    """Held-out edit cost of each policy in each precision: against what the demo's user made of base's answers."""
    from redraft.costs import COSTS, DEFAULT_COST
    from redraft.lab.bench.tasks import split
    from redraft.lm.load import PRECISIONS, load_base
    from redraft.policies.adapter import AdapterHost
    from redraft.types import Decoding

    told = json.loads((demo / "demo.json").read_text("utf-8"))
    online = split("office", told["train"], told["validation"], told["online"], seed=told["seed"]).online
    lines = map(json.loads, (demo / "matrix.jsonl").read_text("utf-8").splitlines())
    edited = {line["context_id"]: line["edited"] for line in lines if line["policy"] == "base"}
    host, names = AdapterHost(load_base(model, CACHED)), ["base"]
    for folder in sorted((demo / "policies" / "email").glob("*@1")):
        host.load(folder.name, folder)
        names.append(folder.name)
    asked = [(name, [context.messages for context in online]) for name in names]
    written = [host.respond_many(asked, Decoding(told["max_new_tokens"], precision=each)) for each in PRECISIONS]
    rows: list[dict[str, Any]] = []
    for name, *answers in zip(names, *written, strict=True):
        same = statistics.fmean(a == b for a, b in zip(*answers, strict=True))
        costs = [[COSTS[DEFAULT_COST](y, edited[c.id]) for c, y in zip(online, ys, strict=True)] for ys in answers]
        means = {each: round(statistics.fmean(cost), 4) for each, cost in zip(PRECISIONS, costs, strict=True)}
        rows.append({"policy": name, "same_answers": round(same, 3), "edit_cost": means})
        print(f"{name:>10} held-out edit cost {means}, {same:.0%} the same answers in bfloat16", flush=True)
    return rows


def in_turn(workers: Mapping[str, Worker], rounds: int, **told: Any) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds in each round, and the answers; every other round in the opposite order."""
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    answers: dict[str, Any] = {}
    for number in range(rounds):
        for name in list(workers)[:: -1 if number % 2 else 1]:
            took, answers[name] = workers[name].ask(**told)
            seconds[name].append(took)
    return seconds, answers


def table(title: str, unit: str, values: Mapping[str, list[float]], answers: Mapping[str, Any]) -> dict[str, Any]:
    """Print a line for each contender, and give what it says."""
    first, *_ = values
    row: dict[str, Any] = {}
    for name, each in values.items():
        same = statistics.fmean(a == b for a, b in zip(answers[name], answers[first], strict=True))
        row[name] = {unit: round(statistics.median(each), 1), "same_answers": round(same, 3)}
        beside = "" if name == first else f"  {first} / {name} = {ratio_of(values[first], each)}"
        print(f"{title} {name:>18} {row[name][unit]:8.1f} {unit}, {same:4.0%} the same{beside}", flush=True)
    return row


if __name__ == "__main__":
    main()
