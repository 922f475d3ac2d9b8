"""A thin client of the gateway: one call for the answer, one for what a person made of it.

Any OpenAI client works for answers; this one also sends edits, and needs only httpx. It does not retry.

    with Client("http://127.0.0.1:8400", api_key="rd-…") as client:
        answer = client.complete("email", [{"role": "user", "content": "Notes: …"}])
        client.edit(answer.id, "Dear Ann, …")  # or client.accept(answer.id)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx

from redraft.errors import ConflictError, DataError, ModelError, NotFoundError, RedraftError

__all__ = ["Answer", "Client"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion: ``id`` names it in ``edit``, ``policy`` answered, ``body`` is OpenAI's object."""

    id: str
    text: str
    policy: str
    body: Mapping[str, Any]


class Client:
    """The gateway at ``base_url``, with or without ``/v1``.

    Every call raises a ``RedraftError`` that says what went wrong.
    """

    def __init__(self, base_url: str, api_key: str | None = None, *, timeout: float = 120.0) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        root = base_url.rstrip("/").removesuffix("/v1")
        self._http = httpx.Client(base_url=root, headers=headers, timeout=timeout)

    def complete(self, model: str, messages: Sequence[Mapping[str, Any]], **more: Any) -> Answer:
        """Ask for a whole answer; ``more`` is anything else in OpenAI's API."""
        if more.get("stream"):
            raise DataError("stream: this client gives whole answers: stream with an OpenAI client, then edit here")
        body = self._post("/v1/chat/completions", {"model": model, "messages": list(messages), **more})
        try:
            return Answer(body["id"], body["choices"][0]["message"].get("content") or "", body["model"], body)
        except (LookupError, TypeError, AttributeError):
            raise self._nobody() from None

    def edit(self, completion_id: str, edited: str, **more: Any) -> dict[str, Any]:
        """Send the text that a person left; ``more`` is revision, user_id, metadata or idempotency_key."""
        return self._edit(completion_id, edited=edited, **more)

    def accept(self, completion_id: str, **more: Any) -> dict[str, Any]:
        """Say that a person left the answer as it was."""
        return self._edit(completion_id, accepted=True, **more)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _edit(self, completion_id: str, **more: Any) -> dict[str, Any]:
        given = {name: value for name, value in more.items() if value is not None}
        return self._post("/v1/edits", {"completion_id": completion_id, **given})

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body of a successful response; an error of the gateway is raised as one of ours."""
        try:
            response = self._http.post(path, json=body)
        except httpx.TransportError as error:
            raise ModelError(f"gateway {self._http.base_url}: cannot be reached ({type(error).__name__})") from error
        try:
            told = response.json()
        except ValueError:
            told = None
        if response.is_success:
            if not isinstance(told, dict):
                raise self._nobody()
            return told
        try:
            message = str(told["error"]["message"])  # pyright: ignore[reportOptionalSubscript]
        except (LookupError, TypeError):
            message = response.text[:300]
        kinds: dict[int, type[RedraftError]] = {400: DataError, 404: NotFoundError, 409: ConflictError}
        raise kinds.get(response.status_code, ModelError)(f"{response.status_code}: {message}")

    def _nobody(self) -> ModelError:
        return ModelError(f"{self._http.base_url}: what answers there is no gateway of redraft: check the address")
