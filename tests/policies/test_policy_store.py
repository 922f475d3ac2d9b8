from __future__ import annotations

from pathlib import Path

import pytest

from redraft.errors import ConfigError, NotFoundError
from redraft.policies import PolicyStore
from redraft.types import PolicyRef


@pytest.fixture
def store(tmp_path: Path) -> PolicyStore:
    """Three policies in two tasks; a run in progress; and folders that are none of ours."""
    for name in ("email/sft@1", "email/sft@9", "email/sft@10", "notes/v1.2@1"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "redraft.json").write_text("{}")
    for name in (
        "email/sft@11.partial",
        "email/.77.sft@14",
        "email/sft@12.partial",
        "email/dpo@3",
        "email/early.sweep",
        "email/x@y",
        "cache",
    ):
        (tmp_path / name).mkdir()
    (tmp_path / "email/early@2").write_text("a file, no folder")
    return PolicyStore(tmp_path)


def test_list_is_ordered_by_version_and_holds_complete_policies_only(store: PolicyStore) -> None:
    names = [str(ref) for ref in store.list()]
    assert names == ["email/sft@1", "email/sft@9", "email/sft@10", "notes/v1.2@1"]
    assert [str(ref) for ref in store.list("notes")] == ["notes/v1.2@1"]
    assert store.list("summary") == []


def test_resolve_takes_a_version_or_the_latest(store: PolicyStore) -> None:
    assert store.resolve("email/sft@9") == PolicyRef("email", "sft", 9)
    assert store.resolve("email/sft") == PolicyRef("email", "sft", 10)
    assert store.resolve("sft", "email") == store.resolve("email/sft", "email") == PolicyRef("email", "sft", 10)
    assert store.resolve("sft@9", "email") == PolicyRef("email", "sft", 9)
    assert store.resolve("notes/v1.2", "email") == PolicyRef("notes", "v1.2", 1)  # another task's, by its full name
    assert store.path(store.resolve("notes/v1.2")).is_dir()


@pytest.mark.parametrize(
    "text",
    [
        "email/sft@2",
        "email/sft@11",
        "email/dpo",
        "email",
        "",
        "sft@1",
        "../email/sft@1",
        "email/sft@1/..",
        "email/sft@01",
    ],
)
def test_an_unknown_policy_names_what_exists(store: PolicyStore, text: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        store.resolve(text)
    assert repr(text) in str(caught.value)
    assert "email/sft@1, email/sft@9, email/sft@10, notes/v1.2@1" in str(caught.value)


def test_an_empty_store(tmp_path: Path) -> None:
    store = PolicyStore(tmp_path / "none")
    assert store.list() == []
    assert store.next("email", "sft") == PolicyRef("email", "sft", 1)
    assert store.partial("email", "sft") is None
    with pytest.raises(NotFoundError, match="none yet"):
        store.resolve("email/sft")


def test_next_passes_over_every_folder_there_is(store: PolicyStore) -> None:
    assert store.next("email", "sft").version == 13  # two runs in progress
    assert store.next("email", "dpo").version == 4  # a folder without a manifest
    assert store.next("email", "early").version == 3  # not even a folder
    assert store.next("notes", "sft").version == 1


def test_partial_is_the_newest_unfinished_run(store: PolicyStore) -> None:
    assert store.partial("email", "sft") == PolicyRef("email", "sft", 12)
    assert store.partial("email", "dpo") is None


@pytest.mark.parametrize(
    ("task", "name"), [("..", "sft"), ("email", "a/b"), ("email", "sft@1"), ("", "sft"), ("a b", "x")]
)
def test_invalid_names_make_no_policy(store: PolicyStore, task: str, name: str) -> None:
    with pytest.raises(ConfigError, match="letters, digits"):
        store.next(task, name)
