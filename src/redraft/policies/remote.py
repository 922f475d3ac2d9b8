"""A policy behind an OpenAI-compatible server: vLLM with its adapters, llama.cpp, or a hosted model.

Contexts are asked concurrently, because such servers batch what arrives together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from redraft.policies.chat import Chat
from redraft.policies.trim import trim
from redraft.types import Decoding, Message

__all__ = ["RemotePolicy"]


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
        owner = f"policy {self.name!r}"
        chat = Chat(owner, self.base_url, self.model, self.api_key_env, self.timeout, self.retries, self.sleep)
        with chat.connect() as ask, ThreadPoolExecutor(self.concurrency) as pool:
            asked = [pool.submit(ask, messages, decoding) for messages in contexts]
            try:
                return [trim(answer.result()) for answer in asked]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # one failure ends it: do not pay for the rest
                raise
