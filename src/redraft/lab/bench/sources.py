"""Material to write about, from public data sets read in place (``$REDRAFT_DATA``): a text and its key points.

Key points are sentences of the source that a person chose or that stand where key sentences stand: the lead of a news
article and of an encyclopaedia paragraph, the sentence nearest to the authors' own summary in an abstract, the doctor's
note on a dialogue. Sources are cut to what a small model can hold, at sentence ends, and never lose a key sentence.
"""

from __future__ import annotations

import csv
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from redraft.errors import ConfigError, DataError
from redraft.lab.users.letter import is_frame, sentences
from redraft.lab.users.points import Points, content_words, stands_alone

__all__ = ["DATA_SETS", "READERS", "Material", "materials"]

SOURCE_WORDS, MOST_WORDS = 85, 100
POINT_WORDS, TWO_POINTS_WORDS = (5, 24), 36

_DEFACTO = "DeFacto, MIT, github.com/microsoft/DeFacto"
_SCITLDR = {"contexts/scitldr_train.jsonl": "SciTLDR, Apache-2.0, github.com/allenai/scitldr"}
DATA_SETS: dict[str, dict[str, str]] = {
    "news": {"edits/defacto/train.jsonl": _DEFACTO, "edits/defacto/val.jsonl": _DEFACTO},
    "wikipedia": {"contexts/xquad_en.json": "XQuAD, CC BY-SA 4.0, github.com/google-deepmind/xquad"},
    "abstract": _SCITLDR,
    "film": {"contexts/movie_reviews.zip": "movie reviews, CC BY 4.0, github.com/nltk/nltk_data"},
    "paper": _SCITLDR,
    "dialogue": {"contexts/mts_dialog_train.csv": "MTS-Dialog, CC BY 4.0, github.com/abachaa/MTS-Dialog"},
}
"""By domain, its files below ``$REDRAFT_DATA``: name, licence and source of the public data set each is from."""


@dataclass(frozen=True, slots=True)
class Material:
    """A text as a prompt shows it, and its key sentences. ``more`` holds what else a user knows of it."""

    text: str
    points: tuple[str, ...]
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def facts(self) -> dict[str, Any]:
        """What ``Context.facts`` holds of it."""
        return {**Points(self.text, self.points).as_facts(), **self.more}


@lru_cache(maxsize=12)
def materials(kind: str, data: Path) -> list[Material]:
    """Everything usable of one kind, in the order of its file, no text twice.

    Raises ``ConfigError`` when the file is missing and ``DataError`` when it has another form.
    """
    try:
        found = list(READERS[kind](data))
    except OSError as error:
        raise ConfigError(
            f"REDRAFT_DATA = {data}: {error.filename} cannot be read ({error.strerror}): set it to the data folder"
        ) from error
    except (ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile) as error:
        raise DataError(f"REDRAFT_DATA = {data}: the file for {kind!r} has another form ({error!r})") from error
    return list({material.text: material for material in found if _usable(material)}.values())


def _usable(material: Material) -> bool:
    """Whether every point is a plain sentence of some length that no user would read as anything else."""
    low, high = POINT_WORDS
    return (
        bool(material.points)
        and len(material.text.split()) <= MOST_WORDS
        and all(
            low <= len(point.split()) <= high
            and stands_alone(point)
            and not is_frame(point)
            and point[0].isupper()
            and ":" not in point
            and len(content_words(point)) >= 3
            for point in material.points
        )
    )


def _news(data: Path) -> Iterator[Material]:
    for part in ("train", "val"):
        for row in _json_lines(data / "edits" / "defacto" / f"{part}.jsonl"):
            found = sentences(row["article"])
            yield Material(_head(found), tuple(found[:1]))


def _wikipedia(data: Path) -> Iterator[Material]:
    articles = json.loads((data / "contexts" / "xquad_en.json").read_text("utf-8"))["data"]
    for paragraph in (paragraph for article in articles for paragraph in article["paragraphs"]):
        found = sentences(re.sub(r"\s*\([^()]*\)", "", paragraph["context"]))
        two = sum(len(sentence.split()) for sentence in found[:2]) <= TWO_POINTS_WORDS
        yield Material(_head(found, at_least=2), tuple(found[: 1 + two]))


def _abstract(data: Path) -> Iterator[Material]:
    for row in islice(_json_lines(data / "contexts" / "scitldr_train.jsonl"), 0, None, 2):
        source, scores = [" ".join(text.split()) for text in row["source"]], row["rouge_scores"]
        if len(source) == len(scores):
            key = max(range(len(source)), key=scores.__getitem__)
            yield Material(_head(source[max(0, key - 2) :], at_least=min(key, 2) + 1), (source[key],))


def _paper(data: Path) -> Iterator[Material]:
    for row in islice(_json_lines(data / "contexts" / "scitldr_train.jsonl"), 1, None, 2):  # no paper is in both
        tldr = sentences(row["target"][0])
        yield Material(f"{row['title']}\n{' '.join(tldr)}", tuple(tldr))


def _dialogue(data: Path) -> Iterator[Material]:
    with (data / "contexts" / "mts_dialog_train.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            lines = [" ".join(line.split()) for line in row["dialogue"].splitlines() if line.strip()]
            if 15 <= sum(len(line.split()) for line in lines) <= SOURCE_WORDS:
                yield Material("\n".join(lines), tuple(sentences(row["section_text"])))


def _film(data: Path) -> Iterator[Material]:
    with zipfile.ZipFile(data / "contexts" / "movie_reviews.zip") as reviews:
        for name in sorted(name for name in reviews.namelist() if name.endswith(".txt")):
            lines = [line for line in reviews.read(name).decode().splitlines() if line.strip()]
            found = [line for line in map(_written, [*lines[:4], lines[-1]]) if sentences(line) == [line]]
            if len(lines) > 4 and len(found) > 1:
                verdict = {"recommended": "/pos/" in name}
                yield Material(f"{_head(found[:-1][:3])} {found[-1]}", (found[0],), verdict)


def _written(line: str) -> str:
    """Put a tokenised, lower-cased line back into running text."""
    line = re.sub(r'\s+([,.;:!?)\]])|(?<=[(\[])\s+|\s*"\s*(?=[,.;:!?])', r"\1", line.replace('"', "").strip())
    line = re.sub(r"\bi\b", "I", re.sub(r"\s{2,}", " ", line))
    return line[:1].upper() + line[1:]


def _head(found: Iterable[str], at_least: int = 1) -> str:
    """The first sentences, as many as fit ``SOURCE_WORDS`` and at least so many."""
    kept: list[str] = []
    for sentence in found:
        if len(kept) >= at_least and sum(len(s.split()) for s in [*kept, sentence]) > SOURCE_WORDS:
            break
        kept.append(sentence)
    return " ".join(kept)


def _json_lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as stream:
        yield from map(json.loads, stream)


READERS: dict[str, Callable[[Path], Iterator[Material]]] = {
    "news": _news,
    "wikipedia": _wikipedia,
    "abstract": _abstract,
    "film": _film,
    "paper": _paper,
    "dialogue": _dialogue,
}
