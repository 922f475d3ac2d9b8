from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bench_rows import ARMS, EXPERIMENT, MAX_SUBOPT, MEANS, make_rows, make_training, write_run

from redraft.errors import DataError
from redraft.lab.bench.matrix import MatrixRow
from redraft.lab.bench.summary import Summary, as_json
from redraft.lab.report.bench import write_bench_report

ROWS = make_rows()
EVALUATION = {
    "task": "summary", "edits": 60, "changed": 40, "model": "smollm2:b179",
    "policies": [
        {"policy": "base", "log_likelihood": {"mean": -2.843, "low": -3.0, "high": -2.7},
         "prefers_edit": {"mean": 0.625, "low": 0.5, "high": 0.75}, "prefers_edit_over_reference": None,
         "distance": {"mean": 0.914, "low": 0.9, "high": 0.93}, "examples": []},
    ],
}  # fmt: skip
FIGURES = {"cost-strong", "regret", "pulls", "alpha", "subsets", "horizon", "training"}
ABLATION = {"name": "ablation", "kind": "ablation", "rows_from": "results/run", "rounds": [25, 50],
            "arms": [["base", "sft"], ["base", "sft", "dpo", "early"]], "alphas": [0.0, 0.1, 150.0]}  # fmt: skip
COSTS = {"name": "cost", "kind": "cost", "rows_from": "results/run", "costs": ["word", "character"], "encoder": None}


class _Nesting(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(page: str) -> set[str]:
    """The tags of a page that is whole, runs nothing and fetches nothing."""
    parser = _Nesting()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    assert not parser.seen & {"script", "link", "img", "iframe", "object"}
    assert not re.findall(r"(?:src|href)\s*=\s*[\"'](?!#)", page)
    return parser.seen


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("results") / "run", ROWS, training=make_training())
    (folder / "real").mkdir()
    (folder / "real" / "defacto.json").write_text(json.dumps(EVALUATION))
    return folder


@pytest.fixture(scope="module")
def summary(folder: Path) -> Summary:
    return write_bench_report(folder)


@pytest.fixture(scope="module")
def page(folder: Path, summary: Summary) -> str:
    assert summary.name == "synthetic"
    return (folder / "report.html").read_text("utf-8")


def test_the_summary_is_what_its_readers_expect(folder: Path, summary: Summary):
    written = json.loads((folder / "summary.json").read_text("utf-8"))
    assert written == as_json(summary)
    for name, means in MEANS.items():
        setting = written["settings"][name]
        assert {arm: setting["mean_cost"][arm] for arm in ARMS} == pytest.approx(means)
        assert (
            set(setting["mean_cost"]) == set(setting["std"]) == set(setting["interval"]) == {*ARMS, "late", "uniform"}
        )
    found = {arm: written["max_subopt"][arm]["mean"] for arm in ARMS}
    assert found == pytest.approx(MAX_SUBOPT)
    assert written["missing"] == []
    assert written["complete"] == {"cells": 12, "planned": 12}


def test_the_page_is_whole_and_has_its_sections(page: str):
    assert checked(page) >= {"table", "svg", "del", "ins", "figure"}
    titles = re.findall(r"<h2.*?>(.*?)</h2>", page)
    assert titles == [
        "Edit cost, test user strong", "What was claimed, test user strong", "Beside the paper&#39;s Table 1",
        "Who beats whom, test user strong", "What finding out costs", "How much α matters", "Which arms it needs",
        "How many rounds it needs", "Training", "Before and after", "Failures", "Real edits", "How it was made",
    ]  # fmt: skip


def test_the_page_says_what_happened(page: str, summary: Summary):
    lead = re.search(r'<p class="lead">(.*?)</p>', page, re.DOTALL)
    assert lead is not None
    late = sum(setting.mean_cost["late"] for setting in summary.settings.values()) / 4
    assert '<p class="message">Answers by early cost 0.33 to edit; those of the base model cost 0.70.</p>' in page
    assert f"while serving, paid {late:.3f}." in lead[1]
    assert "costs 0.22 to 0.50 of the base model" in lead[1]
    assert "at most 0.6 of the base model: in 4 of 4 settings" in page
    assert "<strong>0.250 ± 0.000</strong>" in page  # dpo wins email strong
    assert "<td>0.546</td>" not in page
    assert re.search(
        r"email strong</th><td>dpo &lt; .*?<td>dpo &lt; early &lt; sft &lt; late &lt; base</td><td>yes", page
    )
    assert "−2.843 [−3.000, −2.700]" in page
    assert "redraft bench run runs/synthetic.toml" in page


