"""A page in a browser, as a phone shows it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_data import PROMPTS, decisions, matrix, summary

from redraft.lab.report.demo import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
PHONE = """<body style="margin: 0"><iframe id="phone" style="width: 390px; height: 800px; border: 0"></iframe><script>
phone.srcdoc = PAGE
phone.onload = () => {
  const page = phone.contentDocument
  const shown = [...page.querySelectorAll("svg text")].filter(text => text.getClientRects().length)
  const scale = ({a, b}) => Math.hypot(a, b)
  const sizes = shown.map(text => parseFloat(getComputedStyle(text).fontSize) * scale(text.getScreenCTM()))
  document.title = `${page.documentElement.scrollWidth} ${Math.min(...sizes)}`
}</script>"""


@pytest.mark.real
@pytest.mark.skipif(not CHROMIUM, reason="needs chromium")
def test_a_phone_needs_no_scrolling_sideways_and_no_lens(tmp_path: Path):
    rows = matrix()
    page = write_report(tmp_path, summary(rows), rows, decisions(rows), PROMPTS).read_text("utf-8")
    phone = tmp_path / "phone.html"
    phone.write_text(PHONE.replace("PAGE", json.dumps(page).replace("</", "<\\/")), "utf-8")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        f"--user-data-dir={tmp_path / 'browser'}",
    ]
    options += ["--hide-scrollbars", "--dump-dom", "--virtual-time-budget=5000", phone.as_uri()]
    dom = subprocess.run([CHROMIUM, *options], check=True, capture_output=True, text=True, timeout=120).stdout
    found = re.search(r"<title>(\d+) ([\d.]+)</title>", dom)
    assert found is not None
    assert int(found[1]) <= 390
    assert float(found[2]) >= 14
