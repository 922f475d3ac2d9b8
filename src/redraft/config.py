"""Settings: ``redraft.toml`` and the environment, checked as one.

A ``REDRAFT_*`` variable (``__`` between levels: ``REDRAFT_LOG__URL``) goes before the file, and a command's own option
(``--log``) before both. An unknown key or variable is refused, and all problems are reported together, each with the
place it stands in. Variables are split and merged here, not by pydantic-settings, which stops at the first one that
it cannot read and passes over those it does not know.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from redraft.costs import COSTS
from redraft.errors import ConfigError

__all__ = [
    "NOT_SETTINGS",
    "LogSettings",
    "ModelSettings",
    "PolicySettings",
    "ServeSettings",
    "Settings",
    "TaskSettings",
    "UpstreamSettings",
    "load_settings",
]

PREFIX = "REDRAFT_"
NOT_SETTINGS = {
    "REDRAFT_CONFIG": "Settings file, where --config does not name one.",
    "REDRAFT_PRECISION": "Numbers to multiply in: float32 or bfloat16; the fastest the machine has if it does not say.",
    "REDRAFT_DATA": "Folder of public data sets, which some tests read.",
    "REDRAFT_TEST_POSTGRES": "URL of a PostgreSQL that tests may fill and empty.",
    "REDRAFT_TEST_KILLS": "How often a slow test kills a gateway under load; 12 if it does not say.",
}
"""Variables of ours that are no key of the settings, and what they are."""
DEFAULT_FILE = "redraft.toml"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LogSettings(_Section):
    """Where the edit log lives, and when a silence becomes a censored observation."""

    url: str = Field(default="sqlite:///redraft.db", min_length=1, description="SQLAlchemy URL of the log.")
    horizon_days: float = Field(
        default=14.0, gt=0, le=36_500, description="A completion without feedback after this is censored."
    )
    max_text_chars: int = Field(default=1_000_000, gt=0, description="Longer texts are refused, row by row.")


class ModelSettings(_Section):
    """The base model policies stand on."""

    name: str = Field(default="smollm2", min_length=1, description="An alias, a hub id or a local folder.")
    cache: Path = Field(
        default=Path("~/.cache/redraft"), description="Converted models and reference log-probabilities."
    )


class PolicySettings(_Section):
    """Where trained policies are kept."""

    root: Path = Field(default=Path("policies"), description="Folder that holds TASK/NAME@VERSION.")


class TaskSettings(_Section):
    """What is particular to one task."""

    cost: str = Field(default="word", description="Name of the cost Δ; trainer, selector and report use the same.")
    project: str = Field(default="default", min_length=1, description="Whose task it is: keys of others do not see it.")
    policies: tuple[str, ...] = Field(
        default=(), description="What the selector chooses among; base and the latest of each policy when not given."
    )
    selector: Literal["late", "uniform", "fixed"] = Field(default="late", description="Rule that chooses policies.")
    alpha: float | None = Field(default=None, ge=0, description="α of late; when not given, the scale of the costs.")
    fallback: str | None = Field(default=None, description="Policy that answers where the chosen one fails.")

    @field_validator("cost")
    @classmethod
    def _known(cls, value: str) -> str:
        if ":" not in value and value not in COSTS:
            raise ValueError(f"unknown cost: use one of {', '.join(COSTS)}, subtoken:FILE or module:function")
        return value


class UpstreamSettings(_Section):
    """An OpenAI-compatible server that answers for policies."""

    url: str = Field(min_length=1, description="Where it is; ends in /v1.")
    api_key_env: str | None = Field(default=None, description="Environment variable that holds its key.")
    models: dict[str, str] = Field(default_factory=dict[str, str], description="Policy → the model's name there.")
    adapters: bool = Field(default=False, description="Whether trained policies are loaded into it (vLLM).")
    timeout_seconds: float = Field(default=120.0, gt=0, description="Patience for one answer.")
    retries: int = Field(default=2, ge=0, le=10, description="Attempts after the first.")


class ServeSettings(_Section):
    """The gateway."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=8400, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    max_body_bytes: int = Field(default=4_000_000, gt=0, description="Larger requests are refused.")
    body_seconds: float = Field(default=30.0, gt=0, description="A request that takes longer to arrive is refused.")
    concurrency: int = Field(default=512, gt=0, description="Requests answered at once; more are told to come back.")
    max_new_tokens: int = Field(default=256, gt=0, description="Longest answer of the embedded model.")
    upstreams: dict[str, UpstreamSettings] = Field(
        default_factory=dict[str, UpstreamSettings], description="Servers that answer for policies."
    )


class Settings(_Section):
    """Everything ``redraft.toml`` may say. Each section is documented where its class is."""

    log: LogSettings = LogSettings()
    model: ModelSettings = ModelSettings()
    policies: PolicySettings = PolicySettings()
    serve: ServeSettings = ServeSettings()
    tasks: dict[str, TaskSettings] = Field(default_factory=dict[str, TaskSettings])

    def task(self, name: str) -> TaskSettings:
        """The settings of a task, defaults where the file does not name it."""
        return self.tasks.get(name, TaskSettings())

    @property
    def cache(self) -> Path:
        """Folder of derived files that can be deleted at any time."""
        return self.model.cache.expanduser()


def load_settings(file: Path | None = None) -> Settings:
    """Read ``file``, else ``$REDRAFT_CONFIG``, else ``redraft.toml`` where there is one, and the environment.

    Raises ``ConfigError`` naming every problem at once: the file or variable, the key, the value and the remedy.
    """
    if file is None and os.environ.get("REDRAFT_CONFIG"):
        file = Path(os.environ["REDRAFT_CONFIG"])
    values = read_toml(file) if file is not None else _read_default()
    places = dict.fromkeys(_leaves(values), str(file or DEFAULT_FILE))
    for variable in sorted(name for name in os.environ if name.startswith(PREFIX) and name not in NOT_SETTINGS):
        path = tuple(variable.removeprefix(PREFIX).lower().split("__"))
        _put(values, path, os.environ[variable])
        places[path] = variable
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_describe(problem, places) for problem in error.errors())) from error


def _read_default() -> dict[str, Any]:
    file = Path(DEFAULT_FILE)
    return read_toml(file) if file.exists() else {}


def read_toml(file: Path) -> dict[str, Any]:
    """Read a TOML file; raises ``ConfigError`` when it cannot be read or is none."""
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}): check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML ({error})") from error


def _leaves(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all values that are no tables, and of empty tables."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(cast(dict[str, Any], value), (*path, key))
        else:
            yield (*path, key)


def _put(values: dict[str, Any], path: tuple[str, ...], value: str) -> None:
    """Set a value below tables that are made as needed. What is no table stays, and is refused as what it is."""
    *tables, key = path
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):  # pyright: ignore[reportUnnecessaryIsInstance]
            return
    values[key] = value


def _describe(problem: Any, places: Mapping[tuple[str, ...], str]) -> str:
    loc = tuple(str(part) for part in problem["loc"])
    at = [place for path, place in places.items() if loc[: len(path)] == path]
    below = [place for path, place in places.items() if path[: len(loc)] == loc]
    where, key = ", ".join(dict.fromkeys(at or below)), ".".join(loc)
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key {key!r}: remove or correct it"
    if problem["type"] in ("dict_type", "model_type"):
        remedy = f"is a section: set its keys, e.g. as {PREFIX}LOG__URL sets log.url"
        return f"{where}: {key} = {problem['input']!r}: {remedy}"
    return f"{where}: {key} = {problem['input']!r}: {problem['msg'].removeprefix('Value error, ')}"
