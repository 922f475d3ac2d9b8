"""What people made of completions, over HTTP: edits sent, read and erased, in our words and in TensorZero's.

No postponed annotations here: FastAPI reads them, and a route's annotations name its own dependencies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from fastapi import FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from redraft.errors import DataError, NotFoundError
from redraft.gateway.auth import Authority, Caller, asked
from redraft.gateway.chat import parsed
from redraft.gateway.service import Gateway
from redraft.log.mapping import interaction_json
from redraft.messages import message_text
from redraft.types import Edit

__all__ = ["add_edits", "described"]

LONGEST_ID = 1000

Id = Annotated[str, Field(min_length=1, max_length=LONGEST_ID)]


class EditedMessage(BaseModel):
    """A message of OpenAI's that a person left; its text is the one that the log would give it."""

    role: Literal["assistant"]
    content: str | list[dict[str, Any]] | None = None
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    function_call: dict[str, Any] | None = None


class EditRequest(BaseModel):
    """What a person made of a completion: the text or message they left, or that it was fine as it was."""

    model_config = ConfigDict(extra="forbid")

    completion_id: Id
    edited: str | EditedMessage | None = None
    accepted: bool | None = None
    revision: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    user_id: Id | None = None
    metadata: dict[str, Any] | None = None
    idempotency_key: Id | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.edited is None and self.accepted is False:
            raise ValueError('accepted: false does not say what was wrong: send edited, the text that was left (or "")')
        if (self.edited is None) != bool(self.accepted):
            raise ValueError("give either edited, the text that was left, or accepted: true")
        return self

    @property
    def text(self) -> str | None:
        """The text y' that was left."""
        if self.edited is None or isinstance(self.edited, str):
            return self.edited
        return _text("edited", self.edited.model_dump())


class FeedbackRequest(BaseModel):
    """TensorZero's feedback. Only the metric ``demonstration`` is an edit; its value is text or content blocks."""

    metric_name: str
    inference_id: Id
    value: Any
    tags: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """The text y' that was left."""
        if isinstance(self.value, str):
            return self.value
        blocks: list[Any] = self.value if isinstance(self.value, list) else [None]
        if not all(isinstance(block, dict) and block.get("type") in ("text", "tool_call") for block in blocks):
            raise DataError("value: a demonstration is a text, or content blocks of type text or tool_call")
        texts = [block for block in blocks if block["type"] == "text"]
        calls = [block for block in blocks if block["type"] == "tool_call"]
        if not all(isinstance(block.get("text"), str) for block in texts):
            raise DataError("value: a block of type text needs its text")
        if not all(isinstance(block.get("name"), str) for block in calls):
            raise DataError("value: a block of type tool_call needs the tool's name")
        return _text("value", {"content": texts, "tool_calls": calls})


class EditResponse(BaseModel):
    """What became of an edit. ``cost`` is Δ(y, y'), ``raw`` the distance before division by y's length."""

    completion_id: str
    revision: int
    new: bool
    policy: str
    raw: float
    cost: float
    unchanged: bool


def described(model: type[BaseModel]) -> dict[str, Any]:
    """For OpenAPI: a body that is read as JSON whatever its content type."""
    schema = model.model_json_schema()
    return {"requestBody": {"content": {"application/json": {"schema": schema}}, "required": True}}


def add_edits(app: FastAPI, gateway: Gateway, authority: Authority) -> None:
    """Add the routes that take edits, read them, and erase."""
    sender = asked(authority, "feedback")

    async def sent(body: Mapping[str, Any] | EditRequest, caller: Caller, request: Request) -> EditResponse:
        given = EditRequest.model_validate(body)
        key = given.idempotency_key or request.headers.get("idempotency-key")
        if key is not None and len(key) > LONGEST_ID:
            raise DataError(f"Idempotency-Key: longer than {LONGEST_ID} characters")
        revision = -1 if given.revision is None else given.revision
        now = datetime.now(UTC)
        edit = Edit(given.completion_id, given.text, revision, given.user_id, now, given.metadata or {})
        found = await gateway.edit(edit, caller.project, key=key)
        task = gateway.tasks[found.task]
        # an import's policy may be free text
        policy = task.full(found.policy) if found.policy in task.engines else found.policy
        return EditResponse.model_validate(asdict(found) | {"completion_id": edit.completion_id, "policy": policy})

    @app.post("/v1/edits", openapi_extra=described(EditRequest))
    async def edits(request: Request, caller: Caller = sender) -> EditResponse:
        """Send what a person made of a completion. Sending the same again has no effect."""
        return await sent(parsed(EditRequest, await request.body()), caller, request)

    @app.post("/feedback", openapi_extra=described(FeedbackRequest))
    async def feedback(request: Request, caller: Caller = sender) -> dict[str, str]:
        """Send an edit as a demonstration, as TensorZero's clients do."""
        given = parsed(FeedbackRequest, await request.body())
        if given.metric_name != "demonstration":
            raise DataError(f"metric_name {given.metric_name!r}: only 'demonstration' is an edit")
        body = EditRequest(completion_id=given.inference_id, edited=given.text, metadata=given.tags)
        found = await sent(body, caller, request)
        return {"feedback_id": f"{found.completion_id}:{found.revision}"}

    _read(app, gateway, sender)
    _erase(app, gateway, asked(authority, "admin"))


def _read(app: FastAPI, gateway: Gateway, sender: Any) -> None:
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

    @app.get("/v1/completions/{completion_id:path}")
    def completion(completion_id: str, caller: Caller = sender) -> dict[str, Any]:
        """A completion with the decision that chose its policy and its latest edit."""
        found = gateway.log.interaction(completion_id)
        if found.completion.task not in gateway.of(caller.project):
            raise NotFoundError(f"completion {completion_id!r} is not in the log")
        return interaction_json(found)


def _erase(app: FastAPI, gateway: Gateway, admin: Any) -> None:
    def erased(user_id: str, caller: Caller) -> dict[str, Any]:
        texts, policies = gateway.erase(user_id, list(gateway.of(caller.project)))
        return {"user_id": user_id, "texts": texts, "policies": policies}

    @app.delete("/v1/users")
    def erase(user_id: Annotated[str, Query(min_length=1)], caller: Caller = admin) -> dict[str, Any]:
        """Erase as below; for an id that no path can hold, such as ``..``."""
        return erased(user_id, caller)

    @app.delete("/v1/users/{user_id:path}")
    def erase_by_path(user_id: str, caller: Caller = admin) -> dict[str, Any]:
        """Erase all texts of a person; events and numbers stay. Lists the policies that were trained on them."""
        if not user_id:
            raise DataError("user_id: name the person, /v1/users/ID or /v1/users?user_id=ID")
        return erased(user_id, caller)


def _text(place: str, message: Mapping[str, Sequence[Any] | Any]) -> str:
    """The one text of a message; raises ``DataError`` where a part of it is of no form that has one."""
    calls = message.get("tool_calls") or ()
    functions = [call.get("function", call) if isinstance(call, Mapping) else call for call in calls]
    if not all(isinstance(function, Mapping) and isinstance(function.get("name"), str) for function in functions):
        raise DataError(f"{place}: not a message in OpenAI's form: a tool call needs the function's name")
    try:
        return message_text(message)
    except (AttributeError, TypeError, ValueError, RecursionError):
        raise DataError(f"{place}: not a message in OpenAI's form") from None
