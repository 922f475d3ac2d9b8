"""The gateway over HTTP: routes, status codes and OpenAI's shapes. What they do stands in ``service``.

Every request of a writer waits for one route, chat. It is answered at once and not led through FastAPI's middlewares
and dependencies, which took a fifth of a request's time (results/LOG.md); FastAPI knows it for the description.

No postponed annotations here: FastAPI reads them, and those of a route name its own dependencies.
"""

import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from redraft import __version__
from redraft.errors import ConflictError, DataError, NotFoundError, RedraftError
from redraft.gateway.auth import AuthError, Authority, Caller
from redraft.gateway.engine import EngineError, Piece
from redraft.gateway.openai import ChatRequest, chunk_of, error_body, response_of
from redraft.gateway.service import Gateway, Reply
from redraft.types import Decision, Edit

__all__ = ["create_app"]

_log = logging.getLogger("redraft.gateway")

Id = Annotated[str, Field(min_length=1, max_length=200)]


class EditRequest(BaseModel):
    """What a person made of a completion: the text they left, or that it was fine as it was."""

    model_config = ConfigDict(extra="forbid")

    completion_id: Id
    edited: str | None = None
    accepted: bool = False
    revision: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    user_id: Id | None = None
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    idempotency_key: Id | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.edited is None) != self.accepted:
            raise ValueError("give either edited, the text that was left, or accepted: true")
        return self


class FeedbackRequest(BaseModel):
    """TensorZero's feedback; of its metrics, demonstrations are edits."""

    model_config = ConfigDict(extra="ignore")

    metric_name: str
    inference_id: Id
    value: Any
    tags: dict[str, Any] = Field(default_factory=dict[str, Any])


class EditResponse(BaseModel):
    """What became of an edit. ``cost`` is Δ(y, y'), ``raw`` the distance before it is divided by y's length."""

    completion_id: str
    revision: int
    new: bool
    policy: str
    raw: float
    cost: float
    unchanged: bool


