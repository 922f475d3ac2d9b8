from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from redraft.cli.policy import export_policy, generate, policies_app
from redraft.errors import ConfigError, DataError, ModelError, NotFoundError, RedraftError
from redraft.lm.encode import encode_prompt
from redraft.lm.generate import generate as generated
from redraft.lm.load import Base, load_base
from redraft.policies.adapter import AdapterHost
from redraft.types import Decoding, Message

APP = typer.Typer()
for command, name in ((generate, "generate"), (export_policy, "export-policy")):
    APP.command(name)(command)
APP.add_typer(policies_app, name="policies")


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, tiny_model_folder: Path, tiny_policies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder whose settings name the tiny model and its policies."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REDRAFT_CONFIG", raising=False)
    text = f'[model]\nname = "{tiny_model_folder}"\n[policies]\nroot = "{tiny_policies}"\n'
    Path("redraft.toml").write_text(text)


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(APP, arguments, input=stdin)


def fine(*arguments: str, stdin: str | bytes | None = None) -> str:
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.exception or result.output
    return result.stdout


def refused(kind: type[RedraftError], *arguments: str, stdin: str | bytes | None = None) -> str:
    """The one line that ``redraft`` prints before exit status 2; nothing reached standard output."""
    result = run(*arguments, stdin=stdin)
    assert type(result.exception) is kind, result.exception or result.output
    assert result.stdout == ""
    assert "\n" not in str(result.exception)
    return str(result.exception)


@pytest.fixture(scope="module")
def answers(tiny_model_folder: Path, tiny_policies: Path) -> dict[str, list[str]]:
    """What each policy answers to "Hi" and "Write."."""
    host = AdapterHost(load_base(str(tiny_model_folder), tiny_policies))
    contexts = [[Message("user", "Hi")], [Message("user", "Write.")]]
    for name in ("email/sft@1", "email/sft@2"):
        host.load(name, tiny_policies / name)
    return {name: host.policy(name).respond(contexts, Decoding(8)) for name in ("base", "email/sft@1", "email/sft@2")}


EIGHT = ("--max-new-tokens", "8")


def test_generate_answers_a_prompt(answers: dict[str, list[str]]) -> None:
    for name, policy in (("base", "base"), ("email/sft@1", "email/sft@1"), ("email/sft", "email/sft@2")):
        assert fine("generate", "--policy", name, "--prompt", "Hi", *EIGHT) == answers[policy][0] + "\n"


def test_generate_reads_standard_input_and_text_files(answers: dict[str, list[str]]) -> None:
    Path("prompt.txt").write_text("Hi\n")
    expected = answers["base"][0] + "\n"
    assert fine("generate", "--policy", "base", *EIGHT, stdin="Hi\n") == expected
    assert fine("generate", "--policy", "base", "--file", "prompt.txt", *EIGHT) == expected


