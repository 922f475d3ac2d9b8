"""The gateway over HTTP: its routes. ``service`` has what they do, ``failures`` what a client is told where they fail.

Answers are what a writer waits for. Their routes bypass FastAPI's middlewares and dependencies, which took a fifth of a
request's time (results/LOG.md); FastAPI only describes them.

No postponed annotations here: FastAPI reads them, and a route's annotations name its own dependencies.
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from redraft import __version__
from redraft.errors import NotFoundError, RedraftError
from redraft.gateway.auth import Authority, Caller, asked
from redraft.gateway.chat import Chat
from redraft.gateway.edits import add_edits, described
from redraft.gateway.failures import failure
from redraft.gateway.openai import ChatRequest
from redraft.gateway.passed import Passed, PassedRequest
from redraft.gateway.redact import redacted
from redraft.gateway.responses import Responses, ResponsesRequest
from redraft.gateway.service import Gateway

__all__ = ["create_app"]

_log = logging.getLogger("redraft.gateway")

SUMMARY = "Policies that learn from how people edit what they write, behind OpenAI's API."

Answer = Callable[[Request], Awaitable[Response]]


def create_app(gateway: Gateway, authority: Authority, *, trusted_proxies: str = "127.0.0.1") -> FastAPI:
    """The application; its lifespan enters and leaves the gateway."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        try:
            async with gateway:
                yield
        except RedraftError as error:  # uvicorn would print a traceback
            _log.error("the gateway stopped", extra={"error": redacted(str(error))})
            raise

    failing = dict.fromkeys((RedraftError, RequestValidationError, HTTPException, Exception), _failed)
    app = _Application(
        title="redraft", version=__version__, summary=SUMMARY, lifespan=lifespan, exception_handlers=failing
    )
    app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=trusted_proxies)  # pyright: ignore[reportArgumentType]
    app.answer_at_once("/v1/chat/completions", Chat(gateway, authority), ChatRequest)
    app.answer_at_once("/v1/responses", Responses(gateway, authority), ResponsesRequest)
    for path in ("/completions", "/embeddings"):
        app.answer_at_once(f"/v1{path}", Passed(gateway, authority, path), PassedRequest)
    add_edits(app, gateway, authority)
    _policies(app, gateway, authority)
    _health(app, gateway)
    return app


class _Application(FastAPI):
    """FastAPI with routes that bypass it: their requests go through none of its middlewares."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._at_once: dict[str, tuple[Answer, Route]] = {}

    def answer_at_once(self, path: str, answer: Answer, body: type[BaseModel]) -> None:
        """Give to ``answer`` what is posted to exactly this ``path``; ``body`` describes it."""
        self._at_once[path] = answer, Route(path, answer)

        async def route(request: Request) -> Response:
            return await answer(request)

        name = path.strip("/").replace("/", "_")
        self.post(path, name=name, description=type(answer).__call__.__doc__, openapi_extra=described(body))(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let FastAPI do it."""
        path = scope["path"] if scope["type"] == "http" and scope["method"] == "POST" else None
        if path not in self._at_once:
            try:
                return await super().__call__(scope, receive, send)
            except Exception as error:
                if scope.get("redraft.told") is not error:  # else it was answered and logged, and is raised once more
                    raise
                return None
        answer, scope["route"] = self._at_once[path]
        try:
            response = await answer(Request(scope, receive))
        except Exception as error:
            response = failure(error, missing="model_not_found").response()
        return await response(scope, receive, send)


async def _failed(request: Request, error: Exception) -> Response:
    request.scope["redraft.told"] = error
    missing = "model_not_found" if request.url.path.startswith("/v1/models/") else None
    return failure(error, missing=missing).response()


def _policies(app: FastAPI, gateway: Gateway, authority: Authority) -> None:
    client = asked(authority, "client")

    @app.get("/v1/models")
    async def models(caller: Caller = client) -> dict[str, Any]:
        """Tasks, and the policies that can be pinned."""
        return {"object": "list", "data": [_model(name) for name in gateway.models(caller.project)]}

    @app.get("/v1/models/{model:path}")
    async def one(model: str, caller: Caller = client) -> dict[str, Any]:
        """One of them."""
        known = gateway.models(caller.project)
        if model not in known:
            raise NotFoundError(f"model {model!r} does not exist: use one of {', '.join(known)}")
        return _model(model)

    @app.get("/v1/tasks/{task}/policies")
    async def policies(task: str, caller: Caller = client) -> dict[str, Any]:
        """What a task's selector knows about each policy: decisions, edits, mean cost with a 95 % interval."""
        if task not in gateway.of(caller.project):
            raise NotFoundError(f"task {task!r} does not exist")
        return {"task": task, "selector": gateway.board(task).selector.name, "policies": gateway.standing(task)}

    @app.head("/", include_in_schema=False)
    @app.get("/")
    async def root(request: Request) -> dict[str, Any]:
        """What this is and where its API starts; the tasks only where no key is needed."""
        about = {"name": "redraft", "version": __version__, "summary": SUMMARY, "base_url": f"{request.base_url}v1"}
        tasks = {} if authority.open_to is None else {"tasks": list(gateway.of(authority.open_to))}
        return about | {"docs": f"{request.base_url}docs", "openapi": f"{request.base_url}openapi.json"} | tasks


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "redraft"}


def _health(app: FastAPI, gateway: Gateway) -> None:
    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """Whether the log can be read; policies are loaded before the gateway listens."""
        try:
            await gateway.refresh()
        except Exception as error:
            return JSONResponse({"status": failure(error).message}, 503)
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Numbers for Prometheus."""
        counts = [(name, gateway.board(name).counts()) for name in gateway.tasks]
        return Response(gateway.metrics.page(counts), media_type="text/plain; version=0.0.4")
