"""Numbers for Prometheus: base units, labelled by task and policy, never by a person."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import cache, partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from redraft.log.events import Revised
from redraft.types import Count

__all__ = ["Metrics", "observed"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_COSTS = (0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 5)


class Metrics:
    """What one gateway counts, in a registry of its own."""

    def __init__(self) -> None:
        self.registry, of = CollectorRegistry(), ("task", "policy")
        counter, gauge = partial(Counter, registry=self.registry), partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        requests = counter("redraft_requests", "HTTP requests.", ("route", "status"))
        latency = histogram("redraft_request_seconds", "Time to the first byte.", ("route",), buckets=_SECONDS)
        upstream = histogram("redraft_policy_seconds", "Time until a policy's answer began.", of, buckets=_SECONDS)
        self._failures = counter("redraft_policy_failures", "Requests that a policy did not answer.", of)
        self._edits = counter("redraft_edits", "Edit events logged.", of)
        self._costs = histogram("redraft_edit_cost", "Cost of edits.", of, buckets=_COSTS)
        self._pulls = gauge("redraft_decisions", "Decisions for a policy, from the log.", of)
        self._pending = gauge("redraft_pending_feedback", "Decisions without an edit so far.", of)

        # looking up a child by its labels takes longer than counting
        self._requests, self._latency = cache(requests.labels), cache(latency.labels)
        self._upstream = cache(upstream.labels)

    def requested(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests(route, str(status)).inc()
        self._latency(route).observe(seconds)

    def answered(self, task: str, policy: str, seconds: float) -> None:
        """A policy's answer began after so long."""
        self._upstream(task, policy).observe(seconds)

    def failed(self, task: str, policy: str) -> None:
        """A policy did not answer."""
        self._failures.labels(task, policy).inc()

    def edited(self, edit: Revised) -> None:
        """An edit was acknowledged; one that was known before is not counted again."""
        if edit.new:
            self._edits.labels(edit.task, edit.policy).inc()
            self._costs.labels(edit.task, edit.policy).observe(edit.cost)

    def page(self, counts: Iterable[tuple[str, Mapping[str, Count]]]) -> bytes:
        """Prometheus' text, given each task's counts."""
        for task, policies in counts:
            for policy, count in policies.items():
                self._pulls.labels(task, policy).set(count.decisions)
                self._pending.labels(task, policy).set(count.decisions - count.resolved)
        return generate_latest(self.registry)


def observed(app: ASGIApp, metrics: Metrics) -> ASGIApp:
    """Count every request of ``app``, by the route that it matched and the status that it got."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        started = time.perf_counter()

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")  # a path that is no route can be anything
                metrics.requested(route, message["status"], time.perf_counter() - started)
            await send(message)

        return await app(scope, receive, noted)

    return run
