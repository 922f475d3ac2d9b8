"""A policy behind an OpenAI-compatible server: vLLM with its adapters, llama.cpp, or a hosted model.

Contexts are asked concurrently, because such servers batch what arrives together. Busy and failing servers are asked
again a bounded number of times, after the pause they ask for; every other answer that is no completion is an error.
The key stays in the environment until a request is made, and never stands in a message.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from redraft.errors import ConfigError, ModelError
from redraft.policies.trim import trim
from redraft.types import Decoding, Message

if TYPE_CHECKING:
    import httpx

__all__ = ["RemotePolicy"]

_LONGEST_PAUSE = 60.0
_QUOTED = 200


@dataclass(frozen=True)
class RemotePolicy:
    """``model`` at ``base_url`` (which ends in ``/v1``), answering as ``name``.

    ``api_key_env`` names the environment variable that holds the key, ``timeout`` is in seconds for each request, and
    ``retries`` counts the attempts after the first.
    """

    name: str
    base_url: str
    model: str
    api_key_env: str | None = None
    timeout: float = 120.0
    retries: int = 4
    concurrency: int = 16
    sleep: Callable[[float], None] = time.sleep

    def respond(self, contexts: Sequence[Sequence[Message]], decoding: Decoding) -> list[str]:
        """One response per context, trimmed.

        Raises ``ModelError`` when the server does not answer as it should, ``ConfigError`` when the key is not set or
        the URL is none.
        """
        import httpx

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        try:
            client = httpx.Client(base_url=self.base_url, headers=headers, timeout=self.timeout)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise ConfigError(
                f"policy {self.name!r}: its base_url or key cannot be sent ({type(error).__name__})"
            ) from None
        with client, ThreadPoolExecutor(self.concurrency) as pool:
            asked = [pool.submit(self._answer, client, messages, decoding) for messages in contexts]
            try:
                return [trim(answer.result()) for answer in asked]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # one failure ends it: do not pay for the rest
                raise

    @property
    def _key(self) -> str:
        if self.api_key_env is None:
            return ""
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise ConfigError(f"policy {self.name!r}: its key is not in the environment: set {self.api_key_env}")
        return key

    def _answer(self, client: httpx.Client, messages: Sequence[Message], decoding: Decoding) -> str:
        request = {
            "model": self.model,
            "messages": [asdict(message) for message in messages],
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
        return ModelError(f"policy {self.name!r}: model {self.model!r} {problem}: check base_url, model and key")

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
