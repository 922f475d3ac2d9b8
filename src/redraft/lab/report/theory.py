"""The theory lab's page: what each experiment's rows say, in the order in which one would explain it.

Numbers come from rows alone, so a page can be made again from a folder, of as many experiments as it holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from redraft.errors import DataError
from redraft.files import write_json, write_text
from redraft.lab.report.figures import COLOURS
from redraft.lab.report.page import render
from redraft.lab.report.sections import Section, sections_markdown
from redraft.lab.report.theory_sections import SECTIONS, real_log

__all__ = ["write_theory_report"]

_FILE_INK = "#7a828c"  # a file has no page to take its ink from: legible on white and on near-black
_TITLE = "the theory of learning from edits, computed"


def write_theory_report(folder: Path, command: str) -> dict[str, Any]:
    """Write ``report.html``, ``tables.md``, ``summary.json`` and ``figures/*.svg`` beside a folder's ``rows/*.jsonl``.

    Returns the summary, with all numbers of the page by experiment. Raises ``DataError`` where there are no rows, one
    cannot be read, or nothing can be written.
    """
    found = {name: _read(folder / "rows" / f"{name}.jsonl") for name in SECTIONS}
    found = {name: rows for name, rows in found.items() if rows}
    if not found:
        raise DataError(
            f"{folder / 'rows'}: no rows of an experiment; make them with redraft theory run --out {folder}"
        )
    numbers, sections = {}, []
    for name, rows in found.items():
        numbers[name], section = SECTIONS[name](rows)
        sections.append(section)
    made = {name: next(row for row in rows if row["show"] == "made") for name, rows in found.items()}
    seconds = {name: round(row["seconds"], 1) for name, row in made.items()}
    summary = {"lead": _lead(numbers), **numbers, "seconds": seconds, "seed": next(iter(made.values()))["seed"]}
    sizes = next(iter(made.values()))["sizes"]
    about = {"command": command, "seed": summary["seed"], "sizes": ", ".join(f"{k} {v:,}" for k, v in sizes.items())}
    about["seconds"] = ", ".join(f"{name} {spent:g}" for name, spent in seconds.items())
    _write(folder, summary, [*sections, real_log()], about)
    return summary


def _read(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    try:
        return [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    except ValueError as error:
        raise DataError(f"{file}: a row is not JSON ({error}): make the file anew") from error


def _write(folder: Path, summary: Mapping[str, Any], sections: Sequence[Section], about: Mapping[str, Any]) -> None:
    from markupsafe import Markup

    drawings = [drawing for section in sections for drawing in section.drawings]
    page = render(
        "bench.html",
        title=_TITLE,
        lead=summary["lead"],
        missing=(),
        notes=(),
        sections=sections,
        svg={drawing.name: Markup(drawing.svg) for drawing in drawings},
        colours=COLOURS,
        made=about,
    )
    for drawing in drawings:
        write_text(folder / "figures" / f"{drawing.name}.svg", drawing.svg.replace("currentColor", _FILE_INK))
    write_text(folder / "tables.md", sections_markdown(_TITLE, summary["lead"], sections))
    write_json(folder / "summary.json", summary)
    write_text(folder / "report.html", page)


def _lead(numbers: Mapping[str, Any]) -> str:
    parts = ["The paper's analysis, as numbers that could have come out otherwise."]
    if "phase" in numbers:
        best = numbers["phase"]["share"]
        parts.append(
            "Of one log of edits, SFT makes the best policy where users converge, DPO where they edit rarely and the "
            f"model covers little of what they want, RL where costs follow few features: {best['sft']:.0%}, "
            f"{best['dpo']:.0%} and {best['rl']:.0%} of the cells computed here."
        )
    if "regret" in numbers:
        gains = [row["gain"] for row in numbers["regret"]["paper"] if row["spread"] == 1]
        parts.append(
            "On arms like the paper's, with exponential costs, no bandit could save more than "
            f"{min(gains):.3f} to {max(gains):.3f} a round over 200 rounds against what its LateEnsemble paid."
        )
    return " ".join(parts)
