from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

import redraft.lab.theory.lab
from redraft.cli.theory import What, theory_app
from redraft.errors import ConfigError, DataError
from redraft.lab.report.theory import write_theory_report
from redraft.lab.theory.lab import EXPERIMENTS, Sizes

SMALL = Sizes(cells=4, seeds=4, instances=30, runs=10, horizon=1000)


@contextmanager
def small() -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redraft.lab.theory.lab, "Sizes", lambda: SMALL)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    with small():
        result = CliRunner().invoke(theory_app, ["run", "--out", str(folder), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads((folder / "summary.json").read_text("utf-8"))
    assert f"report: {folder / 'report.html'}" in result.stderr
    return folder


def test_every_experiment_can_be_named() -> None:
    assert [what.value for what in What] == [*EXPERIMENTS, "all"]


def test_rows_figures_page_and_summary(made: Path) -> None:
    assert {file.stem for file in (made / "rows").iterdir()} == set(EXPERIMENTS)
    assert len(list((made / "figures").glob("*.svg"))) == 11
    for file in (made / "figures").iterdir():
        ElementTree.parse(file)
    page = (made / "report.html").read_text("utf-8")
    assert page.count("<figure") == 11
    assert "http" not in page.replace("http://www.w3.org", "")  # nothing is fetched
    summary = json.loads((made / "summary.json").read_text("utf-8"))
    assert set(summary) == {"lead", "seconds", "seed", *EXPERIMENTS}
    for number in (summary["rates"]["c_pref_slope"], summary["regret"]["exponent"]["worst"]):
        assert f"{number:.2f}" in page
    assert f"{summary['phase']['share_by_d']['48']['sft']:.0%}" in page
    for found in summary["violation"].values():
        assert found["dpo loses to sft"] is None or f"{found['dpo loses to sft']:.2f}" in page
    for row in summary["regret"]["paper"]:
        assert row["gain"] == row["late"] - row["bound"]
        assert f"{row['gain']:.3f}" in page


def test_the_page_is_made_from_rows_alone(made: Path, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "phase.jsonl").write_bytes((made / "rows" / "phase.jsonl").read_bytes())
    summary = write_theory_report(tmp_path, "redraft theory run phase")
    assert summary["phase"]["share"] == json.loads((made / "summary.json").read_text("utf-8"))["phase"]["share"]
    assert (tmp_path / "figures" / "phase.svg").read_bytes() == (made / "figures" / "phase.svg").read_bytes()
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "Which feedback wins where" in page
    assert "What Assumption 1 implies" not in page


def test_one_experiment_leaves_the_others_in_the_folder(tmp_path: Path) -> None:
    with small():
        for what in ("rates", "violation"):
            result = CliRunner().invoke(theory_app, ["run", what, "--out", str(tmp_path), "--seed", "3"])
            assert result.exit_code == 0, result.output
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "How fast" in page
    assert "When the assumption fails" in page
    assert "Which feedback wins where" not in page
    assert result.stdout.startswith("The paper's analysis")
    assert json.loads((tmp_path / "rows" / "violation.jsonl").read_text("utf-8").splitlines()[0])["seed"] == 3


def test_invalid_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows of an experiment; make them with redraft theory run"):
        write_theory_report(tmp_path, "")
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "phase.jsonl").write_text("{", "utf-8")
    with pytest.raises(DataError, match="a row is not JSON"):
        write_theory_report(tmp_path, "")
    (tmp_path / "file").write_text("", "utf-8")
    with small():
        result = CliRunner().invoke(theory_app, ["run", "contraction", "--out", str(tmp_path / "file")])
    assert isinstance(result.exception, ConfigError)


def test_an_unknown_experiment_is_refused() -> None:
    result = CliRunner().invoke(theory_app, ["run", "phases"])
    assert result.exit_code == 2
    assert "contraction" in result.stderr


def test_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['redraft', 'theory', 'run', 'contraction', '--out', 'lab']\n"
        "import redraft.lab.theory.lab as lab; sizes = lab.Sizes(instances=20); lab.Sizes = lambda: sizes\n"
        "from redraft.cli.app import app; app(standalone_mode=False)\n"
        "assert not {'torch', 'transformers', 'sqlalchemy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "lab" / "report.html").exists()
