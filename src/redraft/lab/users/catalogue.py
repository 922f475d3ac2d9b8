"""Users by name, as experiment files call them.

| name | user |
|---|---|
| ``strong``, ``weak`` | rule users: every item of the preference, or some |
| ``other`` | strong, with the same preference carried out in other words |
| ``NAME:strong``, ``NAME:weak`` | a language model behind the endpoint NAME |
| ``…+noise=0.3`` | that share of its edits is random |
| ``…+adversarial=0.3`` | that share of its edits goes against the preference |
| ``…+drift=30``, ``…+drift=30..50`` | becomes ``other`` in round 30, or gradually until round 50 |
| ``…+fatigue=30`` | edits only half as often after so many rounds |
| ``0.7 strong; 0.3 other`` | a population of such users |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from redraft.errors import ConfigError
from redraft.lab.users import User, email, summary
from redraft.lab.users.noise import AdversarialUser, DriftingUser, MixedUsers, NoisyUser, TiringUser
from redraft.lab.users.rules import Item, RuleUser

__all__ = ["Endpoint", "get_user"]

_GRAMMAR = "use strong, weak, other or ENDPOINT:strong, with +noise=, +adversarial=, +drift= or +fatigue= after it"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible server that plays a user; its key, if any, is in the variable ``api_key_env``."""

    url: str
    model: str
    api_key_env: str | None = None


@dataclass(frozen=True, slots=True)
class _Catalogue:
    task: str
    endpoints: Mapping[str, Endpoint]
    cache: Path | None

    def user(self, spec: str) -> User:
        kind, *modifiers = (part.strip() for part in spec.split("+"))
        user = self._plain(kind)
        for modifier in modifiers:
            name, _, value = modifier.partition("=")
            user = self._modified(user, name, value, spec)
        return user

    def _plain(self, kind: str) -> User:
        endpoint, _, mode = kind.rpartition(":")
        if endpoint:
            return self._llm(endpoint, mode, kind)
        preferences = _preferences(self.task)
        if kind not in preferences:
            raise ConfigError(f"user {kind!r}: {_GRAMMAR}")
        return RuleUser(f"{self.task}-{kind}", preferences[kind], weak=kind == "weak")

    def _llm(self, name: str, mode: str, kind: str) -> User:
        from redraft.lab.users.llm import LLMUser
        from redraft.lab.users.llm_cache import AnswerCache
        from redraft.policies.chat import Chat

        if name not in self.endpoints or mode not in ("strong", "weak"):
            known = ", ".join(self.endpoints) or "none"
            raise ConfigError(f"user {kind!r}: use ENDPOINT:strong or ENDPOINT:weak; endpoints are {known}")
        server = self.endpoints[name]
        chat = Chat(f"user {kind!r}", server.url, server.model, server.api_key_env)
        answers = None if self.cache is None else AnswerCache(self.cache / "llm-users.db")
        return LLMUser(f"{self.task}-{kind}", chat, weak=mode == "weak", cache=answers)

    def _modified(self, user: User, name: str, value: str, spec: str) -> User:
        try:
            if name == "noise":
                return NoisyUser(user, float(value))
            if name == "adversarial":
                return AdversarialUser(user, float(value))
            if name == "fatigue":
                return TiringUser(user, float(value))
            if name == "drift":
                start, _, end = value.partition("..")
                return DriftingUser(user, self._plain("other"), int(start), int(end or start) - int(start))
        except ValueError as error:
            raise ConfigError(f"user {spec!r}: {name}={value} is not a valid number") from error
        raise ConfigError(f"user {spec!r}: {_GRAMMAR}")


def get_user(
    task: str, spec: str, endpoints: Mapping[str, Endpoint] | None = None, *, cache: Path | None = None
) -> User:
    """The user that ``spec`` names for a task; ``cache`` is a folder in which answers of language models are kept.

    Raises ``ConfigError`` when there is none of that name.

    >>> get_user("email", "weak").name, get_user("email", "strong+noise=0.3").name
    ('email-weak', 'email-strong+noise=0.3')
    """
    catalogue = _Catalogue(task, endpoints or {}, cache)
    parts = [part.strip() for part in spec.split(";")]
    if len(parts) == 1:
        return catalogue.user(spec)
    members: list[tuple[float, User]] = []
    for part in parts:
        share, _, name = part.partition(" ")
        try:
            members.append((float(share), catalogue.user(name)))
        except ValueError as error:
            raise ConfigError(f"user {spec!r}: give each part of a population a share, e.g. 0.7 strong") from error
    return MixedUsers(tuple(members))


def _preferences(task: str) -> dict[str, Mapping[str, tuple[Item, ...]]]:
    usual, other = (
        (summary.summary_items(), summary.summary_items(summary.OTHER))
        if task == "summary"
        else (email.email_items(), email.email_items(email.OTHER))
    )
    return {"strong": usual, "weak": usual, "other": other}
