"""Records as their producers write them: the same interaction, whatever its fields are called."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from redraft.errors import ConfigError, DataError
from redraft.log.formats import BadRow, Options, Row
from redraft.log.formats.shapes import understand
from redraft.types import Interaction

ASKED, DRAFT, FINAL = "Say hi to Ann.", "Dear Ann!", "Hi Ann!"
USER = {"role": "user", "content": ASKED}
SYSTEM = {"role": "system", "content": "Be brief."}


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def call(city: str) -> dict[str, Any]:
    arguments = json.dumps({"city": city})
    return {"id": "c", "type": "function", "function": {"name": "weather", "arguments": arguments}}


def told(city: str) -> str:
    return f'<tool_call>\n{{"name": "weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'


def table(*rows: dict[str, str], delimiter: str = ",") -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


SHAPES: dict[str, Any] = {
    "native": {"prompt": ASKED, "response": DRAFT, "edited": FINAL},
    "native, messages": {"messages": [USER], "response": DRAFT, "edited": FINAL},
    "native, whole conversation": {"messages": [USER, said(DRAFT)], "response": DRAFT, "edited": FINAL},
    "TRL": {"prompt": ASKED, "chosen": FINAL, "rejected": DRAFT},
    "TRL, conversations": {"prompt": [USER], "chosen": [said(FINAL)], "rejected": [said(DRAFT)]},
    "TRL, prompt inside": {"chosen": [USER, said(FINAL)], "rejected": [USER, said(DRAFT)]},
    "UltraFeedback": {
        **{"prompt": ASKED, "prompt_id": "p", "chosen": [USER, said(FINAL)], "rejected": [USER, said(DRAFT)]},
        **{"messages": [USER, said(FINAL)], "score_chosen": 8.0, "score_rejected": 3.0},
    },
    "OpenAI": {
        "input": {"messages": [USER], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [said(FINAL)],
        "non_preferred_output": [said(DRAFT)],
    },
    "ShareGPT": {
        "conversations": [{"from": "human", "value": ASKED}],
        "chosen": {"from": "gpt", "value": FINAL},
        "rejected": {"from": "gpt", "value": DRAFT},
    },
    "Alpaca": {"instruction": "Say hi", "input": "to Ann.", "chosen": FINAL, "rejected": DRAFT},
    "Alpaca, corrected": {"instruction": ASKED, "input": "", "output": DRAFT, "corrected": FINAL},
    "HelpSteer3": {
        **{"domain": "general", "language": "english", "context": [USER], "original_response": DRAFT},
        **{"edited_response": FINAL, "change_summary": "shorter", "feedback": ["stiff"]},
    },
    "Argilla": {
        **{"id": "r1", "status": "completed", "instruction": ASKED, "draft": DRAFT},
        **{"final.responses": [FINAL], "final.responses.users": ["u1"], "final.suggestion": DRAFT},
    },
    "Label Studio": [
        {
            "id": 1,
            "data": {"prompt": ASKED, "draft": DRAFT},
            "annotations": [
                {
                    **{"id": 9, "completed_by": 1, "was_cancelled": False, "created_at": "2026-01-02T03:04:05.678901Z"},
                    "result": [{"from_name": "final", "type": "textarea", "value": {"text": [FINAL]}}],
                },
                {"id": 10, "completed_by": 2, "was_cancelled": True, "result": []},
            ],
        }
    ],
    "Label Studio, short": [{"id": 1, "prompt": ASKED, "draft": DRAFT, "final": FINAL, "annotator": 1}],
    "Label Studio, CSV": table(
        {"annotator": "1", "draft": DRAFT, "final": json.dumps([FINAL]), "id": "1", "prompt": ASKED}
    ),
    "Langfuse, CSV": table(
        {
            **{"id": "tr-1", "timestamp": "2026-01-02T03:04:05.000Z", "name": "chat"},
            **{"input": json.dumps({"messages": [USER]}), "output": json.dumps(said(DRAFT)), "corrected_output": FINAL},
        }
    ),
    "Langfuse, JSON": {"input": [USER], "output": said(DRAFT), "corrected_output": said(FINAL)},
    "vLLM's batch": {"messages": [USER], "completion": DRAFT, "edited": FINAL},
    "questions": {"question": ASKED, "answer_id": 3, "generated": DRAFT, "revised": FINAL},
    "table": table({"Context": ASKED, "Response ": DRAFT, "EDITED": FINAL}),
    "table, semicolons": table({"prompt": ASKED, "draft": DRAFT, "final": FINAL}, delimiter=";"),
    "table, post-editing": table({"src": ASKED, "mt": DRAFT, "pe": FINAL}, delimiter="\t"),
    "query": {"query": ASKED, "prediction": DRAFT, "correction": FINAL},
    "before and after": {"request": ASKED, "before": DRAFT, "after": FINAL},
    "parts": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": ASKED}]}],
        **{"draft": DRAFT, "final": FINAL},
    },
}


def rows(folder: Path, content: Any, **columns: str) -> list[Interaction | BadRow]:
    file = folder / "file"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    understood = understand(file, Options("t", columns=columns)).rows()
    return [row.interaction if isinstance(row, Row) else row for row in understood]


def one(folder: Path, content: Any, **columns: str) -> Interaction:
    (found,) = rows(folder, content, **columns)
    assert isinstance(found, Interaction), found
    return found


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_recognised_by_its_records(tmp_path: Path, name: str) -> None:
    found = one(tmp_path, SHAPES[name])
    asked = "Say hi\n\nto Ann." if name == "Alpaca" else ASKED
    assert [(message.role, message.content) for message in found.completion.messages] == [("user", asked)]
    assert (found.completion.response, found.edited) == (DRAFT, FINAL)


def test_rows_of_two_shapes_are_the_same_interaction(tmp_path: Path) -> None:
    plain = ("TRL", "TRL, conversations", "TRL, prompt inside", "OpenAI", "ShareGPT", "UltraFeedback", "table")
    assert len({one(tmp_path, SHAPES[name]).completion.id for name in plain}) == 1


def test_what_was_only_written_has_no_feedback(tmp_path: Path) -> None:
    found = one(tmp_path, {"messages": [SYSTEM, USER, said(DRAFT)]})
    assert [message.role for message in found.completion.messages] == ["system", "user"]
    assert (found.completion.response, found.edit) == (DRAFT, None)
    assert one(tmp_path, table({"prompt": ASKED, "draft": DRAFT, "final": ""})).edit is None
    assert one(tmp_path, {"question": ASKED, "draft": DRAFT, "final": ""}).edited == ""  # all of it was struck


def test_tool_calls_are_texts_that_differ(tmp_path: Path) -> None:
    calls = {
        "prompt": [USER],
        "chosen": [said("", tool_calls=[call("Oslo")])],
        "rejected": [said("", tool_calls=[call("Rome")])],
    }
    found = one(tmp_path, calls)
    assert (found.completion.response, found.edited) == (told("Rome"), told("Oslo"))
    assert found.completion.answer["message"]["tool_calls"] == [call("Rome")]
    before = [USER, said("", tool_calls=[call("Rome")]), {"role": "tool", "tool_call_id": "c", "content": "9 °C"}]
    own = one(tmp_path, {"messages": before, "response": "Nine.", "edited": "Nine degrees."})
    assert [message.content for message in own.completion.messages] == [ASKED, told("Rome"), "9 °C"]
    assert own.completion.messages[1].more["tool_calls"] == [call("Rome")]


def test_each_annotation_is_a_persons_edit(tmp_path: Path) -> None:
    text = {"from_name": "final", "type": "textarea", "value": {"text": [FINAL]}}
    annotations = [{"completed_by": who, "created_at": f"2026-01-0{who}", "result": [text]} for who in (1, 2)]
    found = rows(tmp_path, [{"id": 7, "data": {"prompt": ASKED, "draft": DRAFT}, "annotations": annotations}])
    edits = [row.edit for row in found if isinstance(row, Interaction)]
    assert [(edit.completion_id, edit.user_id, edit.created_at.day) for edit in edits if edit and edit.created_at] == [
        ("7", "1", 1),
        ("7", "2", 2),
    ]


def test_a_field_is_mapped_by_name_or_path(tmp_path: Path) -> None:
    deep = {"turns": [{"text": "x"}, {"text": ASKED}], "Draft = v1": DRAFT, "final, text": FINAL, "by": {"name": "kim"}}
    paths = {"prompt": "turns[1].text", "response": "Draft = v1", "edited": "final, text", "user_id": "by.name"}
    found = one(tmp_path, deep, **paths)
    assert (found.completion.messages[0].content, found.edited, found.completion.user_id) == (ASKED, FINAL, "kim")
    with pytest.raises(ConfigError, match=r"--map edited=finale: no record of .* has it; found: turns"):
        rows(tmp_path, deep, **{**paths, "edited": "finale"})
    with pytest.raises(ConfigError, match="unknown field answer"):
        rows(tmp_path, deep, answer="x")


def test_what_is_not_understood_is_one_line_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no response found .* --map response=responses"):
        rows(tmp_path, [{"prompt": ASKED, "responses": DRAFT}] * 3)
    (bad,) = rows(tmp_path, [{"prompt": ASKED, "draft": DRAFT, "final": [FINAL, "Hello!"]}])
    assert "edited holds 2 texts" in str(bad)
    (bad,) = rows(tmp_path, [{"chosen": [USER, said("a")], "rejected": [{"role": "user", "content": "?"}, said("b")]}])
    assert "begin with different messages" in str(bad)


def test_a_rows_own_error_costs_that_row_alone(tmp_path: Path) -> None:
    good = {"prompt": ASKED, "response": DRAFT}
    late = {**good, "created_at": "0001-01-01T00:00:00+05:00"}
    found = rows(tmp_path, [good, late, {**good, "response": "b"}])
    assert [isinstance(row, BadRow) for row in found] == [False, True, False]


def test_what_is_read_and_what_is_not_is_said(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text(json.dumps({"context": ASKED, "draft": DRAFT, "final": FINAL, "score": 3}) + "\n")
    assert understand(file, Options("t")).said.endswith(
        "prompt from 'context', response from 'draft', edited from 'final'; not read: score"
    )