def test_generate_answers_rows_line_by_line(answers: dict[str, list[str]]) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "Hi"}], "response": "what a log holds besides"},
        {"prompt": "Write."},
    ]
    Path("rows.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    lines = fine("generate", "--policy", "email/sft@1", "--file", "rows.jsonl", *EIGHT).splitlines()
    assert [json.loads(line) for line in lines] == [{"response": text} for text in answers["email/sft@1"]]


def test_generate_in_json(answers: dict[str, list[str]], tiny_base: Base) -> None:
    result = json.loads(fine("generate", "--policy", "email/sft", "--prompt", "Hi", *EIGHT, "--json"))
    assert result == {
        "policy": "email/sft@2",
        "model": tiny_base.identity,
        "decoding": {"max_new_tokens": 8, "temperature": 0.0, "seed": 0},
        "responses": answers["email/sft@2"][:1],
    }


def test_generate_answers_as_its_task_says(tiny_policies: Path) -> None:
    with Path("redraft.toml").open("a") as file:
        file.write("[serve]\nmax_new_tokens = 6\n[tasks.email.decoding]\ntemperature = 0.5\nmax_new_tokens = 4\n")

    def decoding(policy: str, *options: str) -> tuple[int, float]:
        found = json.loads(fine("generate", "--policy", policy, "--prompt", "Hi", "--json", *options))["decoding"]
        return found["max_new_tokens"], found["temperature"]

    assert decoding("email/sft") == decoding("email/base") == (4, 0.5)
    assert decoding("base") == (6, 0.0)
    assert decoding("email/sft", "--temperature", "0", *EIGHT) == (8, 0.0)


@pytest.mark.parametrize("policy", ["base", "email/sft@1"])
def test_generate_never_cuts_a_prompt(policy: str, tiny_base: Base) -> None:
    Path("long.jsonl").write_text("".join(json.dumps({"prompt": "x" * n}) + "\n" for n in (900, 2100)))
    said = refused(DataError, "generate", "--policy", policy, "--file", "long.jsonl", *EIGHT)
    assert re.fullmatch(r"prompt 2 of 2 has 21\d\d tokens, and its answer up to 8: .* is 2048, so shorten .*", said)
    told = fine("generate", "--policy", "base", "--prompt", f"{'x' * 900}?", *EIGHT)
    whole = encode_prompt(tiny_base.tokenizer, [Message("user", f"{'x' * 900}?")], None)
    assert told == generated(tiny_base.model, tiny_base.tokenizer, [whole], Decoding(8))[0] + "\n"


def test_generate_samples_by_seed() -> None:
    def drawn(seed: str) -> str:
        return fine("generate", "--policy", "base", "--prompt", "Hi", *EIGHT, "--temperature", "1", "--seed", seed)

    assert drawn("1") == drawn("1") != drawn("2")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (b'{"prompt": "Hi"}\n{"prompt": \n', "rows.jsonl:2: not valid JSON"),
        (b'{"prompt": "Hi"}\n\n{"text": "Hi"}', "rows.jsonl:3: give either prompt or messages"),
        (b'{"prompt": "Hi", "messages": [{"role": "user", "content": "Hi"}]}', "rows.jsonl:1: give either"),
        (b'{"prompt": ""}', "rows.jsonl:1: give either"),
        (b'{"messages": []}', "rows.jsonl:1: give either"),
        (b'{"messages": [{"role": "poet", "content": "Hi"}]}', "rows.jsonl:1: messages.0.role"),
        (b'{"messages": [{"role": "user"}]}', "rows.jsonl:1: messages.0.content is missing"),
        (b'{"prompt": 7}', "rows.jsonl:1: prompt = 7"),
        (b'{"prompt": "\xff"}', "rows.jsonl:1: not valid JSON in UTF-8"),
        (b"[]", "rows.jsonl:1: "),
        (b"\n\n", "rows.jsonl: holds no rows"),
    ],
)
def test_one_bad_row_and_nothing_is_answered(rows: bytes, said: str) -> None:
    Path("rows.jsonl").write_bytes(rows)
    assert said in refused(DataError, "generate", "--policy", "base", "--file", "rows.jsonl")


def test_unusable_input_is_named() -> None:
    ask = ("generate", "--policy", "base")
    assert "prompt is empty" in refused(DataError, *ask, stdin="")
    assert "prompt is empty" in refused(DataError, *ask, "--prompt", " ")
    assert "not UTF-8 at byte 2" in refused(DataError, *ask, stdin=b"Hi\xff")
    assert "none.txt: cannot be read" in refused(DataError, *ask, "--file", "none.txt")
    assert "none.jsonl: cannot be read" in refused(DataError, *ask, "--file", "none.jsonl")
    assert "give one of them" in refused(ConfigError, *ask, "--prompt", "Hi", "--file", "none.txt")
    assert run(*ask, "--prompt", "Hi", "--max-new-tokens", "0").exit_code == 2


def test_unknown_policies_and_models_are_named(tmp_path: Path) -> None:
    asked = ("generate", "--prompt", "Hi", "--policy")
    said = refused(NotFoundError, *asked, "email/sft@7")
    assert "email/dpo@1, email/sft@1, email/sft@2" in said
    assert "none yet" in refused(NotFoundError, *asked, "email/sft", "--policies", str(tmp_path))
    assert "no/model" in refused(ModelError, *asked, "base", "--model", str(tmp_path / "no/model"))


def test_policies_lists_what_there_is(tiny_policies: Path, tiny_base: Base) -> None:
    result = json.loads(fine("policies", "--json"))
    assert result["root"] == str(tiny_policies)
    assert [row["policy"] for row in result["policies"]] == ["email/dpo@1", "email/sft@1", "email/sft@2"]
    assert result["policies"][0]["base"]["revision"] == tiny_base.revision
    assert "email/sft@2" in fine("policies", "--task", "email")
    assert json.loads(fine("policies", "--task", "notes", "--json"))["policies"] == []


def test_policies_are_promoted_and_demoted(tiny_policies: Path, tmp_path: Path) -> None:
    root = ("--policies", str(shutil.copytree(tiny_policies, tmp_path / "policies")))

    def standing() -> dict[str, tuple[bool, str]]:
        rows = json.loads(fine("policies", *root, "--json"))["policies"]
        return {row["policy"]: (row["served"], row["reason"]) for row in rows}

    never = (False, "never evaluated")
    assert standing() == dict.fromkeys(("email/dpo@1", "email/sft@1", "email/sft@2"), never)
    assert "candidate: never evaluated" in " ".join(fine("policies", *root).split())
    told = run("policies", "promote", "email/sft", *root)
    assert told.stdout == "email/sft@2 is promoted\n"
    assert "SIGHUP" in told.stderr
    fine("policies", "demote", "email/dpo@1", *root)
    assert standing() == {
        "email/dpo@1": (False, "demoted"), "email/sft@1": never, "email/sft@2": (True, "promoted")
    }  # fmt: skip
    assert "not in" in refused(NotFoundError, "policies", "promote", "email/kto", *root)
    with Path("redraft.toml").open("a") as file:
        file.write('[tasks.email]\npolicies = ["base"]\n')
    assert "tasks.email.policies in the settings" in run("policies", "promote", "email/sft", *root).stderr
    assert "tasks.email.policies in the settings" in run("policies", *root).stderr