def create_app(gateway: Gateway, authority: Authority) -> FastAPI:
    """The application; its lifespan enters and leaves the gateway."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with gateway:
            app.state.ready = True
            yield
            app.state.ready = False

    app = _Application(
        title="redraft",
        version=__version__,
        summary="Policies that learn from how people edit them.",
        lifespan=lifespan,
    )
    app.state.ready = False
    _errors(app)
    _chat(app, gateway, authority)
    _edits(app, gateway, authority)
    _status(app, gateway, authority)
    return app


class _Application(FastAPI):
    """FastAPI with routes that are answered at once: none of its middlewares sees their requests."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._at_once: dict[str, tuple[Callable[[Request], Awaitable[Response]], Route]] = {}

    def answer_at_once(self, path: str, answer: Callable[[Request], Awaitable[Response]]) -> None:
        """Let ``answer`` have what is posted to ``path``, an exact one."""
        self._at_once[path] = answer, Route(path, answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let FastAPI do so."""
        path = scope["path"] if scope["type"] == "http" and scope["method"] == "POST" else None
        if path not in self._at_once:
            await super().__call__(scope, receive, send)
            return
        answer, scope["route"] = self._at_once[path]
        request = Request(scope, receive)
        try:
            response = await answer(request)
        except (RedraftError, RequestValidationError) as error:
            response = await (_failed if isinstance(error, RedraftError) else _invalid)(request, error)
        await response(scope, receive, send)


def _asked(authority: Authority, scope: str) -> Any:
    """The caller of a request, who must have this scope."""

    async def caller(request: Request) -> Caller:
        found = await authority.caller(request.headers.get("authorization"))
        found.require(scope)
        return found

    return Depends(caller)


def _chat(app: _Application, gateway: Gateway, authority: Authority) -> None:
    schema = {
        "requestBody": {"content": {"application/json": {"schema": ChatRequest.model_json_schema()}}, "required": True}
    }

    @app.post("/v1/chat/completions", openapi_extra=schema)
    async def chat(request: Request) -> Response:
        """Answer messages; see OpenAI's reference. ``model`` is a task, or a task's policy."""
        caller = await authority.caller(request.headers.get("authorization"))
        caller.require("client")
        asked = _parsed(await request.body())
        reply = await gateway.complete(asked, caller.project)
        headers = _headers(reply)
        if reply.pieces is not None:
            usage = asked.stream_options is not None and asked.stream_options.include_usage
            return StreamingResponse(_events(reply, usage), media_type="text/event-stream", headers=headers)
        assert reply.answer is not None
        body = response_of(reply.completion_id, reply.policy, reply.answer.choice, reply.answer.usage)
        return Response(json.dumps(body), media_type="application/json", headers=headers)

    app.answer_at_once("/v1/chat/completions", chat)


def _parsed(body: bytes) -> ChatRequest:
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_context=False)) from error


def _headers(reply: Reply) -> dict[str, str]:
    headers = {"x-redraft-policy": reply.policy}
    if reply.decision is not None:
        headers["x-redraft-decision"] = _described(reply.decision)
    return {name: value.encode("ascii", "backslashreplace").decode() for name, value in headers.items()}


def _described(decision: Decision) -> str:
    return f"selector={decision.selector}; t={decision.t}; chosen={decision.chosen}"


async def _events(reply: Reply, usage: bool) -> AsyncIterator[bytes]:
    """Server-sent events. What breaks after the first of them can only be said in another one."""
    assert reply.pieces is not None
    created = int(time.time())
    try:
        async for piece in reply.pieces:
            for chunk in _chunks(reply, piece, created, usage):
                yield b"data: " + json.dumps(chunk).encode() + b"\n\n"
    except RedraftError as error:
        yield b"data: " + json.dumps(error_body(str(error), "api_error")).encode() + b"\n\n"
    else:
        yield b"data: [DONE]\n\n"


def _chunks(reply: Reply, piece: Piece, created: int, usage: bool) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if piece.choices:
        found.append(chunk_of(reply.completion_id, reply.policy, created, piece.choices))
    if piece.usage is not None and usage:
        found.append(chunk_of(reply.completion_id, reply.policy, created, (), piece.usage))
    return found


def _edits(app: FastAPI, gateway: Gateway, authority: Authority) -> None:
    async def edit(asked: EditRequest, caller: Caller) -> EditResponse:
        given = Edit(
            asked.completion_id,
            None if asked.accepted else asked.edited,
            -1 if asked.revision is None else asked.revision,
            asked.user_id,
            _now(),
            asked.metadata,
        )
        found = await gateway.edit(given, caller.project, key=asked.idempotency_key)
        return EditResponse(
            completion_id=asked.completion_id,
            revision=found.revision,
            new=found.new,
            policy=found.policy,
            raw=found.raw,
            cost=found.cost,
            unchanged=found.unchanged,
        )

    @app.post("/v1/edits")
    async def edits(asked: EditRequest, caller: Annotated[Caller, _asked(authority, "feedback")]) -> EditResponse:
        """Tell what a person made of a completion. Sending the same again has no effect."""
        return await edit(asked, caller)

    @app.post("/feedback")
    async def feedback(
        asked: FeedbackRequest, caller: Annotated[Caller, _asked(authority, "feedback")]
    ) -> dict[str, str]:
        """TensorZero's way to send a demonstration, so that its clients need no change."""
        if asked.metric_name != "demonstration":
            raise DataError(f"metric_name {asked.metric_name!r}: only 'demonstration' is an edit")
        text = asked.value if isinstance(asked.value, str) else json.dumps(asked.value)
        found = await edit(EditRequest(completion_id=asked.inference_id, edited=text, metadata=asked.tags), caller)
        return {"feedback_id": f"{found.completion_id}:{found.revision}"}

    @app.get("/v1/edits")
    def listed(
        caller: Annotated[Caller, _asked(authority, "feedback")],
        completion_id: str | None = None,
        after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> dict[str, Any]:
        """Edit events as they came, of one completion or of all; ``after`` is the position of the last one seen."""
        tasks = [task.name for task in gateway.of(caller.project)]
        rows = gateway.log.edit_events(tasks, completion_id=completion_id, after=after, limit=limit)
        return {"object": "list", "data": rows}

    @app.get("/v1/completions/{completion_id}")
    def completion(completion_id: str, caller: Annotated[Caller, _asked(authority, "feedback")]) -> dict[str, Any]:
        """A completion with what chose its policy and the edit that holds."""
        found = gateway.log.interaction(completion_id)
        if found.completion.task not in {task.name for task in gateway.of(caller.project)}:
            raise NotFoundError(f"completion {completion_id!r} is not in the log")
        return _plain(found)

    @app.delete("/v1/users/{user_id}")
    def erase(user_id: str, caller: Annotated[Caller, _asked(authority, "admin")]) -> dict[str, Any]:
        """Erase all texts of a person; events and numbers stay. Names the policies that were trained on them."""
        tasks = [task.name for task in gateway.of(caller.project)]
        texts, policies = gateway.erase(user_id, tasks)
        return {"user_id": user_id, "texts": texts, "policies": policies}


def _plain(interaction: Any) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(interaction), default=str))


