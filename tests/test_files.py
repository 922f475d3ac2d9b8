"""What redraft writes appears whole or not at all."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from redraft.errors import ConfigError
from redraft.files import whole, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    place = tmp_path / "a.txt"
    write_text(place, "old")
    with suppress(ZeroDivisionError), whole(place) as scratch:
        scratch.write_text("new, but not all")
        raise ZeroDivisionError
    assert place.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_the_place_is_untouched_until_the_end(tmp_path: Path) -> None:
    place = tmp_path / "below" / "a.svg"
    with whole(place) as scratch:
        scratch.write_text("new")
        assert scratch.suffix == ".svg", "programs tell the format by it"
        assert not place.exists()
    assert place.read_text() == "new"


def test_a_folder_appears_whole_and_replaces_none(tmp_path: Path) -> None:
    place = tmp_path / "folder"
    with whole(place) as scratch:
        scratch.mkdir()
        (scratch / "a").write_text("1")
    assert names(place) == ["a"]
    with pytest.raises(ConfigError, match="cannot be written"), whole(place) as scratch:
        scratch.mkdir()
    assert names(place) == ["a"]
    assert names(tmp_path) == ["folder"]


def test_what_cannot_be_written_names_place_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file.a\.json: cannot be written \(.+\): use --out"):
        write_json(tmp_path / "file" / "a.json", {}, "use --out")


def test_json_has_no_infinity(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"nll": [float("inf"), 1.0]})
    assert (tmp_path / "a.json").read_text() == '{\n  "nll": [\n    null,\n    1.0\n  ]\n}\n'
