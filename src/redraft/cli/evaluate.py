"""``redraft evaluate``: policies against held-out human edits."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.ground import LongestAnswer, Model, Policies, Temperature, concluded, decided, kept
from redraft.cli.log import Columns, Format, Mapped, columns_of, rows_of
from redraft.cli.output import AsJson, emit, note
from redraft.cli.session import bars
from redraft.errors import DataError, NotFoundError
from redraft.files import write_json
from redraft.policies.base import BASE
from redraft.train.runs import read_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from rich.console import Console

    from redraft.config import Settings, UpstreamSettings
    from redraft.costs import Cost
    from redraft.edit_cost import Difference
    from redraft.log.formats import BadRow, Row
    from redraft.policies.adapter import AdapterHost
    from redraft.policies.evaluate import Asked, Evaluation
    from redraft.policies.store import PolicyStore
    from redraft.types import Contexts, Decoding, Interaction, Message, PolicyRef

__all__ = ["evaluate"]

AT_ONCE = 8  # requests to an upstream


def evaluate(
    task: Annotated[str, typer.Argument(help="The task whose policies to evaluate.")],
    *,
    holdout: Annotated[Path, typer.Option(help="File of interactions that no policy was trained on.")],
    form: Annotated[Format, typer.Option("--format", help="What the file is, as for import.")] = "auto",
    mapped: Mapped = None,
    columns: Columns = "",
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="A policy such as sft, sft@3, sft+consensus8 or an upstream's; repeatable. Default: the latest of "
            "every name."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use at most this many edits, from the start.")] = None,
    max_prompt: Annotated[int, typer.Option(min=2, help="Prompt tokens kept; a longer prompt loses its middle.")] = 512,
    max_response: Annotated[int, typer.Option(min=2, help="Tokens of a logged text that are scored.")] = 512,
    max_new_tokens: LongestAnswer = None,
    temperature: Temperature = None,
    cost: Annotated[str | None, typer.Option(help="Name of the cost Δ. Default: the task's.")] = None,
    policies: Policies = None,
    model: Model = None,
    out: Annotated[Path | None, typer.Option(help="Also write the result to this JSON file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare policies on held-out edits: what their answers leave to edit, likelihood, and preference."""
    from redraft.config import load_settings
    from redraft.lm.load import load_base
    from redraft.log.formats import Options
    from redraft.policies.evaluate import evaluate as evaluate_policies
    from redraft.policies.store import PolicyStore
    from redraft.train.packing import Limits

    settings = load_settings()
    store = PolicyStore(policies or settings.policies.root)
    decoding = decided(settings.decoding(task), max_new_tokens, temperature)
    adapters, asked = _chosen(policy or (), task, settings, store, decoding)
    rows = rows_of(holdout, form, Options(task, settings.log.max_text_chars, columns_of(mapped, columns)))
    delta = settings.cost_of(task, cost)
    heldout = _heldout(rows, task, holdout, limit, delta)
    learnt = _learnt(adapters, heldout)
    base = load_base(model or settings.model.name, settings.cache)
    with bars() as progress:
        evaluated, bias, first = evaluate_policies(
            base, adapters, heldout, delta, limits=Limits(*kept(base, max_prompt, max_response)),
            cache=settings.cache, decoding=decoding, progress=progress, others=asked,
        )  # fmt: skip
    data = {
        "task": task,
        "holdout": holdout.name,
        "edits": len(heldout),
        "trained_on": learnt,
        "changed": sum(not row.unchanged for row in heldout),
        "cost": delta.name,
        "decoding": decoding.logged,
        "model": base.identity,
        "anchoring_bias": bias and asdict(bias),
        "policies": [asdict(row) for row in evaluated],
        "first": first and asdict(first),
    }
    if out is not None:
        write_json(out, data, "choose another place with --out")
        note(f"result: {out}")
    emit(data, as_json, _drawn(evaluated, task, learnt, first))


def _chosen(
    names: Sequence[str], task: str, settings: Settings, store: PolicyStore, decoding: Decoding
) -> tuple[dict[str, Path], dict[str, Asked]]:
    """The trained policies of these names, or the latest of every name, with their folders; and how others answer."""
    names = names or sorted({ref.name for ref in store.list(task)})
    if not names:
        raise NotFoundError(f"task {task!r} has no policies in {store.root}: train some, or name one with --policy")
    asked = {name: found for name in names if (found := _asked(name, task, settings, store, decoding)) is not None}
    trained = _named(store, task, [name for name in names if name not in asked])
    return {str(ref): store.path(ref) for ref in trained}, asked


def _named(store: PolicyStore, task: str, names: Sequence[str]) -> list[PolicyRef]:
    """The policies of these names but for base, which is always evaluated."""
    return [store.resolve(name, task) for name in names if name not in (BASE, f"{task}/{BASE}")]


def _asked(name: str, task: str, settings: Settings, store: PolicyStore, decoding: Decoding) -> Asked | None:
    """How a policy answers that is neither base nor trained: the best of several answers, or a model of an upstream."""
    from redraft.policies.best_of import BestOf, best_of, task_judge

    for where, upstream in settings.serve.upstreams.items():
        if name in upstream.models:
            return lambda _host, contexts: _answers(name, where, upstream, contexts, decoding)
    if (reranked := best_of(name)) is None:
        return None
    of, n, by = reranked
    refs = _named(store, task, [of])

    def respond(host: AdapterHost, contexts: Contexts) -> Sequence[str]:
        policy = host.load(str(refs[0]), store.path(refs[0])) if refs else host.policy()
        judge = task_judge(by, task, settings, store.root, lambda: host)
        return BestOf(name, policy, n, judge).respond(contexts, decoding)

    return respond


