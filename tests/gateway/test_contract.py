"""Our OpenAPI against what the gateway does: generated requests bring no 5xx and nothing the schema does not say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from gateway_parts import Scripted, served, task
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

from redraft.gateway.app import create_app
from redraft.gateway.auth import Authority
from redraft.gateway.limits import Limits, limited
from redraft.gateway.service import Gateway
from redraft.log import EditLog


@pytest.fixture
def schema(tmp_path: Path) -> Iterator[Any]:
    with EditLog(f"sqlite:///{tmp_path / 'log.db'}") as log:
        app = create_app(Gateway(log, [task(Scripted())]), Authority(log.key, "default"))
        with served(limited(app, Limits(1_000_000, 10, 64))) as url:  # pyright: ignore[reportArgumentType]
            yield schemathesis.openapi.from_url(f"{url}/openapi.json")


@pytest.mark.parametrize("examples", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_no_request_breaks_it(schema: Any, examples: int) -> None:
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 10
    for operation in operations:

        @settings(
            max_examples=examples,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        )
        @given(operation.as_strategy())
        def answers(case: Any) -> None:
            case.call_and_validate(checks=[not_a_server_error, response_schema_conformance])

        answers()