def test_tables_stand_in_markdown_as_well(folder: Path, page: str):
    text = (folder / "tables.md").read_text("utf-8")
    assert re.search(r"\| dpo \| 1\.000 ± 0\.000 \| .*\| \*\*0\.250 ± 0\.000\*\* \|", text)
    assert "The paper's Table 1" in text
    assert re.search(r"\| early − base \| \*\*−0\.700 \[", text)  # the whole interval is below 0
    assert re.search(r"\| dpo − base \| \+0\.100 \[", text)
    assert set(re.findall(r"\]\(figures/(.*?)\.svg\)", text)) == FIGURES
    assert text.count("|---|") == page.count("<table")


def test_figures_are_files_that_need_no_page(folder: Path, page: str):
    files = {file.stem: file.read_text("utf-8") for file in (folder / "figures").iterdir()}
    assert set(files) == FIGURES
    for svg in files.values():
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert "prefers-color-scheme: dark" in svg
    assert page.count("<figure") == len(files)


def test_a_folder_can_be_copied_anywhere(folder: Path, page: str, tmp_path: Path):
    """Every link of its files leads to a place inside it, and where they lay is not in them."""
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    for text in (page, (copy / "tables.md").read_text("utf-8")):
        links = re.findall(r"(?:src|href)=\"([^\"]*)\"|\]\(([^)]*)\)", text)
        for link in (one or other for one, other in links):
            assert f'id="{link[1:]}"' in text if link.startswith("#") else (copy / link).is_file(), link
        assert str(folder.parent) not in text


def test_examples_and_failures_are_shown_for_every_setting_and_policy(page: str):
    assert re.findall(r"<h3>(.*?, round 30)</h3>", page) == [f"{name}, seed 1, round 30" for name in MEANS]
    assert page.count('<article class="answer">') == 2 + (len(MEANS) + 1) * len(ARMS)
    assert re.search(r"email weak, dpo</th><td>180</td><td>5%</td><td>95%</td>", page)
    assert re.search(r"summary weak, dpo</th><td>[^<]*</td><td>[^<]*</td><td>3 of 3</td>", page)


def test_the_same_rows_give_the_same_report(tmp_path: Path):
    rows = make_rows({"email weak": MEANS["email weak"]}, rounds=8)
    experiment = {**EXPERIMENT, "tasks": ["email"], "train_users": ["weak"], "sizes": {"online": 8}}
    first = write_run(tmp_path / "a" / "run", rows, experiment)
    second = write_run(tmp_path / "b" / "run", rows[::-1], experiment)
    write_bench_report(first)
    write_bench_report(second)
    for name in ("report.html", "tables.md", "summary.json"):
        assert (first / name).read_text() == (second / name).read_text()


def nothing(_: MatrixRow) -> bool:
    return False


def no_whole_cell(row: MatrixRow) -> bool:
    return row.t < 60


def one_task(row: MatrixRow) -> bool:
    return row.seed == 1 and row.task == "email"


def one_seed_to_go(row: MatrixRow) -> bool:
    return row.seed < 3 or row.policy == "base"


@pytest.mark.parametrize(
    ("keep", "settings", "said"),
    [
        (nothing, [], "None of 12 cells is complete yet"),
        (no_whole_cell, [], "None of 12"),
        (one_task, ["email strong", "email weak"], "2 of 12 cells"),
        (one_seed_to_go, list(MEANS), "8 of 12 cells"),
    ],
)
def test_a_run_that_goes_on(tmp_path: Path, keep: Callable[[MatrixRow], bool], settings: list[str], said: str):
    folder = write_run(tmp_path / "run", [row for row in ROWS if keep(row)])
    summary = write_bench_report(folder)
    page = (folder / "report.html").read_text("utf-8")
    checked(page)
    assert list(summary.settings) == settings
    assert said in page
    assert len(summary.missing) == 12 - summary.complete.cells
    assert "Not finished" in page
    assert bool(summary.max_subopt) == (len(settings) == 4)
    assert f"Missing: {summary.missing[0]}" in (folder / "tables.md").read_text("utf-8")


def test_one_table_for_each_test_user(tmp_path: Path):
    """The other user's edits cost half: the paper's second table stands beside them."""
    users = ["strong", "other"]
    rows = [
        row if row.test_user == "strong" else replace(row, cost=row.cost / 2)
        for row in make_rows(rounds=6, test_users=users)
    ]
    experiment = {**EXPERIMENT, "test_users": users, "sizes": {"online": 6}}
    summary = write_bench_report(write_run(tmp_path / "run", rows, experiment))
    assert summary.test_user == "strong"
    assert summary.settings == summary.tables["strong"].settings
    other = summary.tables["other"]
    assert other.settings["email weak"].mean_cost["base"] == pytest.approx(0.25)
    papers = [table.paper for table in (summary.tables["strong"], other)]
    assert [paper and paper.name for paper in papers] == ["Table 1", "Table 2"]
    assert {file.stem for file in (tmp_path / "run" / "figures").iterdir()} >= {"cost-strong", "cost-other"}