def _answers(name: str, where: str, found: UpstreamSettings, contexts: Contexts, decoding: Decoding) -> Sequence[str]:
    """What an upstream's model answers, a few requests at a time; raises ``RedraftError`` where it does not."""
    from redraft.gateway.openai import ChatRequest
    from redraft.gateway.upstream import Upstream

    async def asked() -> list[str]:
        engine, turn = Upstream.of(where, found), asyncio.Semaphore(AT_ONCE)

        async def one(messages: Sequence[Message]) -> str:
            asked = {
                "model": name, "messages": [{"role": m.role, "content": m.content, **m.more} for m in messages],
                "temperature": decoding.temperature, "max_tokens": decoding.max_new_tokens,
            }  # fmt: skip
            async with turn:
                return (await engine.complete(name, ChatRequest.model_validate(asked))).text

        try:
            return await asyncio.gather(*map(one, contexts))
        finally:
            await engine.close()

    return asyncio.run(asked())


def _learnt(adapters: Mapping[str, Path], heldout: Sequence[Interaction]) -> dict[str, int]:
    """Policy → how many of these edits it was trained on, where there are any; warns of them."""
    learnt = {name: seen for name, folder in adapters.items() if (seen := _learnt_from(folder, heldout))}
    for seen in sorted(set(learnt.values())):
        those = ", ".join(name for name, count in learnt.items() if count == seen)
        note(
            f"warning: {seen} of these {len(heldout)} edits were used to train {those}: what follows shows memory. "
            "Give edits that came later"
        )
    return learnt


def _learnt_from(folder: Path, heldout: Sequence[Interaction]) -> int:
    """How many of these edits the policy in a folder was trained on, or its epoch chosen by."""
    sources = read_sources(folder)
    return sum(row.completion.id in sources for row in heldout)


def _heldout(
    rows: Iterable[Row | BadRow], task: str, holdout: Path, limit: int | None, cost: Cost
) -> list[Interaction]:
    """The edits to evaluate on, as those to train on; raises ``DataError`` when there is none."""
    from redraft.data import LeftOut

    left, others = LeftOut(lambda _: cost), Counter[str]()
    heldout = list(islice(left.of(_of_task(_edited(rows), task, others)), limit))
    if others:
        said = ", ".join(f"{name} {count:,}" for name, count in sorted(others.items()))
        note(f"warning: {others.total():,} edits left out, which are of other tasks than {task}: {said}")
    if said := str(left):
        note(said)
    if not heldout:
        raise DataError(f"--holdout {holdout}: no edits of task {task!r} in it")
    return heldout


def _of_task(edits: Iterable[Interaction], task: str, others: Counter[str]) -> Iterator[Interaction]:
    """Pass on a task's edits; ``others`` counts those of each other one, which their rows name."""
    for edit in edits:
        if edit.completion.task == task:
            yield edit
        else:
            others[edit.completion.task] += 1


def _edited(rows: Iterable[Row | BadRow]) -> Iterator[Interaction]:
    """Pick the interactions that have an edit; bad rows are reported and left out."""
    from redraft.log.formats import BadRow

    for row in rows:
        if isinstance(row, BadRow):
            note(str(row))
        elif row.interaction.edited is not None:
            yield row.interaction


def _drawn(
    evaluated: Sequence[Evaluation], task: str, learnt: Collection[str], first: Difference | None
) -> Callable[[Console], None]:
    """Draw one row for each number of each policy: side by side, intervals do not fit a terminal."""
    from redraft.policies.evaluate import recommendation

    named = {row.policy.removeprefix(f"{task}/"): row for row in evaluated}
    measures = ("distance", "against_base", "log_likelihood", "prefers_edit", "prefers_edit_over_reference")
    rows = [(m, name, found) for m in measures for name, row in named.items() if (found := getattr(row, m))]
    columns = {
        "measure": [measure.replace("_", " ") for measure, *_ in rows],
        "policy": [name for _, name, _ in rows],
        "mean": [f"{found.mean:.3f}" for *_, found in rows],
        "95 % interval": [f"{found.low:.3f} to {found.high:.3f}" for *_, found in rows],
    }
    verdicts = {name: row.verdict for name, row in named.items() if row.verdict}
    then = f"redraft diagnose {task}, to see what this log can teach"
    if learnt:
        then = f"redraft evaluate {task} --holdout FILE, with edits that no policy was trained on"
    elif any(said.startswith("better") for said in verdicts.values()):
        then = "redraft serve, to let the policies answer; only edits of their own answers tell what they cost"
    if first is not None and not learnt:
        one, other = (name.removeprefix(f"{task}/") for name in (first.one, first.other))
        means = named[one].distance.mean, named[other].distance.mean
        verdicts["recommended"] = recommendation(replace(first, one=one, other=other), *means)
    return concluded(columns, verdicts, then, [name for name, row in named.items() if row.told == "worse"])
