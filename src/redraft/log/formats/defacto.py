"""DeFacto (microsoft/DeFacto): news articles, machine summaries, and the summaries as people corrected them.

Where nothing was wrong, the corrected summary is empty or null, or equals the candidate up to white space at its ends.
All of these mean that the summary was accepted. Explanations and evidence are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from redraft.log.formats.rows import BadRow, Options, Record, Row, asked, json_rows
from redraft.types import Interaction

__all__ = ["PROMPT", "read"]

PROMPT = "Summarize this news article in one sentence.\n\n{article}"


class _Feedback(BaseModel):
    summary: str | None


class _Summary(Record):
    article: str
    candidate: str
    feedback: _Feedback

    def interaction(self, task: str) -> Interaction:
        corrected = self.feedback.summary or ""
        edited = None if corrected.strip() in ("", self.candidate.strip()) else corrected
        return asked(task, PROMPT.format(article=self.article), self.candidate, edited)


def read(file: Path, options: Options) -> Iterator[Row | BadRow]:
    """Read ``train.jsonl`` or ``val.jsonl``."""
    return json_rows(file, options, _Summary)
