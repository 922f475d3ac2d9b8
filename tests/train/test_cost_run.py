"""A cost model from logged edits: features that are a response's own, a folder that comes back, a log too small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from redraft.costs import COSTS
from redraft.errors import DataError
from redraft.lm.load import Base
from redraft.lm.pooled import pooled
from redraft.train.cost_features import TEXT_FEATURES, text_features
from redraft.train.cost_run import Features, learn_cost, read_cost, write_cost
from redraft.types import Completion, Edit, Interaction, Message

WORDS = ["budget", "report", "meeting", "friday", "review", "agenda", "travel", "venue", "invoice", "training"]
COST = COSTS["word"]


def ask(number: int) -> tuple[Message, ...]:
    return (Message("user", f"Notes {number}: {WORDS[number % 10]} {WORDS[number // 10 % 10]}"),)


def interactions(n: int) -> list[Interaction]:
    """The longer the response, the less of it is changed."""
    rows: list[Interaction] = []
    for number in range(n):
        size = 1 + number % 7
        response = " ".join([WORDS[number % 10]] * size)
        edit = Edit(str(number), f"{response} and more", user_id="ann" if number % 2 else "bob")
        rows.append(Interaction(Completion(str(number), "email", ask(number), response, "base"), edit))
    return rows


def test_pooled_is_each_response_read_alone(tiny_base: Base, tmp_path: Path) -> None:
    texts = ["Dear all", "", "We meet on Friday."]
    contexts = [ask(n) for n in range(3)]
    hidden, logprobs = pooled(tiny_base, contexts, texts, tmp_path)
    for n, text in enumerate(texts):
        chat = [{"role": "user", "content": contexts[n][0].content}]
        prompt = str(tiny_base.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
        before = tiny_base.tokenizer(prompt)["input_ids"]
        ids = torch.tensor([[*before, *tiny_base.tokenizer(f"{text}<|im_end|>")["input_ids"]]])
        with torch.no_grad():
            read = tiny_base.model(input_ids=ids, output_hidden_states=True)
        states = read.hidden_states[-1][0, len(before) :]
        assert hidden[n] == pytest.approx(states.double().mean(0).numpy(), abs=1e-5)
        token = read.logits[0, len(before) - 1 : -1].log_softmax(1).gather(1, ids[0, len(before) :, None])
        assert logprobs[n] == pytest.approx(float(token.mean()), abs=1e-5)


def test_pooled_reads_a_text_once(tiny_base: Base, tmp_path: Path) -> None:
    first = pooled(tiny_base, [ask(1)], ["Dear all"], tmp_path)
    counted: list[int] = []
    again = pooled(tiny_base, [ask(1)], ["Dear all"], tmp_path, on_batch=counted.append)
    assert not counted
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))


def test_text_features_by_hand() -> None:
    x = (Message("user", "Venue booked. Budget 300."),)
    (row,) = text_features([x], ["Hi all,\n\n- venue booked!\n- 300 left?\nBest"])
    found = dict(zip(TEXT_FEATURES, row, strict=True))
    assert found["1 / words"] == pytest.approx(1 / 9)  # the bullets stand alone, as tokens of a cost do
    assert found["log lines"] == pytest.approx(np.log(4))
    assert (found["bullet lines"], found["exclamations"]) == pytest.approx((np.log1p(2), np.log1p(1)))
    assert found["digits"] == pytest.approx(1 / 7)
    assert found["context in response"] == pytest.approx(2 / 3)  # venue, booked of venue, booked, budget
    assert found["response in context"] == pytest.approx(2 / 4)  # of venue, booked, left, best
    assert (found["short first line"], found["short last line"], found["ends a sentence"]) == (1, 1, 0)
    assert np.isfinite(text_features([x], [""])).all()


def test_a_cost_model_from_a_log_and_back(tiny_base: Base, tmp_path: Path) -> None:
    rows = interactions(120)
    features = Features(tiny_base, tmp_path / "cache")
    run = learn_cost(rows, features, COST, holdout=0.25, seed=0)
    assert run.heldout.r2 is not None
    assert run.heldout.r2 > 0.9  # the cost is 2 / words
    assert run.heldout.n == sum(found.n for found in run.by_user.values()) == 30
    assert sorted(run.by_user) == ["ann", "bob"]
    write_cost(tmp_path / "cost@1", run, features, COST)
    model, manifest = read_cost(tmp_path / "cost@1")
    text, hidden = features([r.completion.messages for r in rows], [r.completion.response for r in rows])
    for one, other in zip(model.predict(text, hidden), run.model.predict(text, hidden), strict=True):
        assert np.array_equal(one, other)
    assert manifest["cost"] == "word"
    assert manifest["responses"] == 120


def test_a_log_without_room_to_hold_out_is_refused(tiny_base: Base, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        learn_cost(interactions(2), Features(tiny_base, tmp_path), COST, holdout=0.5, seed=0)
    with pytest.raises(DataError, match="not a cost model"):
        read_cost(tmp_path)


def test_an_address_is_as_short_as_costs_take_it() -> None:
    address = "www.example.org/a-long.way/of_one-word"
    row = text_features([ask(1)], [address])[0]
    log_size, inverse = (row[TEXT_FEATURES.index(name)] for name in ("log words", "1 / words"))
    assert (log_size, inverse) == (0.0, 1.0)
    assert COST(address, "five words of an answer") == 5.0


def test_a_cost_model_of_an_earlier_kind_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "cost_model.json").write_text('{"kind": "ensemble", "kappa": 1.0}')
    with pytest.raises(DataError, match="kind ensemble, which is gone: redraft train cost makes another"):
        read_cost(tmp_path)
