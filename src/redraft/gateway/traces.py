"""Traces under OpenTelemetry's GenAI names, which may still change; no other file uses them.

OpenTelemetry's own environment variables say where traces go (``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_SERVICE_NAME``,
…). Without an endpoint nothing is traced or imported. A span holds names and numbers, never texts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from redraft.errors import ConfigError
from redraft.types import Completion

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

__all__ = ["Traces", "make_traces"]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Traces:
    """One span for each request that a policy was asked for."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider, self._tracer = provider, provider.get_tracer("redraft")

    def chat(
        self,
        completion: Completion,
        model: str,
        policy: str | None,
        chosen: str | None,
        *,
        usage: Mapping[str, Any] | None,
        error: BaseException | None,
    ) -> None:
        """Record a request that has just ended. ``chosen`` is what the selector chose, ``policy`` what answered."""
        from opentelemetry.trace import SpanKind, Status, StatusCode

        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "redraft",
            "gen_ai.request.model": model,
            "gen_ai.response.model": policy,
            "gen_ai.response.id": completion.id,
            "gen_ai.usage.input_tokens": (usage or {}).get("prompt_tokens"),
            "gen_ai.usage.output_tokens": (usage or {}).get("completion_tokens"),
            "redraft.chosen": chosen,
            "error.type": None if error is None else type(error).__name__,
        }
        span = self._tracer.start_span(
            f"chat {model}",
            kind=SpanKind.SERVER,
            attributes={name: value for name, value in attributes.items() if value is not None},
            start_time=completion.created_at and int(completion.created_at.timestamp() * 1e9),
        )
        if error is not None:
            span.set_status(Status(StatusCode.ERROR))
        span.end(time.time_ns())

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def make_traces() -> Traces | None:
    """Traces to the endpoint in the environment, if any; ``ConfigError`` when the packages are missing."""
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise ConfigError(f"{_ENDPOINTS[0]} is set, traces need {error.name}: pip install 'redraft[otel]'") from error
    name = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "redraft"}
    provider = TracerProvider(resource=Resource.create(name))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Traces(provider)
