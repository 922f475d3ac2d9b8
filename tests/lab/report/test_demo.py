from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_data import ARMS, PROMPTS, decisions, matrix, summary

from redraft.errors import ConfigError, DataError
from redraft.lab.report.demo import NEXT, Summary, write_report

ROWS = matrix()
VOID = {"meta", "br", "link", "img", "input", "hr"}


class _Nesting(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("report") / "new" / "folder"
    path = write_report(out, summary(ROWS), ROWS, decisions(ROWS), PROMPTS)
    assert path == out / "report.html"
    assert sorted(file.name for file in out.iterdir()) == ["report.html", "summary.json"]
    assert json.loads((out / "summary.json").read_text("utf-8")) == json.loads(json.dumps(asdict(summary(ROWS))))
    return path.read_text("utf-8")


def test_the_page_is_whole_html_without_scripts(page: str):
    parser = _Nesting()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    assert not parser.seen & {"script", "link", "img", "iframe", "object"}
    assert parser.seen >= {"table", "svg", "del", "ins", "figure"}


def test_nothing_is_fetched(page: str):
    assert not re.findall(r"(?:src|href)\s*=\s*[\"'](?!#)", page)
    assert not re.findall(r"url\((?!#)|@import", page)


def test_the_page_says_what_happened(page: str):
    means = summary(ROWS).mean_cost
    assert f'<p class="message">Learning from edits cut the mean edit cost from {means["base"]:.2f} to ' in page
    assert "The best trained policy is early." in page
    assert f"paid {means['late']:.3f} a round" in page
    for name, mean in means.items():
        assert re.search(rf"{name}</th><td>(<strong>)?{mean:.3f}<", page)
    assert "held-out edit cost" not in page  # not known of these
    assert "redraft demo --out demo --seed 1" in page
    assert "&lt;and&gt;" in page


def test_held_out_edit_cost_stands_beside_what_was_paid(tmp_path: Path):
    known = replace(summary(ROWS), heldout={"base": 0.987, "sft": 0.321}, heldout_edits=8)
    page = write_report(tmp_path, known, ROWS, decisions(ROWS), PROMPTS).read_text("utf-8")
    assert "of its answers to 8 edits of the log" in page
    assert re.search(rf"sft</th><td>0.321</td><td>(<strong>)?{known.mean_cost['sft']:.3f}<", page)
    assert re.search(r"early</th><td></td><td>", page)


def test_examples_are_the_first_the_middle_and_the_last_round(page: str):
    assert re.findall(r"<h3>Round (\d+)</h3>", page) == ["1", "30", "60"]
    assert page.count('<article class="answer">') == 2 + 3 * len(ARMS)  # and above all, base beside the best
    assert page.index('<article class="answer">') < page.index("<figure") < page.index("What to do next")
    assert all(command in page for _, command in NEXT)
    assert PROMPTS[ROWS[0].context_id].splitlines()[1] in page


def test_what_models_and_prompts_say_is_escaped(tmp_path: Path):
    evil = "</pre><script>alert(1)</script>"
    rows = [replace(row, response=evil, edited=evil + " x", policy="<b>") for row in ROWS if row.policy == "base"]
    data = Summary({"base": 1.0, "<b>": 2.0}, notes=[evil], command=evil)
    page = write_report(tmp_path, data, rows, {}, dict.fromkeys(PROMPTS, evil)).read_text("utf-8")
    assert "<script" not in page
    assert "<b>" not in page


def test_a_small_summary_is_enough_and_a_collapsed_training_is_null(tmp_path: Path):
    data = Summary({"base": 0.0}, training={"dpo": [{"step": 1, "chosen_logp": float("-inf")}], "sft": []})
    write_report(tmp_path, data, [], {})
    assert json.loads((tmp_path / "summary.json").read_text())["training"]["dpo"][0]["chosen_logp"] is None


def test_a_page_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "report.html").write_text("before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ConfigError, match=r"cannot be written \(No space left"):
        write_report(tmp_path, summary(ROWS), ROWS, decisions(ROWS))
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "before"


def test_an_unusable_folder_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file.*cannot be written"):
        write_report(tmp_path / "file", summary(ROWS), ROWS, decisions(ROWS))


def test_an_incomplete_matrix_is_refused_before_anything_is_written(tmp_path: Path):
    with pytest.raises(DataError, match="holes"):
        write_report(tmp_path, summary(ROWS), ROWS[:-1], decisions(ROWS))
    assert list(tmp_path.iterdir()) == []
