"""One cell of an experiment: log the edits, learn from them (``redraft.train.publish``), price what policies answer.

The demo is one cell, an experiment is many of them; both are made of these steps. Each step goes on where an
interruption left it, from the log, from a policy's folder, or from the rows that there are. Left out: what is kept
where, and which cell comes next (``protocol.py``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from redraft.errors import ConfigError
from redraft.lab.bench.matrix import MatrixRow
from redraft.lab.users import User, user_rng
from redraft.log.canonical import cleaned
from redraft.policies.base import BASE
from redraft.types import Completion, Context, Decoding, Edit, Interaction

if TYPE_CHECKING:
    from redraft.costs import Cost
    from redraft.log import EditLog
    from redraft.policies.base import Policy

__all__ = ["Answers", "Setting", "answer", "log_edits", "price"]

FLOAT32 = "float32"
BATCH = 64  # edits logged in one go: what an interruption can cost of a slow user's work


@dataclass(frozen=True, slots=True)
class Setting:
    """Which cell: one seed, one task, one training user, named as in the rows."""

    seed: int
    task: str
    train_user: str

    def __str__(self) -> str:
        return f"{self.task} {self.train_user}, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Answers:
    """One policy's responses to the contexts of a cell, in their order, and the seconds that each took on average."""

    responses: tuple[str, ...]
    seconds: float


def answer(policy: Policy, contexts: Sequence[Context], decoding: Decoding) -> Answers:
    """Let a policy answer every context, at once; in float32 where it cannot in the decoding's precision."""
    started, asked = time.perf_counter(), [context.messages for context in contexts]
    try:
        responses = policy.respond(asked, decoding)
    except ConfigError:  # what rounding changes too much about a policy is found out on the policy at hand
        if decoding.precision == FLOAT32:
            raise
        responses = policy.respond(asked, replace(decoding, precision=FLOAT32))
    return Answers(tuple(responses), round((time.perf_counter() - started) / max(1, len(contexts)), 4))


def log_edits(
    log: EditLog,
    contexts: Sequence[Context],
    respond: Callable[[Sequence[Context]], Sequence[str]],
    user: User,
    *,
    task: str,
    model: str,
    decoding: Decoding,
    policy: str = BASE,
    threads: int = 1,
) -> list[Interaction]:
    """Fill ``log`` with an edited answer to every context, and return all of its edits.

    ``respond`` is asked for the contexts that the log does not have yet; ``policy`` on ``model`` is who answers, and
    ``decoding.seed`` seeds the user as well.
    """
    known = {row.completion.id for row in log.interactions(task, edited_only=True)}
    missing = [context for context in contexts if context.id not in known]
    responses = cleaned(list(respond(missing))) if missing else ()  # models write what no log can hold, too
    for start in range(0, len(missing), BATCH):
        part, drafts = missing[start : start + BATCH], responses[start : start + BATCH]
        edits = _edited(user, part, drafts, [0] * len(part), seed=decoding.seed, threads=threads)
        log.add_many(
            Interaction(
                Completion(
                    context.id,
                    task,
                    context.messages,
                    draft,
                    policy,
                    model,
                    decoding=decoding.logged,
                    metadata={"domain": context.domain} if context.domain else {},
                ),
                Edit(context.id, edited, user_id=user.name),
            )
            for context, draft, edited in zip(part, drafts, edits, strict=True)
        )
    return list(log.interactions(task, edited_only=True))


def price(
    setting: Setting,
    policy: str,
    contexts: Sequence[Context],
    answers: Answers,
    *,
    test_users: Mapping[str, User],
    cost: Cost,
    threads: int = 1,
) -> list[MatrixRow]:
    """Let every test user (by the name that rows give it) edit every answer: rows of t = 1, 2, … for each of them."""
    rounds, drafts = range(1, len(contexts) + 1), answers.responses
    edited_by = {
        name: _edited(user, contexts, drafts, rounds, seed=setting.seed, threads=threads)
        for name, user in test_users.items()
    }
    return [
        MatrixRow(
            **asdict(setting),
            test_user=name,
            t=t,
            context_id=context.id,
            policy=policy,
            response=draft,
            edited=edited,
            raw=cost.raw(draft, edited),
            cost=cost(draft, edited),
            seconds=answers.seconds,
        )
        for name, edits in edited_by.items()
        for t, context, draft, edited in zip(rounds, contexts, drafts, edits, strict=True)
    ]


def _edited(
    user: User, contexts: Sequence[Context], drafts: Sequence[str], rounds: Sequence[int], *, seed: int, threads: int
) -> Iterator[str]:
    """Edits in the order of the contexts; several at a time where the user is a server."""

    def edit(context: Context, draft: str, t: int) -> str:
        return user.edit(context, draft, t=t, rng=user_rng(seed, context.id))

    pool = ThreadPoolExecutor(threads)
    try:
        yield from pool.map(edit, contexts, drafts, rounds)
    finally:
        pool.shutdown(cancel_futures=True)
