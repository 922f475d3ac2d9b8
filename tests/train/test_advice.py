"""What ``diagnose`` advises against what training then does, with SmolLM2 and a simulated user, as in the demo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from redraft.config import load_settings
from redraft.costs import COSTS
from redraft.diagnose import Trained, diagnose
from redraft.errors import DataError
from redraft.lab.bench.office import office_contexts
from redraft.lab.users import user_rng
from redraft.lab.users.catalogue import get_user
from redraft.lm.load import EMBEDDED, Base, load_base
from redraft.policies.adapter import AdapterHost
from redraft.policies.evaluate import Measure
from redraft.train.dataset import prepare
from redraft.train.fit import fit
from redraft.train.options import TrainOptions
from redraft.train.run import Run
from redraft.types import Completion, Decoding, Edit, Interaction

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COST, DECODING = COSTS["word"], Decoding(48)
OPTIONS = TrainOptions(method="sft", epochs=2, max_response=49, holdout=0.15)


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base(EMBEDDED, load_settings().cache)


def log_of(base: Base, count: int) -> list[Interaction]:
    """The base model's greedy answers to the demo's contexts, edited by its user."""
    user, contexts = get_user("email", "strong"), office_contexts(count, seed=5)
    drafts = AdapterHost(base).policy().respond([c.messages for c in contexts], DECODING)
    return [
        Interaction(
            Completion(c.id, "email", c.messages, draft, model=base.identity),
            Edit(c.id, user.edit(c, draft, t=0, rng=user_rng(0, c.id))),
        )
        for c, draft in zip(contexts, drafts, strict=True)
    ]


def silent(*_: object) -> None:
    return None


def trained(base: Base, log: Sequence[Interaction], folder: Path) -> Trained:
    data = prepare(log, base, OPTIONS)
    fit(Run(base, data, OPTIONS, folder / "sft@1", "email/sft@1", folder / "cache"))
    measure = Measure(base, log, COST, DECODING, silent)
    found = measure(folder / "sft@1", [triple.id for triple in data.heldout])
    return Trained("email/sft@1", "sft", found["distance"], found["base_distance"], len(log))


def test_64_edits_of_one_user_are_advised_for_sft_and_sft_gets_nearer(base: Base, tmp_path: Path) -> None:
    log = log_of(base, 64)
    assert diagnose(log, COST).prefer == "sft"
    made = trained(base, log, tmp_path)
    assert made.distance < 0.8 * made.base_distance
    assert diagnose(log, COST, trained=[made]).prefer == "email/sft@1"


def test_accepted_answers_alone_are_advised_against_and_nothing_gets_nearer(base: Base, tmp_path: Path) -> None:
    log = [replace(i, edit=Edit(i.completion.id, None)) for i in log_of(base, 14)]
    assert diagnose(log, COST).prefer == "base"
    made = trained(base, log, tmp_path)
    assert made.distance >= made.base_distance == pytest.approx(0, abs=0.05)
    assert diagnose(log, COST, trained=[made]).prefer == "base"


def test_contradictory_edits_of_one_context_are_advised_against_and_refused(base: Base) -> None:
    first = log_of(base, 1)[0]
    log = [
        Interaction(replace(first.completion, id=f"c{i}"), Edit(f"c{i}", f"Hi Ann, number {i} of many."))
        for i in range(64)
    ]
    found = diagnose(log, COST)
    assert (found.prefer, "one context" in found.because) == ("base", True)
    with pytest.raises(DataError, match="share one context"):
        prepare(log, base, OPTIONS)
