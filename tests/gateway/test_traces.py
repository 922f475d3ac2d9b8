"""Traces, received by a server that speaks OTLP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import WORDS, Scripted, request, served, task, with_gateway
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from redraft.gateway.engine import EngineError
from redraft.gateway.service import Gateway
from redraft.gateway.traces import make_traces
from redraft.log import EditLog


@pytest.fixture
def received() -> list[Any]:
    return []


@pytest.fixture
def collector(received: list[Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    async def take(sent: Request) -> Response:
        found: Any = ExportTraceServiceRequest.FromString(await sent.body())
        for resource in found.resource_spans:
            service = {pair.key: pair.value.string_value for pair in resource.resource.attributes}["service.name"]
            received.extend((service, span) for scope in resource.scope_spans for span in scope.spans)
        return Response(b"", media_type="application/x-protobuf")

    with served(Starlette(routes=[Route("/v1/traces", take, methods=["POST"])])) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        yield


def attributes(span: Any) -> dict[str, Any]:
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}


@pytest.mark.usefixtures("collector")
def test_a_span_for_every_request(received: list[Any], tmp_path: Path) -> None:
    engine = Scripted()

    async def use(gateway: Gateway) -> None:
        await gateway.complete(request(), "default")
        streamed = await gateway.complete(request(stream=True), "default")
        assert streamed.pieces is not None
        assert len([piece async for piece in streamed.pieces]) == len(WORDS) + 1
        engine.refuses = EngineError("no", retry=False)
        with pytest.raises(EngineError):
            await gateway.complete(request(), "default")
        await asyncio.sleep(0)

    with EditLog(f"sqlite:///{tmp_path / 'log.db'}") as log:
        with_gateway(log, [task(engine)], use, traces=make_traces())
        logged = {row.completion.id: row.completion.policy for row in log.interactions("email")}
    assert {service for service, _ in received} == {"redraft"}
    spans = sorted((span for _, span in received), key=lambda span: span.start_time_unix_nano)
    whole, streamed, failed = map(attributes, spans)
    for found in (whole, streamed):
        assert found["gen_ai.response.model"] == logged[found["gen_ai.response.id"]] == found["redraft.chosen"]
        assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (3, len(WORDS))
        assert found["gen_ai.operation.name"] == "chat"
        assert found["gen_ai.request.model"] == "email"
    assert failed["error.type"] == "EngineError"
    assert "gen_ai.response.model" not in failed
    assert all(word.strip() not in str(span) for _, span in received for word in WORDS if len(word) > 4)


def test_nothing_without_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert make_traces() is None
