from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from redraft.errors import ConfigError, DataError
from redraft.lab.bench.sources import READERS, materials
from redraft.lab.bench.tasks import TASKS, contexts, split
from redraft.lab.users import user_rng
from redraft.lab.users.catalogue import get_user
from redraft.lab.users.points import Points

DATA = Path(os.environ.get("REDRAFT_DATA", ""))
real = pytest.mark.skipif("REDRAFT_DATA" not in os.environ, reason="REDRAFT_DATA is not set")


def test_missing_and_misshapen_data_are_one_line(tmp_path: Path):
    with pytest.raises(ConfigError, match="set it to the data folder"):
        materials("wikipedia", tmp_path)
    (tmp_path / "contexts").mkdir()
    (tmp_path / "contexts" / "xquad_en.json").write_text('{"data": [{}]}')
    with pytest.raises(DataError, match="the file for 'wikipedia' has another form"):
        materials("wikipedia", tmp_path)
    (tmp_path / "contexts" / "movie_reviews.zip").write_text("no zip")
    with pytest.raises(DataError, match="the file for 'film'"):
        materials("film", tmp_path)


def test_tasks_that_need_data_say_so(tmp_path: Path):
    with pytest.raises(ConfigError, match="needs public data: set REDRAFT_DATA"):
        contexts("email", 4, seed=1)
    with pytest.raises(ConfigError, match="task 'poetry': use one of email, summary, office"):
        contexts("poetry", 4, seed=1)


def test_film_reviews_are_put_back_into_running_text(tmp_path: Path):
    (tmp_path / "contexts").mkdir()
    opening = 'a clockmaker ( like my uncle ) finds a door , " at last " .\n'
    review = f"{opening}i liked it .\nyes .\nno .\nwell .\nthe end is great ! \n"
    with zipfile.ZipFile(tmp_path / "contexts" / "movie_reviews.zip", "w") as file:
        file.writestr("movie_reviews/pos/a.txt", review)
    (film,) = materials("film", tmp_path)
    assert film.text == "A clockmaker (like my uncle) finds a door, at last. I liked it. Yes. The end is great!"
    assert film.points == ("A clockmaker (like my uncle) finds a door, at last.",)
    assert film.facts["recommended"] is True


def test_the_key_sentence_of_an_abstract_is_the_one_nearest_to_the_authors_summary(tmp_path: Path):
    (tmp_path / "contexts").mkdir()
    sentences = ["Long ago people wrote by hand.", "We propose a machine that writes letters.", "It works well today."]
    row = {"source": sentences, "rouge_scores": [0.1, 0.9, 0.2], "title": "T", "target": ["A machine writes letters."]}
    (tmp_path / "contexts" / "scitldr_train.jsonl").write_text(json.dumps(row) + "\n")
    (abstract,) = materials("abstract", tmp_path)
    assert abstract.points == (sentences[1],)
    assert abstract.text == " ".join(sentences)


@real
@pytest.mark.real
@pytest.mark.parametrize("kind", READERS)
def test_there_is_enough_of_every_kind_for_the_large_benchmark(kind: str):
    found = materials(kind, DATA)
    assert len(found) >= 130
    assert all(len(material.text.split()) <= 100 for material in found)


@real
@pytest.mark.real
@pytest.mark.parametrize("task", ["email", "summary"])
def test_contexts_are_seeded_disjoint_balanced_and_name_no_domain(task: str):
    parts = split(task, 64, 16, 60, seed=1, data=DATA)
    everything = [*parts.train, *parts.validation, *parts.online]
    assert contexts(task, 20, seed=1, data=DATA) == everything[:20]
    assert contexts(task, 20, seed=2, data=DATA) != everything[:20]
    assert len({context.id for context in everything}) == len({c.messages[0].content for c in everything}) == 140
    for domain in TASKS[task]:
        assert sum(context.domain == domain for context in everything) == 35
    request = everything[0].messages[0].content.rpartition("\n\n")[2]
    assert not any(domain in request for domain in TASKS[task])


@real
@pytest.mark.real
@pytest.mark.parametrize("task", ["email", "summary"])
@pytest.mark.parametrize("spec", ["strong", "other"])
def test_users_settle_on_every_real_context(task: str, spec: str):
    user = get_user(task, spec)
    for context in contexts(task, 400, seed=3, data=DATA):
        answers = [
            "",
            context.messages[0].content,
            "Sure! Here it is:\n- I hope you are well.\n\nBest regards,\n[Your Name]",
        ]
        for answer in answers:
            once = user.edit(context, answer, t=1, rng=user_rng(3, context.id))
            assert user.edit(context, once, t=1, rng=user_rng(3, context.id)) == once, context.id
        if context.domain != "office":
            assert all(len(point.split()) <= 24 for point in Points.of(context).points)
