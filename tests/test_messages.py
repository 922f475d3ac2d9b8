"""A streamed answer, put together, is the message that a whole answer would have been."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from redraft.messages import Draft, message_text

TEXT = st.text(max_size=12)


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    """Answers with text, refusals, and tool calls of both kinds."""
    kinds = draw(st.lists(st.sampled_from(["function", "custom"]), max_size=3))
    calls = [
        {"id": f"c{place}", "type": kind, kind: {"name": draw(TEXT), _argument(kind): draw(TEXT)}}
        for place, kind in enumerate(kinds)
    ]
    message: dict[str, Any] = {"role": "assistant", "content": draw(st.none() | TEXT.filter(bool))}
    message |= {"tool_calls": calls} if calls else {}
    return message | ({"refusal": refusal} if (refusal := draw(TEXT)) else {})


def _argument(kind: str) -> str:
    return "arguments" if kind == "function" else "input"


def cut(draw: Any, text: str) -> list[str]:
    place = draw(st.integers(0, len(text)))
    return [text[:place], text[place:]]


@given(st.data())
def test_pieces_make_the_message(data: st.DataObject) -> None:
    message, draft, size = data.draw(messages()), Draft(), 0
    for name in ("content", "refusal"):
        for part in cut(data.draw, message.get(name) or ""):
            draft.add({"delta": {name: part}})
            size += len(part)
    for index, call in enumerate(message.get("tool_calls", ())):
        kind = call["type"]
        draft.add({"delta": {"tool_calls": [{"index": index, "id": call["id"], kind: {"name": call[kind]["name"]}}]}})
        size += len(call[kind]["name"]) + len(call[kind][_argument(kind)])
        for part in cut(data.draw, call[kind][_argument(kind)]):
            draft.add({"delta": {"tool_calls": [{"index": index, kind: {_argument(kind): part}}]}})
    draft.add({"delta": {}, "finish_reason": "stop"})
    assert draft.text == message_text(message) == message_text(draft.message)
    assert (draft.size, draft.finish_reason) == (size, "stop")
