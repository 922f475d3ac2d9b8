"""Draw the README's picture from the demo's committed rows: ``python docs/gen_picture.py``.

One notes-to-email request as the base model answered it and as the policy trained on 64 edits did, each with what the
simulated user changed, and what an answer cost on average, round by round. Written as SVG text, light and dark.
"""

from __future__ import annotations

import gzip
import json
from html import escape
from itertools import accumulate
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROWS, ROUND = HERE.parent / "results" / "demo" / "matrix-seed-1.jsonl.gz", 2
WIDTH, HEIGHT, CHARACTERS, STEP, GLYPH = 1200, 640, 62, 21, 8.43
THEMES = {
    "light": {"page": "#ffffff", "text": "#1f2328", "soft": "#59636e", "line": "#d1d9e0", "card": "#f6f8fa"},
    "dark": {"page": "#0d1117", "text": "#f0f6fc", "soft": "#9198a1", "line": "#3d444d", "card": "#151b23"},
}
MARKS = {
    "light": {"struck": ("#ffdce0", "#82071e"), "added": ("#d2f4d9", "#0a5427")},
    "dark": {"struck": ("#4b1b21", "#ffb3ba"), "added": ("#12402a", "#a8f0c0")},
}
POLICIES = {"light": {"base": "#6e7781", "late": "#8250df"}, "dark": {"base": "#9198a1", "late": "#b88cff"}}