def test_policies_says_which_folder_it_left_out(tiny_policies: Path, tmp_path: Path) -> None:
    root = shutil.copytree(tiny_policies, tmp_path / "policies")
    (root / "email/sft@1/redraft.json").write_text("{")
    result = run("policies", "--policies", str(root), "--json")
    assert [row["policy"] for row in json.loads(result.stdout)["policies"]] == ["email/dpo@1", "email/sft@2"]
    assert "sft@1" in result.stderr
    shutil.copytree(root / "email/sft@2", root / "notes/sft@2")
    result = run("policies", "--policies", str(root), "--json")
    assert [row["policy"] for row in json.loads(result.stdout)["policies"]] == ["email/dpo@1", "email/sft@2"]
    assert "notes/sft@2 holds email/sft@2" in " ".join(result.stderr.split())


def test_export_copies_the_adapter(tiny_policies: Path) -> None:
    fine("export-policy", "email/sft@1", "new/copy")
    source = tiny_policies / "email/sft@1"
    assert {file.name: file.read_bytes() for file in Path("new/copy").iterdir()} == {
        file.name: file.read_bytes() for file in source.iterdir()
    }


def test_export_merged_is_a_plain_model_that_answers_the_same(answers: dict[str, list[str]]) -> None:
    result = json.loads(fine("export-policy", "email/sft", "merged", "--merged", "--json"))
    assert result == {"policy": "email/sft@2", "kind": "model", "out": "merged"}
    names = {file.name for file in Path("merged").iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    assert not {"adapter_config.json", "redraft.json"} & names
    assert "email/sft@2" in Path("merged/README.md").read_text()
    merged = load_base("merged", Path())
    assert not any("lora" in name for name, _ in merged.model.named_parameters())
    contexts = [[Message("user", "Hi")], [Message("user", "Write.")]]
    assert AdapterHost(merged).policy().respond(contexts, Decoding(8)) == answers["email/sft@2"]


def left_behind() -> list[str]:
    return sorted(path.name for path in Path().iterdir() if path.name != "redraft.toml")


@pytest.mark.parametrize("merged", [("--merged",), ()])
def test_export_refuses_a_folder_that_exists(merged: tuple[str, ...]) -> None:
    Path("out").mkdir()
    assert "out exists already" in refused(ConfigError, "export-policy", "email/sft", "out", *merged)
    assert list(Path("out").iterdir()) == []


def test_export_to_where_nothing_can_be_written() -> None:
    Path("file").write_text("")
    said = refused(ConfigError, "export-policy", "email/sft", "file/out")
    assert said.startswith("file/out: cannot be written (")


def test_a_failed_export_leaves_nothing(tiny_policies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "email/dpo@1" in refused(NotFoundError, "export-policy", "email/early", "out", "--merged")
    other = shutil.copytree(tiny_policies, tmp_path / "policies")
    manifest: Any = json.loads((other / "email/sft@1/redraft.json").read_text())
    manifest["base"]["revision"] = "0123"
    (other / "email/sft@1/redraft.json").write_text(json.dumps(manifest))
    said = refused(ModelError, "export-policy", "email/sft@1", "out", "--merged", "--policies", str(other))
    assert "0123" in said

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", full)
    assert "No space left" in refused(ConfigError, "export-policy", "email/sft@1", "out", "--merged")
    assert left_behind() == ["policies"]


def test_listing_and_remote_policies_load_no_torch() -> None:
    program = (
        "import redraft.policies, redraft.cli.policy, sys; print([m for m in ('torch', 'httpx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_generate_writes_in_the_precision_asked_for_or_the_tasks() -> None:
    def decoding(*more: str) -> dict[str, Any]:
        told = fine("generate", "--policy", "email/sft", "--prompt", "Hi", "--max-new-tokens", "4", "--json", *more)
        return json.loads(told)["decoding"]

    assert decoding() == {"max_new_tokens": 4, "temperature": 0.0, "seed": 0}
    assert decoding("--precision", "bfloat16")["precision"] == "bfloat16"
    file = Path("redraft.toml")
    file.write_text(file.read_text() + '[tasks.email]\nprecision = "bfloat16"\n')
    assert decoding()["precision"] == "bfloat16"
    assert "precision" not in decoding("--precision", "float32")
