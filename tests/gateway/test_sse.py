"""Server-sent events as they should and as they should not be, whole and cut anywhere."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from fuzz import FailedError, fuzzed, run, storable
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.gateway.engine import EngineError, Piece
from redraft.gateway.foreign import Chunks
from redraft.gateway.sse import EventReader
from redraft.messages import Draft

Events = list[tuple[str, bytes]]


def read(*parts: bytes, limit: int = 1_000_000) -> Events:
    reader = EventReader(limit)
    return [event for part in parts for event in reader.feed(part)] + list(reader.end())


def data(*texts: str) -> Events:
    return [("message", text.encode()) for text in texts]


@pytest.mark.parametrize(
    ("said", "events"),
    [
        ("data: a\n\ndata:b\n\ndata:  c\n\n", data("a", "b", " c")),
        ("data: a\r\n\r\ndata: b\r\n\r\n", data("a", "b")),
        ("data: a\r\rdata: b\r\r", data("a", "b")),
        ("\ufeffdata: a\n\n", data("a")),
        (": ping\n\n:\n\ndata: a\n: within\ndata: b\n\n", data("a\nb")),
        ("id: 1\nretry: 5\nunknown\nevent: error\ndata: a\n\ndata: b\n\n", [("error", b"a"), *data("b")]),
        ("event: lost\n\ndata: a\n\n", data("a")),  # a type without data belongs to no event
        ("data:\ndata: a\n\ndata:\n\n", data("\na")),
        ("data: the end is near", data("the end is near")),
        ('{"a": 1}\n{"b": 2}\r\n', data('{"a": 1}', '{"b": 2}')),
        ('data: {"a": 1}\ndata: {"b": 2}\ndata: [DONE]\n', data('{"a": 1}', '{"b": 2}', "[DONE]")),
        ('data: {"a": {}\ndata: , "b": [\ndata: {}]}\n\n', data('{"a": {}\n, "b": [\n{}]}')),
        ('error: {"code": 400}\n\n', [("error", b'{"code": 400}')]),
        ('{\n "a": {\n  "b": 1\n }\n}\n', data('{\n "a": {\n  "b": 1\n }\n}')),
        ("<html>\n<b>data</b>\n\n", []),
    ],
)
def test_events_by_the_standard_and_beyond(said: str, events: Events) -> None:
    raw = said.encode()
    assert read(raw) == events
    assert read(*(raw[place : place + 1] for place in range(len(raw)))) == events


def test_an_event_is_there_with_its_last_byte() -> None:
    reader = EventReader()
    assert list(reader.feed(b"data: a\r\n\r")) == data("a")
    assert list(reader.feed(b"\ndata: b\n")) == []
    assert list(reader.feed(b"\n")) == data("b")


def test_a_long_line_is_an_event_and_an_endless_one_is_not() -> None:
    long = "x" * 900_000
    assert read(f"data: {long}\n\n".encode()) == data(long)
    for endless in (b"data: x", b": x", b"<p>x\n", b"data: x\n", b"data:\n"):
        with pytest.raises(OverflowError, match="more than 1000 bytes"):
            read(*[endless * 10] * 200, limit=1000)
    assert read(*[b"data: 12345\n\n: ping\n\n"] * 200, limit=1000)


def shown(events: Events, pieces: list[Piece]) -> list[Piece]:
    """What comes last; ``pieces`` gets all before it."""
    chunks, done = Chunks("up", "", str), False
    for kind, said in events:
        if done := said.strip() == b"[DONE]":
            break
        pieces += chunks.read(kind, said)
    last = chunks.end(done)
    return [last] if last else []


@given(st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_any_stream_gives_pieces_that_can_be_shown_or_an_error(seed: int) -> None:
    """Cut anywhere it gives the same events; its pieces are JSON, and ``Draft`` takes them."""
    found, draft, reader = fuzzed(str(seed)), Draft(), EventReader()
    events = [event for part in found.parts for event in reader.feed(part)] + list(reader.end())
    assert events == read(found.body, limit=10**9)
    pieces = list[Piece]()
    with suppress(EngineError):
        pieces += shown(events, pieces)
        assert pieces
    for piece in pieces:
        json.dumps([*piece.choices, piece.usage, piece.more], allow_nan=False)
        for choice in piece.choices:
            draft.add(choice)
    json.dumps(draft.message, allow_nan=False)
    storable(draft.text).encode()


def test_fuzzed_streams_through_a_gateway(tmp_path: Path) -> None:
    try:
        counts = run(60, 3, tmp_path)
    except FailedError as error:
        pytest.fail(str(error))
    assert counts["streamed"] > 20
    assert counts["cut"] > 4