def test_an_experiment_of_other_settings_stands_without_the_paper(tmp_path: Path):
    """As assumption.toml: users the paper has not, one seed, and one trained policy."""
    means = {"email strong+noise=0.5": {"base": 0.5, "sft": 0.7}}
    experiment = {**EXPERIMENT, "tasks": ["email"], "train_users": ["strong+noise=0.5"], "test_users": ["weak"],
                  "seeds": [1], "methods": ["sft"], "sizes": {"online": 6}}  # fmt: skip
    rows = make_rows(means, seeds=[1], rounds=6, test_users=["weak"])
    folder = write_run(tmp_path / "run", rows, experiment)
    summary = write_bench_report(folder)
    assert summary.tables["weak"].paper is None
    assert summary.settings["email strong+noise=0.5"].std["sft"] is None
    page = (folder / "report.html").read_text("utf-8")
    assert "at most 0.6 of the base model: in 0 of 1 settings" in page
    assert "Not in email strong+noise=0.5 (+0.400)" in page
    assert "over 1 seed." in page


def test_rows_that_are_not_counted_are_said(tmp_path: Path):
    """One stands twice, and the experiment no longer names early."""
    rows = make_rows({"email weak": MEANS["email weak"]}, seeds=[1], rounds=4)
    experiment = {**EXPERIMENT, "tasks": ["email"], "train_users": ["weak"], "seeds": [1], "methods": ["sft", "dpo"],
                  "sizes": {"online": 4}}  # fmt: skip
    summary = write_bench_report(write_run(tmp_path / "run", [*rows, rows[0]], experiment))
    assert summary.notes[0].startswith("5 rows are left out: another row stands for the same answer")
    assert set(summary.settings["email weak"].mean_cost) == {"base", "sft", "dpo", "late", "uniform"}


def test_an_ablation_reads_the_rows_of_another_run(folder: Path):
    out = write_run(folder.parent / "ablation", [], ABLATION)
    replays = write_bench_report(out).replays
    assert replays is not None
    found = replays["summary strong"]
    assert [row.arms for row in found.subsets] == ABLATION["arms"]
    assert (found.alpha.alphas, found.horizon.rounds) == ([0.0, 0.1, 150.0], [25, 50])
    page = (out / "report.html").read_text("utf-8")
    checked(page)
    assert re.findall(r"<h2.*?>(.*?)</h2>", page)[:3] == [
        "How much α matters",
        "Which arms it needs",
        "How many rounds it needs",
    ]
    assert "those of run" in page


def test_costs_are_compared_and_what_cannot_be_had_is_said(folder: Path):
    out = write_run(
        folder.parent / "cost", [], {**COSTS, "costs": ["word", "semantic", "character"], "encoder": "/nowhere"}
    )
    summary = write_bench_report(out)
    assert summary.costs is not None
    setting = summary.costs["strong"]["email weak"]
    assert set(setting.mean_cost) == {"word", "character"}
    assert setting.winner == {"word": "early", "character": "early"}
    assert (folder.parent / "cost" / "work" / ".gitignore").read_text() == "*\n"  # an encoder is 90 MB
    assert summary.notes[0].startswith("semantic is left out: encoder /nowhere: cannot be loaded")
    page = (out / "report.html").read_text("utf-8")
    checked(page)
    assert "semantic is left out" in page
    assert "exactly in 4 of 4 comparisons" in page


def test_what_models_say_is_escaped(tmp_path: Path):
    evil = "</pre><script>alert(1)</script>"
    rows = [replace(row, response=evil, edited=evil + " x") for row in make_rows(seeds=[1], rounds=3)]
    experiment = {**EXPERIMENT, "seeds": [1], "sizes": {"online": 3}, "command": evil, "name": evil}
    folder = write_run(tmp_path / "run", rows, experiment)
    write_bench_report(folder)
    checked((folder / "report.html").read_text("utf-8"))


def test_a_folder_that_is_no_run_is_named(tmp_path: Path, folder: Path):
    with pytest.raises(DataError, match=r"experiment\.json: cannot be read .*give the folder of a run"):
        write_bench_report(tmp_path)
    (tmp_path / "experiment.json").write_text("[1]")
    with pytest.raises(DataError, match=r"experiment\.json: not a JSON object"):
        write_bench_report(tmp_path)
    lost = write_run(tmp_path / "ablation", [], {**ABLATION, "rows_from": "results/lost"})
    with pytest.raises(DataError, match=r"lost.experiment\.json: cannot be read .*run that experiment first"):
        write_bench_report(lost)
