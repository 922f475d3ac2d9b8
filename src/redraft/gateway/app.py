"""The gateway over HTTP: routes, status codes and OpenAI's shapes. ``service`` has what they do.

Chat is the one route that a writer waits for. It bypasses FastAPI's middlewares and dependencies, which took a fifth of
a request's time (results/LOG.md); FastAPI only describes it.

No postponed annotations here: FastAPI reads them, and a route's annotations name its own dependencies.
"""

import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
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
from redraft.gateway.engine import EngineError
from redraft.gateway.openai import ChatRequest, completion_body, error_body, error_response
from redraft.gateway.service import Gateway, Reply
from redraft.types import Edit

__all__ = ["create_app"]

_log = logging.getLogger("redraft.gateway")

SUMMARY = "Policies that learn from how people edit what they write, behind OpenAI's API."

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
    """TensorZero's feedback. Only the metric ``demonstration`` is an edit."""

    metric_name: str
    inference_id: Id
    value: Any
    tags: dict[str, Any] = Field(default_factory=dict[str, Any])


class EditResponse(BaseModel):
    """What became of an edit. ``cost`` is Δ(y, y'), ``raw`` the distance before division by y's length."""

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
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with gateway:
            yield

    errors = {RedraftError: _failed, RequestValidationError: _invalid, HTTPException: _refused}
    app = _Application(
        title="redraft", version=__version__, summary=SUMMARY, lifespan=lifespan, exception_handlers=errors
    )
    _chat(app, gateway, authority)
    _edits(app, gateway, authority)
    _policies(app, gateway, authority)
    _health(app, gateway)
    return app


class _Application(FastAPI):
    """FastAPI with routes that bypass it: their requests go through none of its middlewares."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._at_once: dict[str, tuple[Callable[[Request], Awaitable[Response]], Route]] = {}

    def answer_at_once(self, path: str, answer: Callable[[Request], Awaitable[Response]]) -> None:
        """Give to ``answer`` what is posted to exactly this ``path``."""
        self._at_once[path] = answer, Route(path, answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let FastAPI do it."""
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
    """The caller of a request, whose key must have this scope."""

    async def caller(request: Request) -> Caller:
        found = await authority.caller(request.headers.get("authorization"))
        found.require(scope)
        return found

    return Depends(caller)


def _chat(app: _Application, gateway: Gateway, authority: Authority) -> None:
    content = {"application/json": {"schema": ChatRequest.model_json_schema()}}

    @app.post("/v1/chat/completions", openapi_extra={"requestBody": {"content": content, "required": True}})
    async def chat(request: Request) -> Response:
        """Answer messages, as in OpenAI's reference. ``model`` is a task, or one of its policies: ``email/sft@3``."""
        caller = await authority.caller(request.headers.get("authorization"))
        caller.require("client")
        asked = _parsed(await request.body())
        reply = await gateway.complete(asked, caller.project)
        headers = _headers(reply)
        if reply.pieces is not None:
            usage = asked.stream_options is not None and asked.stream_options.include_usage
            return StreamingResponse(_events(reply, usage), media_type="text/event-stream", headers=headers)
        assert reply.answer is not None
        choices = [{**reply.answer.choice, "index": 0}]
        body = completion_body(reply.completion_id, reply.model, choices, usage=reply.answer.usage)
        return Response(json.dumps(body), media_type="application/json", headers=headers)

    app.answer_at_once("/v1/chat/completions", chat)


def _parsed(body: bytes) -> ChatRequest:
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_context=False)) from error


def _headers(reply: Reply) -> dict[str, str]:
    headers = {"x-redraft-policy": reply.model}
    if (decision := reply.decision) is not None:
        chosen = reply.task.full(decision.chosen)
        headers["x-redraft-decision"] = f"selector={decision.selector}; t={decision.t}; chosen={chosen}"
    return {name: value.encode("ascii", "backslashreplace").decode() for name, value in headers.items()}


