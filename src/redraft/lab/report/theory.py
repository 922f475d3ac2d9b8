"""The theory lab's page: what each experiment's rows say, in the order in which one would explain it.

Numbers come from rows alone, so a page can be made again from a folder, of as many experiments as it holds.
"""

from __future__ import annotations

import json
from pathlib import Path

from redraft.errors import DataError
from redraft.lab.report.page import Page, write_page
from redraft.lab.report.theory_figures import Rows
from redraft.lab.report.theory_sections import SECTIONS, Numbers, real_log

__all__ = ["write_theory_report"]

_TITLE = "the theory of learning from edits, computed"


def write_theory_report(folder: Path, command: str) -> Numbers:
    """Write ``report.html``, ``tables.md``, ``summary.json`` and ``figures/*.svg`` beside a folder's ``rows/*.jsonl``.

    Returns the summary, with all numbers of the page by experiment. Raises ``DataError`` where there are no rows, one
    cannot be read, or nothing can be written.
    """
    place = folder / "rows"
    found = {name: rows for name in SECTIONS if (rows := _read(place / f"{name}.jsonl"))}
    if not found:
        raise DataError(f"{place}: no rows of an experiment; make them with redraft theory run --out {folder}")
    numbers, sections = {}, []
    for name, rows in found.items():
        numbers[name], section = SECTIONS[name](rows)
        sections.append(section)
    made = {name: next(row for row in rows if row["show"] == "made") for name, rows in found.items()}
    seconds = {name: round(row["seconds"], 1) for name, row in made.items()}
    sizes, seed = next((row["sizes"], row["seed"]) for row in made.values())
    message, lead = _message(numbers), _lead(numbers)
    about = {
        "command": command,
        "seed": str(seed),
        "sizes": ", ".join(f"{name} {size:,}" for name, size in sizes.items()),
        "seconds": ", ".join(f"{name} {spent:g}" for name, spent in seconds.items()),
    }
    summary = {"lead": f"{message} {lead}".strip(), **numbers, "seconds": seconds, "seed": seed}
    write_page(folder, Page(_TITLE, message, [*sections, real_log()], about, lead), summary)
    return summary


def _read(file: Path) -> Rows:
    if not file.exists():
        return []
    try:
        return [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    except ValueError as error:
        raise DataError(f"{file}: a row is not JSON ({error}): delete it and run its experiment again") from error


def _message(numbers: Numbers) -> str:
    if "phase" not in numbers:
        return "The paper's analysis, as numbers that could have come out otherwise."
    by_d = numbers["phase"]["share_by_d"]
    few, many = min(by_d), max(by_d)
    return (
        f"No way of learning from edits wins everywhere: RL is best in {by_d[few]['rl']:.0%} of the cells where costs "
        f"follow {few} features, and in {by_d[many]['rl']:.0%} where they follow {many}."
    )


def _lead(numbers: Numbers) -> str:
    parts: list[str] = []
    if "phase" in numbers:
        best = numbers["phase"]["share"]
        parts.append(
            "From one log of edits, SFT learns the best policy where users converge, DPO where they edit rarely and "
            "the model covers little of what they want, RL where costs depend on few features: "
            f"{best['sft']:.0%}, {best['dpo']:.0%} and {best['rl']:.0%} of the cells computed here."
        )
    if "regret" in numbers:
        gains = [row["gain"] for row in numbers["regret"]["paper"] if row["spread"] == 1]
        parts.append(
            "On arms like the paper's, with exponential costs, no bandit could save more than "
            f"{min(gains):.3f} to {max(gains):.3f} a round over 200 rounds compared with what its LateEnsemble paid."
        )
    return " ".join(parts)