def rows() -> dict[str, list[dict[str, Any]]]:
    """Rows of each policy in the order of rounds."""
    found: dict[str, list[dict[str, Any]]] = {}
    with gzip.open(ROWS, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            found.setdefault(row["policy"], []).append(row)
    return {policy: sorted(of, key=lambda row: row["t"]) for policy, of in found.items()}


def means(table: dict[str, list[dict[str, Any]]]) -> dict[str, list[float]]:
    """Mean cost up to each round: of base alone, and of LateEnsemble choosing among all policies."""
    from redraft.lab.replay import replay
    from redraft.select import LateEnsemble

    costs = {policy: [row["cost"] for row in of] for policy, of in table.items()}
    paid = {"base": costs["base"], "late": [step.cost for step in replay(LateEnsemble(list(costs)), costs)]}
    return {name: [total / t for t, total in enumerate(accumulate(of), 1)] for name, of in paid.items()}


def lines_of(before: str, after: str) -> list[list[tuple[str, str]]]:
    """The diff as lines of (kind, text), none longer than ``CHARACTERS``."""
    from redraft.lab.report.diff import word_diff

    lines: list[list[tuple[str, str]]] = [[]]
    room = CHARACTERS
    for piece in word_diff(before, after):
        for number, part in enumerate(piece.text.split("\n")):
            if number:
                lines.append([])
                room = CHARACTERS
            for word in part.split():
                if len(word) + 1 > room:
                    lines.append([])
                    room = CHARACTERS
                lines[-1].append((piece.kind, word))
                room -= len(word) + 1
    return [line for number, line in enumerate(lines) if line or (number and lines[number - 1])]


def card(row: dict[str, Any], title: str, top: float, theme: str) -> tuple[list[str], float]:
    """A diff in a box; gives its elements and where it ends."""
    colours, marks = THEMES[theme], MARKS[theme]
    lines = lines_of(row["response"], row["edited"])
    height = 50 + STEP * len(lines)
    out = [
        f'<rect x="20" y="{top}" width="560" height="{height}" rx="8" class="card"/>',
        f'<text x="36" y="{top + 26}" class="title">{escape(title)}</text>',
        f'<text x="564" y="{top + 26}" class="number" text-anchor="end">{row["cost"]:.2f}</text>',
    ]
    for number, line in enumerate(lines):
        x, y = 36.0, top + 56 + STEP * number
        for kind, word in line:
            width = GLYPH * len(word)
            fill = colours["text"]
            if kind in marks:
                back, fill = marks[kind]
                out.append(
                    f'<rect x="{x - 2:.1f}" y="{y - 15}" width="{width + 4:.1f}" height="20" rx="3" fill="{back}"/>'
                )
            struck = ' text-decoration="line-through"' if kind == "struck" else ""
            place = f'x="{x:.1f}" y="{y}" textLength="{width:.1f}"'
            out.append(f'<text {place} class="word" fill="{fill}"{struck}>{escape(word)}</text>')
            x += width + GLYPH
    return out, top + height


def curve(table: dict[str, list[dict[str, Any]]], theme: str) -> list[str]:
    """Mean cost so far, round by round."""
    colours, left, right, top, bottom = THEMES[theme], 660, 1150, 120, 540
    found = means(table)
    rounds = len(found["base"])

    def place(t: int, value: float) -> str:
        return f"{left + (right - left) * (t - 1) / (rounds - 1):.1f},{bottom - (bottom - top) * value:.1f}"

    out = [f'<text x="{left - 30}" y="60" class="title">What had to be changed, mean so far</text>']
    out.append(
        f'<text x="{left - 30}" y="82" class="soft">edited words per word of the answer; a simulated user</text>'
    )
    for tick in (0, 0.25, 0.5, 0.75, 1):
        y = bottom - (bottom - top) * tick
        out.append(f'<line x1="{left}" x2="{right}" y1="{y}" y2="{y}" stroke="{colours["line"]}"/>')
        out.append(f'<text x="{left - 8}" y="{y + 5}" class="soft" text-anchor="end">{tick:g}</text>')
    names = {"base": "the model as it came", "late": "redraft, choosing by the edits"}
    for name, values in found.items():
        points = " ".join(place(t, value) for t, value in enumerate(values, 1))
        colour = POLICIES[theme][name]
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="3"/>')
        y = bottom - (bottom - top) * values[-1]
        label = f"{names[name]}: {values[-1]:.2f}"
        out.append(f'<text x="{right}" y="{y + 26:.1f}" text-anchor="end" class="label" fill="{colour}">{label}</text>')
    for t in (1, 20, 40, 60):
        x = left + (right - left) * (t - 1) / (rounds - 1)
        out.append(f'<text x="{x:.1f}" y="{bottom + 24}" class="soft" text-anchor="middle">{t}</text>')
    out.append(f'<text x="{(left + right) / 2}" y="{bottom + 50}" class="soft" text-anchor="middle">request</text>')
    return out


def picture(theme: str) -> str:
    """The whole SVG."""
    table, colours = rows(), THEMES[theme]
    before, end = card(table["base"][ROUND - 1], "Before: SmolLM2-135M as it came", 20, theme)
    after, end = card(table["sft"][ROUND - 1], "After training on 64 edits", end + 20, theme)
    style = (
        "text{font-family:ui-sans-serif,system-ui,-apple-system,'Segoe UI',sans-serif;font-size:16px}"
        f".title{{font-weight:600;fill:{colours['text']}}}.number{{font-weight:700;font-size:18px;fill:{colours['text']}}}"
        f".card{{fill:{colours['card']};stroke:{colours['line']}}}"
        f".soft{{fill:{colours['soft']};font-size:14px}}.label{{font-weight:600}}"
        ".word{font-family:ui-monospace,SFMono-Regular,Menlo,'DejaVu Sans Mono',monospace;font-size:14px}"
    )
    body = "\n".join([*before, *after, *curve(table, theme)])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {max(HEIGHT, end + 20):.0f}" role="img">\n'
        f"<title>One email before and after training on 64 edits, and the mean edit cost over 60 requests</title>\n"
        f'<style>{style}</style>\n<rect width="100%" height="100%" rx="10" fill="{colours["page"]}"/>\n{body}\n</svg>\n'
    )


if __name__ == "__main__":
    for theme in THEMES:
        (HERE / "pictures" / f"loop-{theme}.svg").write_text(picture(theme), "utf-8")