def _status(app: FastAPI, gateway: Gateway, authority: Authority) -> None:
    @app.get("/v1/models")
    async def models(caller: Annotated[Caller, _asked(authority, "client")]) -> dict[str, Any]:
        """Tasks, and the policies that can be pinned."""
        names = [
            name
            for task in gateway.of(caller.project)
            for name in (task.name, *(_pin(task.name, policy) for policy in task.policies))
        ]
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "redraft"} for name in names]
        return {"object": "list", "data": data}

    @app.get("/v1/tasks/{task}/policies")
    async def policies(task: str, caller: Annotated[Caller, _asked(authority, "client")]) -> dict[str, Any]:
        """What the selector of a task knows of its policies: decisions, edits, mean cost with a 95 % interval."""
        if task not in {found.name for found in gateway.of(caller.project)}:
            raise NotFoundError(f"task {task!r} does not exist")
        return {"task": task, "selector": gateway.board(task).selector.name, "policies": gateway.standing(task)}

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """Whether policies are loaded and the log can be read."""
        if not app.state.ready:
            return JSONResponse({"status": "starting"}, 503)
        try:
            await gateway.refresh()
        except RedraftError:
            _log.warning("not ready", exc_info=True)
            return JSONResponse({"status": "the log cannot be read"}, 503)
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Numbers for Prometheus."""
        counts = [(name, gateway.board(name).counts()) for name in gateway.tasks]
        return Response(gateway.metrics.page(counts), media_type="text/plain; version=0.0.4")


def _errors(app: FastAPI) -> None:
    """The one place where an error becomes a status code."""
    app.add_exception_handler(RedraftError, _failed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)


def _error(status: int, message: str, kind: str, **more: Any) -> JSONResponse:
    headers = {"www-authenticate": "Bearer"} if status == 401 else {"retry-after": "1"} if status == 429 else None
    return JSONResponse(error_body(message, kind, **more), status, headers)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    status = _status_of(error)
    kind = "api_error" if status >= 500 else _KINDS.get(status, "invalid_request_error")
    code = "model_not_found" if status == 404 and request.url.path.endswith("/chat/completions") else None
    return _error(status, str(error), kind, code=code)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    return _error(400, f"{place or 'body'}: {first['msg']}", "invalid_request_error", param=place or None)


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, str(error.detail), "invalid_request_error")


_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def _status_of(error: Exception) -> int:
    match error:
        case AuthError() | EngineError():
            return error.status
        case NotFoundError():
            return 404
        case ConflictError():
            return 409
        case DataError():
            return 400
        case _:
            return 503  # the log cannot be written: nothing was lost, and asking again may help


def _pin(task: str, policy: str) -> str:
    return policy if policy.startswith(f"{task}/") else f"{task}/{policy}"


def _now() -> datetime:
    return datetime.now(UTC)