async def _events(reply: Reply, usage: bool) -> AsyncIterator[bytes]:
    """Server-sent events. A failure after the first of them can only be reported in another one."""
    assert reply.pieces is not None
    chunk = partial(completion_body, reply.completion_id, reply.model, created=int(time.time()))
    try:
        async for piece in reply.pieces:
            if piece.choices:
                yield _event(chunk(piece.choices))
            if piece.usage is not None and usage:
                yield _event(chunk((), usage=piece.usage))
    except RedraftError as error:
        yield _event(error_body(str(error), 502))
    else:
        yield b"data: [DONE]\n\n"


def _event(body: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def _edits(app: FastAPI, gateway: Gateway, authority: Authority) -> None:
    sender, admin = _asked(authority, "feedback"), _asked(authority, "admin")

    async def edit(asked: EditRequest, caller: Caller) -> EditResponse:
        revision = -1 if asked.revision is None else asked.revision
        now = datetime.now(UTC)
        given = Edit(asked.completion_id, asked.edited, revision, asked.user_id, now, asked.metadata)
        found = await gateway.edit(given, caller.project, key=asked.idempotency_key)
        task = gateway.tasks[found.task]
        policy = (
            task.full(found.policy) if found.policy in task.engines else found.policy
        )  # an import's may be free text
        return EditResponse.model_validate(asdict(found) | {"completion_id": given.completion_id, "policy": policy})

    @app.post("/v1/edits")
    async def edits(asked: EditRequest, caller: Caller = sender) -> EditResponse:
        """Send what a person made of a completion. Sending the same again has no effect."""
        return await edit(asked, caller)

    @app.post("/feedback")
    async def feedback(asked: FeedbackRequest, caller: Caller = sender) -> dict[str, str]:
        """Send an edit as a demonstration, as TensorZero's clients do."""
        if asked.metric_name != "demonstration":
            raise DataError(f"metric_name {asked.metric_name!r}: only 'demonstration' is an edit")
        text = asked.value if isinstance(asked.value, str) else json.dumps(asked.value)
        found = await edit(EditRequest(completion_id=asked.inference_id, edited=text, metadata=asked.tags), caller)
        return {"feedback_id": f"{found.completion_id}:{found.revision}"}

    @app.get("/v1/edits")
    def listed(
        completion_id: str | None = None,
        after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        caller: Caller = sender,
    ) -> dict[str, Any]:
        """Edits in the order they came, of one completion or of all; ``after`` is the position of the last one seen."""
        tasks = list(gateway.of(caller.project))
        rows = gateway.log.edit_events(tasks, completion_id=completion_id, after=after, limit=limit)
        return {"object": "list", "data": rows}

    @app.get("/v1/completions/{completion_id}")
    def completion(completion_id: str, caller: Caller = sender) -> dict[str, Any]:
        """A completion with the decision that chose its policy and its latest edit."""
        found = gateway.log.interaction(completion_id)
        if found.completion.task not in gateway.of(caller.project):
            raise NotFoundError(f"completion {completion_id!r} is not in the log")
        return json.loads(json.dumps(asdict(found), default=str))

    @app.delete("/v1/users/{user_id}")
    def erase(user_id: str, caller: Caller = admin) -> dict[str, Any]:
        """Erase all texts of a person; events and numbers stay. Lists the policies that were trained on them."""
        texts, policies = gateway.erase(user_id, list(gateway.of(caller.project)))
        return {"user_id": user_id, "texts": texts, "policies": policies}


def _policies(app: FastAPI, gateway: Gateway, authority: Authority) -> None:
    client = _asked(authority, "client")

    @app.get("/v1/models")
    async def models(caller: Caller = client) -> dict[str, Any]:
        """Tasks, and the policies that can be pinned."""
        names = gateway.models(caller.project)
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "redraft"} for name in names]
        return {"object": "list", "data": data}

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


def _health(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """Whether the log can be read; policies are loaded before the gateway listens."""
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


async def _failed(request: Request, error: Exception) -> Response:
    status = _status_of(error)
    code = "model_not_found" if status == 404 and request.url.path.endswith("/chat/completions") else None
    return error_response(status, str(error), code=code)


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    return error_response(400, f"{place or 'body'}: {first['msg']}", param=place or None)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_response(error.status_code, str(error.detail))


def _status_of(error: Exception) -> int:
    """The one place where an error becomes a status code."""
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
