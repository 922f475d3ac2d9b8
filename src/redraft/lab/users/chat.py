"""One model behind an OpenAI-compatible server, asked for chat completions.

Busy and failing servers are asked again a bounded number of times, after the pause they ask for; every other answer
that is no completion is an error. The key stays in the environment until a request is made, and never stands in a
message, nor does what a URL says of users and passwords. Left out: streaming.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from redraft.errors import ConfigError, ModelError
from redraft.types import Decoding, Message

if TYPE_CHECKING:
    import httpx

__all__ = ["Ask", "Chat"]

Ask = Callable[[Sequence[Message], Decoding], str]
"""Answers messages with the text of a completion, as the server gave it."""

_LONGEST_PAUSE = 60.0
_QUOTED = 200


@dataclass(frozen=True)
class Chat:
    """``model`` at ``base_url`` (which ends in ``/v1``), asked on behalf of ``owner``, as errors call it.

    ``api_key_env`` names the environment variable that holds the key, ``timeout`` is in seconds for each request,
    ``retries`` counts the attempts after the first, and ``sleep`` waits between them.
    """

    owner: str
    base_url: str
    model: str
    api_key_env: str | None = None
    timeout: float = 120.0
    retries: int = 4
    sleep: Callable[[float], None] = time.sleep

    @contextmanager
    def connect(self) -> Generator[Ask]:
        """Give a function that asks, from any thread, over connections kept until the end.

        Raises ``ConfigError`` when the key is not set or the URL is none; the function raises ``ModelError`` when the
        server does not answer as it should.
        """
        import httpx

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        try:
            client = httpx.Client(base_url=self.base_url, headers=headers, timeout=self.timeout)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise ConfigError(f"{self.owner}: its base_url or key cannot be sent ({type(error).__name__})") from None
        with client:
            yield lambda messages, decoding: self._answer(client, messages, decoding)

    @property
    def _key(self) -> str:
        if self.api_key_env is None:
            return ""
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise ConfigError(f"{self.owner}: its key is not in the environment: set {self.api_key_env}")
        return key

    def _answer(self, client: httpx.Client, messages: Sequence[Message], decoding: Decoding) -> str:
        request = {
            "model": self.model,
            "messages": [message.plain for message in messages],
            "max_tokens": decoding.max_new_tokens,
            "temperature": decoding.temperature,
            "seed": decoding.seed,
        }
        response = self._post(client, request)
        try:
            content = response.json()["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError):
            content = None
        if not isinstance(content, str):
            raise self._error(f"answered without a completion ({self._quote(response.text)})")
        return content

    def _post(self, client: httpx.Client, request: dict[str, Any]) -> httpx.Response:
        import httpx

        for attempt in range(self.retries + 1):
            try:
                response = client.post("chat/completions", json=request)
            except httpx.TransportError as error:
                problem, pause = f"cannot be reached ({type(error).__name__})", 0.5 * 2**attempt
            except httpx.HTTPError as error:
                raise self._error(f"cannot be read ({type(error).__name__})") from None
            else:
                if response.is_success:
                    return response
                problem = f"answered {response.status_code} ({self._quote(response.text)})"
                if response.status_code != 429 and response.status_code < 500:
                    raise self._error(problem)
                pause = _retry_after(response.headers.get("Retry-After", "")) or 0.5 * 2**attempt
            if attempt == self.retries or pause > _LONGEST_PAUSE:
                raise self._error(f"{problem}, {attempt + 1} times")
            self.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _error(self, problem: str) -> ModelError:
        import httpx

        place = httpx.URL(self.base_url).copy_with(userinfo=b"", query=None, fragment=None)
        return ModelError(f"{self.owner}: model {self.model!r} at {place} {problem}: check base_url, model and key")

    def _quote(self, text: str) -> str:
        """What a server said, in one short line; some repeat the key they were sent."""
        quoted = text.replace(self._key, "***") if self._key else text
        return " ".join(quoted.split())[:_QUOTED]


def _retry_after(value: str) -> float:
    """Seconds of a Retry-After header (RFC 9110 §10.2.3: a number or a date); 0 when it says nothing usable."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
