"""What records mean: the shapes that people's tools write, told from the records alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.errors import ConfigError, DataError
from redraft.log.formats import BadRow, Options, Row
from redraft.log.formats.fields import guessed, mapping_of, steps_of, without
from redraft.log.formats.rows import Rows
from redraft.log.formats.shapes import BY_NAME, READERS, Understood, understood
from redraft.log.formats.source import Raw, Source
from redraft.types import Edit, Interaction, Message

OPTIONS = Options("task")


class Case(NamedTuple):
    """A record as a producer writes it, the shape it is to be taken for, and what it says."""

    form: str
    record: Mapping[str, Any]
    said: tuple[tuple[str, ...], str, str | None]
    table: bool = False


def say(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def call(city: str) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": f'{{"city": "{city}"}}'}}


def call_text(city: str) -> str:
    return f'<tool_call>\n{{"name": "weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'


ASK, YOU, ME = say("user", "Greet Ann."), say("assistant", "Dear Ann!"), say("assistant", "Hi Ann!")
PLAIN = (("Greet Ann.",), "Dear Ann!", "Hi Ann!")
SILENT = (("Greet Ann.",), "Dear Ann!", None)
CALLED = (("Is it cold?",), call_text("Bergen"), call_text("Oslo"))
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
LABELLED = {
    "from_name": "final",
    "to_name": "draft",
    "type": "textarea",
    "value": {"text": ["Hi Ann!"]},
    "origin": "manual",
}
SHAPES = {
    "native": Case("native", {"prompt": "Greet Ann.", "response": "Dear Ann!", "edited": "Hi Ann!"}, PLAIN),
    "native, messages that end with the answer": Case("native", {"messages": [ASK, YOU], "edited": "Hi Ann!"}, PLAIN),
    "TRL": Case("trl", {"prompt": "Greet Ann.", "chosen": "Hi Ann!", "rejected": "Dear Ann!"}, PLAIN),
    "TRL, conversational": Case("trl", {"prompt": [ASK], "chosen": [ME], "rejected": [YOU]}, PLAIN),
    "TRL, implicit prompt": Case("trl", {"chosen": [ASK, ME], "rejected": [ASK, YOU]}, PLAIN),
    "TRL, with tools": Case(
        "trl",
        {
            "prompt": [say("user", "Is it cold?")],
            "chosen": [{"role": "assistant", "tool_calls": [call("Oslo")]}],
            "rejected": [say("assistant", None, tool_calls=[call("Bergen")])],
            "tools": json.dumps(TOOLS),
        },
        CALLED,
    ),
    "TRL, as pandas writes lists": Case(
        "trl", {"prompt": str([ASK]), "chosen": str([ME]), "rejected": json.dumps([YOU])}, PLAIN, table=True
    ),
    "TRL, as NumPy writes lists": Case(
        "trl", {"prompt": "Greet Ann.", "chosen": f"[{ASK}\n {ME}]", "rejected": f"[{ASK}\n {YOU}]"}, PLAIN, table=True
    ),
    "HH-RLHF": Case(
        "trl",
        {
            "chosen": "\n\nHuman: Hello\n\nAssistant: Hello!\n\nHuman: Greet Ann.\n\nAssistant: Hi Ann!",
            "rejected": "\n\nHuman: Hello\n\nAssistant: Hello!\n\nHuman: Greet Ann.\n\nAssistant: Dear Ann!",
        },
        (("Hello", "Hello!", "Greet Ann."), "Dear Ann!", "Hi Ann!"),
    ),
    "UltraFeedback binarized": Case(
        "trl",
        {
            "prompt": "Greet Ann.",
            "prompt_id": "4f3a",
            "chosen": [ASK, ME],
            "rejected": [ASK, YOU],
            "messages": [ASK, ME],
            "score_chosen": 8.5,
            "score_rejected": 3.0,
        },
        PLAIN,
    ),
    "KTO": Case(
        "kto", {"prompt": [ASK], "completion": [YOU], "label": True}, (("Greet Ann.",), "Dear Ann!", "Dear Ann!")
    ),
    "KTO in a table": Case(
        "kto",
        {"prompt": "Greet Ann.", "completion": "Dear Ann!", "label": "True"},
        (("Greet Ann.",), "Dear Ann!", "Dear Ann!"),
        table=True,
    ),
    "KTO, implicit prompt": Case(
        "kto", {"completion": [ASK, YOU], "label": 1}, (("Greet Ann.",), "Dear Ann!", "Dear Ann!")
    ),
    "Alpaca, labelled for KTO": Case(
        "alpaca",
        {"instruction": "Greet Ann.", "input": "", "output": "Dear Ann!", "kto_tag": True},
        (("Greet Ann.",), "Dear Ann!", "Dear Ann!"),
    ),
    "Ollama": Case(
        "table",
        {"request": {"messages": [ASK]}, "response": {"message": YOU, "done_reason": "stop"}, "final": "Hi Ann!"},
        PLAIN,
    ),
    "MongoDB's ids": Case(
        "table",
        {"_id": {"$oid": "65f"}, "prompt": "Greet Ann.", "response": "Dear Ann!", "edited": "Hi Ann!"},
        PLAIN,
    ),
    "OpenAI preference": Case(
        "openai",
        {
            "input": {"messages": [ASK], "tools": [], "parallel_tool_calls": True},
            "preferred_output": [ME],
            "non_preferred_output": [YOU],
        },
        PLAIN,
    ),
    "OpenAI preference, with calls": Case(
        "openai",
        {
            "input": {"messages": [say("user", [{"type": "text", "text": "Is it cold?"}])], "tools": TOOLS},
            "preferred_output": [say("assistant", "", tool_calls=[call("Oslo")])],
            "non_preferred_output": [say("assistant", None, function_call=call("Bergen")["function"])],
        },
        CALLED,
    ),
    "OpenAI supervised": Case(
        "chat",
        {"messages": [say("developer", "Be brief."), say("user", "Greet Ann.", name="kim"), say(**YOU, weight=1)]},
        (("Be brief.", "Greet Ann."), "Dear Ann!", None),
    ),
    "LLaMA-Factory, OpenAI form": Case("trl", {"messages": [ASK], "chosen": ME, "rejected": YOU}, PLAIN),
    "OpenAI Responses": Case(
        "responses",
        {
            "id": "resp_1",
            "object": "response",
            "created_at": 1772357400,
            "instructions": "Be brief.",
            "input": [
                say("user", [{"type": "input_text", "text": "Is it cold?"}]),
                {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Oslo"}'},
                {"type": "function_call_output", "call_id": "c1", "output": "-3"},
            ],
            "output": [
                {"type": "reasoning", "id": "rs_1", "summary": []},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes."}]},
            ],
        },
        (("Be brief.", "Is it cold?", call_text("Oslo"), "-3"), "Yes.", None),
    ),
    "OpenAI completions": Case(
        "table",
        {"prompt": "Greet Ann.", "response": {"id": "cmpl-1", "choices": [{"text": "Dear Ann!"}]}, "edited": "Hi Ann!"},
        PLAIN,
    ),
    "Anthropic, request and response": Case(
        "table",
        {
            "request": {
                "model": "claude",
                "system": "Be brief.",
                "messages": [
                    say("user", "Is it cold?"),
                    say("assistant", [{"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Oslo"}}]),
                    say("user", [{"type": "tool_result", "tool_use_id": "c1", "content": "-3"}]),
                ],
            },
            "response": say("assistant", [{"type": "thinking", "thinking": "-3 is"}, {"type": "text", "text": "Yes."}]),
            "edited": [{"type": "text", "text": "Yes!"}],
        },
        (("Be brief.", "Is it cold?", call_text("Oslo"), "-3"), "Yes.", "Yes!"),
    ),
    "parts without a type": Case(
        "table",
        {
            "messages": [say("user", [{"text": "Greet Ann."}]), say("model", [{"text": "Dear Ann!"}])],
            "final": "Hi Ann!",
        },
        PLAIN,
    ),
    "a number for an id, and not accepted": Case(
        "table",
        {"id": 7, "prompt": "Greet Ann.", "response": "Dear Ann!", "edited": "Hi Ann!", "accepted": False},
        PLAIN,
    ),
    "ShareGPT preference": Case(
        "sharegpt",
        {
            "conversations": [{"from": "human", "value": "Greet Ann."}],
            "chosen": {"from": "gpt", "value": "Hi Ann!"},
            "rejected": {"from": "gpt", "value": "Dear Ann!"},
        },
        PLAIN,
    ),
    "ShareGPT": Case(
        "sharegpt",
        {
            "conversations": [
                {"from": "human", "value": "Is it cold?"},
                {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Oslo"}}'},
                {"from": "observation", "value": "-3"},
                {"from": "gpt", "value": "Yes."},
            ],
            "system": "Be brief.",
            "tools": "[]",
        },
        (("Be brief.", "Is it cold?", call_text("Oslo"), "-3"), "Yes.", None),
    ),
    "Alpaca preference": Case(
        "alpaca",
        {"instruction": "Greet", "input": "Ann.", "chosen": "Hi Ann!", "rejected": "Dear Ann!"},
        (("Greet\nAnn.",), "Dear Ann!", "Hi Ann!"),
    ),
    "Alpaca with corrected outputs": Case(
        "alpaca",
        {
            "instruction": "Greet Ann.",
            "input": "",
            "output": "Dear Ann!",
            "corrected_output": "Hi Ann!",
            "history": [["Hello", "Hello!"]],
        },
        (("Hello", "Hello!", "Greet Ann."), "Dear Ann!", "Hi Ann!"),
    ),
    "HelpSteer3 edit": Case(
        "helpsteer3",
        {
            "domain": "general",
            "language": "english",
            "context": [ASK],
            "original_response": "Dear Ann!",
            "edited_response": "Hi Ann!",
            "change_summary": "less formal",
            "feedback": ["too formal", "too short"],
        },
        PLAIN,
    ),
    "Langfuse, CSV": Case(
        "langfuse",
        {
            "id": "tr-1",
            "timestamp": "2026-01-02T03:04:05.000Z",
            "name": "chat",
            "input": json.dumps({"messages": [say("system", "Be brief."), ASK], "temperature": 0.5}),
            "output": json.dumps(YOU),
            "corrected_output": "Hi Ann!",
            "tags": "",
        },
        (("Be brief.", "Greet Ann."), "Dear Ann!", "Hi Ann!"),
        table=True,
    ),
    "Langfuse, JSON": Case(
        "langfuse",
        {
            "id": "ob-1",
            "traceId": "tr-1",
            "input": {"messages": [ASK]},
            "output": {"choices": [{"index": 0, "message": YOU}]},
            "correctedOutput": None,
            "latency": 0.4,
        },
        SILENT,
    ),
    "Prodigy, text_input": Case(
        "prodigy",
        {
            "prompt": "Greet Ann.",
            "response": "Dear Ann!",
            "user_input": "Hi Ann!",
            "_input_hash": 12,
            "_task_hash": -34,
            "_view_id": "text_input",
            "answer": "accept",
            "_annotator_id": "kim",
            "_timestamp": 1767323045,
        },
        PLAIN,
    ),
    "Prodigy, rejected": Case(
        "prodigy",
        {"text": "Greet Ann.", "output": "Dear Ann!", "user_input": "?", "_task_hash": 3, "answer": "reject"},
        SILENT,
    ),
    "Argilla, flat": Case(
        "argilla",
        {
            "id": "r1",
            "status": "completed",
            "_server_id": "s1",
            "instruction": "Greet Ann.",
            "draft": "Dear Ann!",
            "final.responses": ["Hello", "Hi Ann!"],
            "final.responses.users": ["u0", "u1"],
            "final.responses.status": ["discarded", "submitted"],
            "final.suggestion": "Dear Ann!",
            "final.suggestion.score": None,
        },
        PLAIN,
    ),
    "Argilla, nested": Case(
        "argilla",
        {
            "id": "r1",
            "fields": {"instruction": "Greet Ann."},
            "metadata": {"origin": "crm"},
            "suggestions": {"response": {"value": "Dear Ann!", "score": None, "agent": "m"}},
            "responses": {
                "response": [{"value": "Hi Ann!", "user_id": "u1"}],
                "rating": [{"value": 4, "user_id": "u1"}],
            },
            "vectors": {},
        },
        PLAIN,
    ),
    "Argilla 1": Case(
        "argilla",
        {
            "fields": {"prompt": "Greet Ann.", "response": "Dear Ann!"},
            "responses": [{"user_id": "u1", "status": "submitted", "values": {"corrected": {"value": "Hi Ann!"}}}],
            "suggestions": [],
            "external_id": "x1",
        },
        PLAIN,
    ),
    "Label Studio, JSON": Case(
        "labelstudio",
        {
            "id": 1,
            "data": {"prompt": "Greet Ann.", "draft": "Dear Ann!"},
            "annotations": [
                {"id": 8, "completed_by": 2, "was_cancelled": True, "result": []},
                {
                    "id": 9,
                    "completed_by": {"id": 1, "email": "kim@example.org"},
                    "result": [LABELLED],
                    "created_at": "2026-01-02T03:04:05.678901Z",
                },
            ],
            "predictions": [],
        },
        PLAIN,
    ),
    "Label Studio, JSON with the draft as a prediction": Case(
        "labelstudio",
        {
            "id": 1,
            "data": {"text": "Greet Ann."},
            "annotations": [{"id": 9, "completed_by": 1, "result": [{**LABELLED, "from_name": "answer"}]}],
            "predictions": [{"result": [{**LABELLED, "from_name": "answer", "value": {"text": ["Dear Ann!"]}}]}],
        },
        PLAIN,
    ),
    "Label Studio, JSON_MIN": Case(
        "labelstudio",
        {
            "id": 1,
            "prompt": "Greet Ann.",
            "draft": "Dear Ann!",
            "final": "Hi Ann!",
            "annotator": 1,
            "annotation_id": 9,
            "created_at": "2026-01-02T03:04:05.678901Z",
            "lead_time": 3.2,
        },
        PLAIN,
    ),
    "a table": Case("table", {" Question": "Greet Ann.", "Draft": "Dear Ann!", "FINAL ": "Hi Ann!"}, PLAIN, table=True),
    "a table in JSON": Case(
        "table", {"context": "Greet Ann.", "model_output": "Dear Ann!", "corrected": "Hi Ann!", "stars": 4}, PLAIN
    ),
    "a table of accepted drafts": Case(
        "table",
        {"query": "Greet Ann.", "ai-response": "Dear Ann!", "Approved": "yes"},
        (("Greet Ann.",), "Dear Ann!", "Dear Ann!"),
        table=True,
    ),
}


def source(*records: Mapping[str, Any], table: bool = False) -> Source:
    columns = tuple(dict.fromkeys(key for record in records for key in record)) if table else ()
    raws = [Raw(i, record) for i, record in enumerate(records, start=1)]
    return Source(Path("rows"), "a test", lambda: iter(raws), columns)


def found(*records: Mapping[str, Any], form: str = "auto", table: bool = False, mapped: str = "") -> Understood:
    return understood(source(*records, table=table), form, replace(OPTIONS, columns=mapping_of([mapped])))


def good(reading: Understood) -> list[Interaction]:
    rows = list(reading.rows())
    assert [str(row) for row in rows if isinstance(row, BadRow)] == []
    return [row.interaction for row in rows if isinstance(row, Row)]


def bad(reading: Understood) -> str:
    (row,) = reading.rows()
    assert isinstance(row, BadRow)
    return row.reason


def texts(interaction: Interaction) -> tuple[tuple[str, ...], str, str | None]:
    completion = interaction.completion
    return tuple(message.content for message in completion.messages), completion.response, interaction.edited


@pytest.mark.parametrize("case", SHAPES.values(), ids=SHAPES)
class TestShapes:
    def test_is_recognised_and_read(self, case: Case) -> None:
        reading = found(case.record, case.record, table=case.table)
        assert reading.shape.startswith(f"{case.form} (")
        assert {texts(interaction) for interaction in good(reading)} == {case.said}

    def test_says_the_same_when_it_is_named(self, case: Case) -> None:
        automatic = good(found(case.record, table=case.table))
        assert good(found(case.record, table=case.table, form=case.form)) == automatic

    def test_drops_nothing(self, case: Case) -> None:
        """Every text and number of a record is somewhere in what is logged, but for the words of the form itself."""
        (interaction,) = good(found(case.record, table=case.table))
        logged = json.dumps(asdict(interaction), default=str, ensure_ascii=False)
        kept = [leaf for leaf in leaves(case.record) if leaf not in FORM and leaf not in logged.replace('\\"', '"')]
        assert kept == []


FORM = {
    *(
        "user",
        "assistant",
        "system",
        "human",
        "gpt",
        "function_call",
        "observation",
        "developer",
        "function",
        "c1",
        "manual",
    ),
    *("reject", "submitted", "discarded", "Hello", "u0", "textarea", "final", "draft", "answer"),
    *("message", "input_text", "output_text", "function_call_output", "tool_result", "False", "1772357400"),
    *("m", "True", "yes", "2026-01-02T03:04:05.678901Z", "2026-01-02T03:04:05.000Z", "1767323045", "8", "2", "?"),
}
"""Names of roles, states and controls; what nobody submitted; times, which are written otherwise."""


def leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.startswith(("{", "[")) else value
        except ValueError:
            return
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from leaves(part)
    elif value not in (None, ""):
        yield from (part.strip() for part in str(value).split("\n\n")) if ": " not in str(value) else ()


def ways(x: str, y: str, z: str) -> dict[str, dict[str, Any]]:
    asked, drafted, edited = say("user", x), say("assistant", y), say("assistant", z)
    return {
        "native": {"prompt": x, "response": y, "edited": z},
        "native chat": {"messages": [asked], "response": y, "edited": z},
        "native ending": {"messages": [asked, drafted], "edited": z},
        "table": {"question": x, "draft": y, "final": z},
        "trl": {"prompt": x, "chosen": z, "rejected": y},
        "trl chat": {"chosen": [asked, edited], "rejected": [asked, drafted]},
        "openai": {"input": {"messages": [asked]}, "preferred_output": [edited], "non_preferred_output": [drafted]},
        "sharegpt": {
            "conversations": [{"from": "human", "value": x}],
            "chosen": {"from": "gpt", "value": z},
            "rejected": {"from": "gpt", "value": y},
        },
        "alpaca": {"instruction": x, "input": "", "output": y, "corrected": z},
        "helpsteer3": {"context": [asked], "original_response": y, "edited_response": z},
    }


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)


@given(words, words, words)
def test_the_same_rows_in_ten_forms_are_the_same_interactions(x: str, y: str, edited: str) -> None:
    read = {name: good(found(row)) for name, row in ways(x, y, edited).items()}
    assert read == dict.fromkeys(read, read["native"])


class TestChoice:
    def test_between_equals_a_person_chooses(self) -> None:
        both = {"prompt": "x", "chosen": "z", "rejected": "y", "response": "v", "edited": "w"}
        with pytest.raises(DataError, match=r"could be table \(.*\) and trl \(.*\): choose with --format table"):
            found(both)
        (interaction,) = good(found(both, form="trl"))
        assert texts(interaction) == (("x",), "y", "z")
        assert interaction.completion.metadata == {"response": "v", "edited": "w"}

    def test_two_columns_that_could_be_the_prompt(self) -> None:
        row = {"question": "q", "context": "c", "draft": "y", "final": "z"}
        with pytest.raises(
            DataError, match=r"rows: question and context may each be the prompt: .* --map prompt=quest"
        ):
            found(row)
        (interaction,) = good(found(row, mapped="prompt=question"))
        assert (texts(interaction), interaction.completion.metadata) == ((("q",), "y", "z"), {"context": "c"})

    def test_a_few_other_records_do_not_decide(self) -> None:
        rows = [{"prompt": "x", "response": "y", "edited": "z"}] * 3
        reading = found(*rows, {"prompt": "x", "response": "y", "editted": "z"})
        *_, last = reading.rows()
        assert str(last) == "rows:4: unknown key 'editted': remove or correct it"

    def test_near_names_are_asked_for(self) -> None:
        with pytest.raises(DataError, match=r"read as edited; editted → edited\?: --map edited=editted \(its keys: p"):
            found({"prompt": "x", "response": "y", "editted": "z"})
        with pytest.raises(DataError, match=r'my question → prompt\?.*--map "prompt=my question" --map response=…'):
            found({"my question": "x", "a": "y"})
        reading = found({"context": "x", "response": "y", "edited": "z"}, form="native")
        assert reading.hint == "context → prompt? --map prompt=context"

    def test_near_names_inside_objects_are_asked_for_too(self) -> None:
        with pytest.raises(
            DataError, match=r"data.prompt → prompt\?.*: --map prompt=data.prompt --map response=data.y_"
        ):
            found({"data": {"prompt": "p", "y_draft": "r"}})
        assert [texts(i) for i in good(found({"conversation": [ASK, YOU], "correction": "Hi Ann!"}))] == [PLAIN]

    def test_extra_columns_without_near_names_are_no_edit(self) -> None:
        (interaction,) = good(found({"prompt": "x", "response": "y", "stars": 3}))
        assert (interaction.edit, interaction.completion.metadata) == (None, {"stars": 3})

    def test_what_is_no_text_is_no_edit_that_was_missed(self) -> None:
        about = {"edit_distance": "3", "final_score": "0,5 ", "is_edited": "TRUE", "edited_on": "2026-01-02"}
        row = {"prompt": "x", "response": "y", **about}
        assert [i.edit for i in good(found(row, table=True))] == [None]
        counted = {"prompt": "x", "response": "y", "stats": {"correction": {"n": 1}}}
        assert [i.edit for i in good(found(counted, form="table"))] == [None]

    @pytest.mark.parametrize(
        ("more", "asked"),
        [
            ({"sent": "z"}, "sent → edited"),
            ({"feedback": [{"key": "k", "correction": {"text": "z"}}]}, r"feedback\[0\].correction → edited"),
            ({"correct answer": "z"}, "correct answer → edited"),
        ],
    )
    def test_a_text_that_may_be_the_edit_is_asked_about(self, more: dict[str, Any], asked: str) -> None:
        with pytest.raises(DataError, match=f"nothing is read as edited; {asked}"):
            found({"question": "x", "draft": "y", **more})

    def test_names_about_a_text_are_not_suggested(self) -> None:
        row = {"request_id": "r", "request_body": {"messages": [ASK]}, "response_body": YOU, "response_at": "now"}
        with pytest.raises(DataError, match=r": --map prompt=request_body --map response=response_body \(its"):
            found(row)
        assert [texts(i) for i in good(found(row, mapped="prompt=request_body,response=response_body"))] == [SILENT]

    def test_messages_without_an_answer_are_asked_about_once(self) -> None:
        row = {"context": [ASK], "response1": "y", "response2": "z"}
        with pytest.raises(DataError, match=r"nothing is read as response; response1 → response\?"):
            found(row, row)

    def test_two_columns_of_one_name(self) -> None:
        with pytest.raises(DataError, match=r"edited and edited.1 may each be the edited: choose with --map"):
            found({"prompt": "x", "response": "y", "edited": "z", "edited.1": "w"}, table=True)

    def test_the_first_edit_may_come_late(self) -> None:
        rows = [{"question": "x", "draft": f"y {i}"} for i in range(300)]
        last = good(found(*rows, {"question": "x", "draft": "y", "final": "z"}))[-1]
        assert texts(last) == (("x",), "y", "z")
        with pytest.raises(DataError, match="finall → edited"):
            found(*rows, {"question": "x", "draft": "y", "finall": "z"})

    def test_no_record_at_all(self) -> None:
        assert good(found()) == []

    @pytest.mark.parametrize("form", BY_NAME)
    def test_every_form_has_a_reader(self, form: str) -> None:
        assert form in READERS


class TestMap:
    def test_nested_paths_lists_and_json_in_cells(self) -> None:
        row = {"in": {"q": ["x", "kept"]}, "draft": "y", "result": '{"texts": ["z"]}', "who.name": "kim", "n": 7}
        (interaction,) = good(found(row, mapped="prompt=in.q[0],edited=result.texts[0],user_id=who.name,id=n"))
        assert texts(interaction) == (("x",), "y", "z")
        assert (interaction.completion.id, interaction.completion.user_id) == ("7", "kim")
        assert interaction.edit == Edit("7", "z", user_id="kim")
        assert interaction.completion.metadata["in"] == {"q": ["kept"]}

    @pytest.mark.parametrize("form", ["auto", "native"])
    def test_native_fields_by_other_names(self, form: str) -> None:
        row = {"context": [ASK], "response": "Dear Ann!", "final": {"text": "Hi Ann!"}, "untaught": "refusal"}
        reading = found(row, mapped="context=context,edited=final.text", form=form)
        (interaction,) = good(reading)
        assert texts(interaction) == PLAIN
        assert interaction.completion.untaught == "refusal"
        assert reading.shape.startswith("native")

    def test_names_hold_commas_and_equals_signs(self) -> None:
        row = {"Question, asked": "x", "Draft = v1": "y", "Final": "z"}
        mapped = "prompt=Question, asked,response=Draft = v1"
        assert [texts(i) for i in good(found(row, table=True, mapped=mapped))] == [(("x",), "y", "z")]
        assert mapping_of(["prompt=a,b", "edited=c=d"]) == {"prompt": "a,b", "edited": "c=d"}

    def test_a_path_that_no_row_has(self) -> None:
        rows = [{"prompt": "x", "response": "y"}] * 150
        for form in ("auto", "native", "table"):
            with pytest.raises(
                DataError, match=r"^rows: no final, which --map reads as edited, in any row; found: prom"
            ):
                found(*rows, form=form, mapped="edited=final")
        assert len(good(found(*rows, {**rows[0], "final": "z"}, form="table", mapped="edited=final"))) == 151

    @pytest.mark.parametrize(
        ("text", "said"), [("context", "no column"), ("=a", "no column"), ("contxt=a", "did you mean 'context'")]
    )
    def test_invalid_pairs(self, text: str, said: str) -> None:
        with pytest.raises(ConfigError, match=said):
            mapping_of([text])

    def test_what_is_left_of_a_record(self) -> None:
        record = {"a": {"b": [1, {"c": 2}]}, "d.e": 3}
        assert without(record, steps_of("a.b[1].c", record)) == {"a": {"b": [1]}, "d.e": 3}
        assert without(record, steps_of("a.b[0]", record)) == {"a": {"b": [{"c": 2}]}, "d.e": 3}
        assert without(record, steps_of("d.e", record)) == {"a": {"b": [1, {"c": 2}]}}

    def test_names_are_compared_without_case_blanks_and_lines(self) -> None:
        assert guessed(["Model-Output", " user_prompt", "Final Text"]) == {
            "prompt": " user_prompt",
            "response": "Model-Output",
            "edited": "Final Text",
        }


class TestMessages:
    @pytest.mark.parametrize("form", ["native", "table"])
    def test_one_that_ends_with_the_assistant_is_the_response_once(self, form: str) -> None:
        row = {"messages": [ASK, YOU], "response": "Dear Ann!", "edited": "Hi Ann!"}
        assert [texts(i) for i in good(found(row, form=form))] == [PLAIN]

    def test_two_different_answers_are_refused_but_for_what_a_gateway_logged(self) -> None:
        row = {"messages": [ASK, say("assistant", "Dear")], "response": "Dear Ann!", "edited": "Hi Ann!"}
        assert "messages end with another answer than the response" in bad(found(row, form="table"))
        (interaction,) = good(found(row, form="native"))
        assert texts(interaction) == (("Greet Ann.", "Dear"), "Dear Ann!", "Hi Ann!")

    def test_what_a_message_says_beside_its_text_is_kept(self) -> None:
        parts = [{"type": "text", "text": "See "}, {"type": "image_url", "image_url": {"url": "u"}}]
        calls = say("assistant", None, tool_calls=[call("Oslo")])
        row = {"messages": [say("developer", "s"), say("user", parts), calls, say("tool", "-3")], "response": "y"}
        (interaction,) = good(found(row))
        system, asked, called, _ = interaction.completion.messages
        assert system == Message("system", "s")
        assert (asked.content, asked.more) == ("See [image_url]", {"content": parts})
        assert (called.content, called.more) == (call_text("Oslo"), {"tool_calls": [call("Oslo")]})

    def test_a_called_answer_is_kept_as_the_gateway_keeps_it(self) -> None:
        (interaction,) = good(found(SHAPES["TRL, with tools"].record))
        kept = {"message": {"role": "assistant", "tool_calls": [call("Bergen")]}}
        assert (interaction.completion.answer, interaction.completion.untaught) == (kept, "")
        refused = {"prompt": "x", "chosen": "z", "rejected": [say("assistant", None, refusal="No.")]}
        (interaction,) = good(found(refused))
        assert (interaction.completion.response, interaction.completion.untaught) == ("No.", "refusal")

    @pytest.mark.parametrize(
        ("record", "reason"),
        [
            ({"prompt": "x", "chosen": "z", "rejected": None}, "response is missing"),
            ({"chosen": "x", "rejected": "y"}, "prompt is missing: give it, or let both answers begin with the same"),
            ({"prompt": "x", "chosen": [ASK], "rejected": "y"}, "edited must be one assistant message after the same"),
            ({"prompt": "x", "chosen": "x", "rejected": []}, "response must be one assistant message"),
            ({"prompt": [say("bot9", "x")], "chosen": "x", "rejected": "y"}, "prompt[0].role = 'bot9': use system"),
            (
                {"prompt": "x", "chosen": "x", "rejected": say("model", [{"toolUse": {"name": "w"}}])},
                "parts with a type",
            ),
            ({"prompt": [say("user", 3)], "chosen": "x", "rejected": "y"}, "prompt[0].content = 3: must be text"),
            ({"prompt": [YOU], "chosen": "x", "rejected": "y"}, "messages end with another answer than the response"),
            ({"prompt": 7, "chosen": "x", "rejected": "y"}, "prompt = 7: must be text or messages"),
            ({"prompt": {"a": "x", "b": 1}, "chosen": "x", "rejected": "y"}, "prompt is an object with a, b: name the"),
            ({"prompt": "x", "chosen": [{"role": "assistant"}], "rejected": "y"}, "edited[0] says nothing"),
            ({"prompt": "x", "chosen": "z", "rejected": ["y", "v"]}, "2 texts: name one, such as --map response=…[0]"),
            (
                {"prompt": "x", "chosen": "z", "rejected": {"choices": [{"message": YOU}, {"message": ME}]}},
                "response holds 2 answers: name one, such as --map response=….choices[0].message",
            ),
            ({"prompt": "x", "chosen": "z", "rejected": "y", "id": [1]}, "id = [1]: must be a text or a number"),
        ],
    )
    def test_what_cannot_be_said_is_refused(self, record: dict[str, Any], reason: str) -> None:
        assert reason in bad(found(record, form="trl"))

    def test_two_uses_of_a_tool_are_two_answers(self) -> None:
        used = (
            [{"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": city}}]
            for city in ("Bergen", "Oslo")
        )
        drafted, edited = (say("assistant", content) for content in used)
        row = {"prompt": "Is it cold?", "response": drafted, "edited": edited}
        assert [texts(i) for i in good(found(row))] == [CALLED]

    @pytest.mark.parametrize(
        ("word", "accepted"),
        [("t", True), ("1.0", True), ("ok", True), ("f", False), ("0.0", False), ("Pending", False)],
    )
    def test_yes_and_no_in_other_words(self, word: str, accepted: bool) -> None:
        (interaction,) = good(found({"prompt": "x", "draft": "y", "accepted": word}, table=True))
        assert (interaction.edit is not None) is accepted

    def test_what_is_neither_yes_nor_no_is_refused_unless_there_is_an_edit(self) -> None:
        row = {"prompt": "x", "draft": "y", "accepted": "Hi Ann!"}
        assert bad(found(row, table=True)).startswith("accepted = 'Hi Ann!': write yes or no; a text that")
        assert [texts(i) for i in good(found({**row, "edited": "z"}, table=True))] == [(("x",), "y", "z")]

    def test_a_spreadsheets_error_is_no_text(self) -> None:
        row = {"prompt": "x", "draft": "y", "edited": "#NAME?"}
        assert bad(found(row, table=True)) == "edited = #NAME?: a spreadsheet wrote this for a text: correct the cell"

    def test_text_that_is_json_stays_text(self) -> None:
        row = {"prompt": "x", "draft": '{"a": 1}', "final": '[{"a": 2}]'}
        assert [texts(i) for i in good(found(row, table=True))] == [(("x",), '{"a": 1}', '[{"a": 2}]')]


class TestAnnotations:
    def test_each_person_and_each_text_is_an_edit_of_one_draft(self) -> None:
        task = SHAPES["Label Studio, JSON"].record
        two = [{**LABELLED, "value": {"text": ["Hey Ann!", "Hi Ann!"]}}]
        given = {
            **task,
            "annotations": [{"id": n, "completed_by": n, "result": r} for n, r in ((1, [LABELLED]), (2, two))],
        }
        rows = good(found(given))
        assert [(i.edit.user_id, i.edit.edited, i.edit.revision) for i in rows if i.edit] == [
            ("1", "Hi Ann!", 0),
            ("2", "Hey Ann!", 0),
            ("2", "Hi Ann!", 1),
        ]
        assert len({repr(i.completion) for i in rows}) == 1

    def test_the_edit_has_its_time_and_person(self) -> None:
        (interaction,) = good(found(SHAPES["Label Studio, JSON"].record))
        assert interaction.edit is not None
        assert (interaction.edit.user_id, str(interaction.edit.created_at)[:19]) == (
            "kim@example.org",
            "2026-01-02 03:04:05",
        )
        assert interaction.completion.user_id is None

    def test_a_list_in_a_cell(self) -> None:
        row = SHAPES["Label Studio, JSON_MIN"].record
        rows = good(found({**row, "final": '["Hey Ann!","Hi Ann!"]'}, table=True))
        assert [(i.edited, i.edit and i.edit.revision) for i in rows] == [("Hey Ann!", 0), ("Hi Ann!", 1)]

    def test_accepted_in_prodigy(self) -> None:
        row = {key: value for key, value in SHAPES["Prodigy, text_input"].record.items() if key != "user_input"}
        (interaction,) = good(found(row))
        assert interaction.edit is not None
        assert (interaction.edit.edited, interaction.edit.user_id) == (None, "kim")

    def test_several_answers_that_are_texts_are_asked_about(self) -> None:
        task = SHAPES["Label Studio, JSON"].record
        result = [{**LABELLED, "from_name": name} for name in ("one", "two")]
        row = {**task, "annotations": [{"id": 1, "completed_by": 1, "result": result}]}
        with pytest.raises(DataError, match=r"nothing is read as edited: --map edited=…"):
            found(row)
        assert [texts(i) for i in good(found(row, mapped="edited=two"))] == [PLAIN]

    def test_a_choice_is_no_edit(self) -> None:
        """Label Studio's choices and ratings, and Argilla's labels, are words that nobody wrote as an answer."""
        task = SHAPES["Label Studio, JSON"].record
        chosen = {"from_name": "verdict", "to_name": "draft", "type": "choices", "value": {"choices": ["Good"]}}
        typed = {**LABELLED, "from_name": "answer"}
        both, one = ({**task, "annotations": [{"id": 1, "result": r}]} for r in ([chosen, typed], [chosen]))
        assert [texts(i) for i in good(found(both, one))] == [PLAIN, SILENT]
        label = {
            "fields": {"prompt": "x", "response": "y"},
            "responses": {"quality": [{"value": "good", "user_id": "u"}]},
        }
        for row in (one, label):
            with pytest.raises(DataError, match=r"nothing is read as edited: --map edited=…"):
                found(row)

    def test_columns_of_argilla_1(self) -> None:
        row = {
            "prompt": "Greet Ann.",
            "answer": [{"user_id": "u1", "value": "Hi Ann!", "status": "submitted"}],
            "answer-suggestion": "Dear Ann!",
            "answer-suggestion-metadata": {"type": None, "score": None, "agent": None},
            "external_id": None,
            "metadata": '{"origin": "crm"}',
        }
        draft = {**row, "answer": [{"user_id": "u1", "value": "Hi", "status": "draft"}]}
        first, second = good(found(row, draft))
        assert (texts(first), texts(second)) == (PLAIN, SILENT)
        assert first.edit is not None
        assert (first.edit.user_id, first.edit.metadata["origin"]) == ("u1", "crm")
        assert [texts(i) for i in good(found(draft))] == [SILENT]

    def test_a_box_that_prodigy_left_empty_is_no_edit(self) -> None:
        row = {**SHAPES["Prodigy, text_input"].record, "user_input": ""}
        assert [(texts(i), i.unchanged) for i in good(found(row))] == [
            ((("Greet Ann.",), "Dear Ann!", "Dear Ann!"), True)
        ]


@pytest.mark.parametrize("error", [OverflowError("date"), KeyError("x"), RecursionError(), TypeError("a\nb")])
def test_whatever_goes_wrong_in_a_row_costs_that_row_alone(error: Exception) -> None:
    def parse(_: object) -> Sequence[Interaction]:
        raise error

    rows = Rows(Path("rows"), OPTIONS)
    (row,) = rows.rows(3, parse, {})
    assert str(row).startswith(f"rows:3: cannot be read ({type(error).__name__}")
    assert "\n" not in str(row)


@pytest.mark.parametrize("value", [1e300, -1e300, 10**400, "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"])
def test_times_out_of_range_cost_their_row_alone(value: Any) -> None:
    rows = [{"prompt": "x", "response": "y", "created_at": moment} for moment in ("2026-01-01T00:00:00Z", value)]
    for form in ("native", "table"):
        mapped = "" if form == "native" else "created_at=created_at"
        first, second = found(*rows, form=form, mapped=mapped).rows()
        assert (type(first), type(second)) == (Row, BadRow)


@pytest.mark.parametrize("form", ["native", "table"])
def test_times_as_other_software_writes_them(form: Any) -> None:
    seconds = 1772357400  # 2026-03-01T09:30:00Z
    written = ["2026-03-01T15:15+05:45", "2026-03-01 09:30:00", seconds, seconds * 1000, str(seconds)]
    written += ["2026-03-01 09:30:00 UTC", seconds * 10**6, seconds * 10**9]
    rows = [{"prompt": f"{i}", "response": "y", "created_at": value} for i, value in enumerate(written)]
    dates = [
        {"prompt": f"{i}", "response": "y", "created_at": value} for i, value in enumerate(["2026-03-01", "20260301"])
    ]
    mapped = "" if form == "native" else "created_at=created_at"
    given = [i.completion.created_at for i in good(found(*rows, *dates, form=form, mapped=mapped))]
    assert given == [datetime(2026, 3, 1, 9, 30, tzinfo=UTC)] * 8 + [datetime(2026, 3, 1, tzinfo=UTC)] * 2
