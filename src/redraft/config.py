"""Settings: ``redraft.toml`` and the environment, checked together.

A ``REDRAFT_*`` variable (``__`` between levels: ``REDRAFT_LOG__URL``) overrides the file, and a command's own option
(``--log``) overrides both. In a variable, what begins with ``[`` is a list in JSON. Unknown keys are refused, and all
problems are reported together, each with its place. Unknown variables are warned of and ignored: whoever runs the
machine may set some that are not meant for us, as Kubernetes does for a service called redraft
(``REDRAFT_PORT=tcp://…``). Variables are split and merged here rather than by pydantic-settings, which stops at the
first one that it cannot read and ignores the others in silence.
"""

from __future__ import annotations

import json
import logging
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from redraft.costs import COSTS, Cost, get_cost, normalised
from redraft.errors import ConfigError, did_you_mean
from redraft.transport import KINDS, SPACING
from redraft.types import Decoding

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
    "settings_file",
]

PREFIX = "REDRAFT_"
NOT_SETTINGS = {
    "REDRAFT_CONFIG": "Settings file, unless --config names one.",
    "REDRAFT_PRECISION": "Precision of matrix products: float32 or bfloat16. Default: the fastest on this machine.",
    "REDRAFT_DATA": "Folder of public data sets, read by experiments and some tests.",
    "REDRAFT_TEST_POSTGRES": "URL of a PostgreSQL database that tests may fill and empty.",
    "REDRAFT_TEST_KILLS": "How often a slow test kills a gateway under load. Default: 12.",
}
"""``REDRAFT_*`` variables that are not settings, and what they do."""
DEFAULT_FILE = "redraft.toml"

_log = logging.getLogger("redraft")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LogSettings(_Section):
    """The edit log, and how long to wait for feedback."""

    url: str = Field(default="sqlite:///redraft.db", min_length=1, description="SQLAlchemy URL of the log.")
    horizon_days: float = Field(
        default=14.0, gt=0, le=36_500, description="A completion without feedback for so many days is censored."
    )
    max_text_chars: int = Field(default=1_000_000, gt=0, description="Rows with a longer text are refused.")


class ModelSettings(_Section):
    """The base model that policies are trained on."""

    name: str = Field(default="smollm2", min_length=1, description="An alias, a hub id or a local folder.")
    cache: Path = Field(
        default=Path("~/.cache/redraft"), description="Folder for converted models and reference log-probabilities."
    )


class PolicySettings(_Section):
    """Trained policies."""

    root: Path = Field(default=Path("policies"), description="Folder of policies, stored as TASK/NAME@VERSION.")


class DecodingSettings(_Section):
    """How a task's policies write, wherever they are asked."""

    temperature: float = Field(default=0.0, ge=0, le=2, description="0 is greedy. A client's own value comes first.")
    max_new_tokens: int | None = Field(
        default=None, gt=0, description="Longest answer. Default: serve.max_new_tokens, or an upstream's own."
    )
    explore_share: float = Field(
        default=0.0, ge=0, le=1, description="Share of the requests that are answered at temperature 1, for coverage."
    )


class TaskSettings(_Section):
    """A task: what an edit costs, and which policies serve it."""

    cost: str = Field(default="word", description="Cost of an edit (Δ), the same in training, selection and reports.")
    normalise: tuple[str, ...] = Field(
        default=KINDS, description="What software changes in a text that is no edit: costs look past it."
    )
    project: str = Field(default="default", min_length=1, description="Only API keys of this project see the task.")
    policies: tuple[str, ...] = Field(
        default=(), description="Policies to choose from. Default: base, and what did better on held-out edits."
    )
    selector: Literal["late", "uniform", "fixed"] = Field(default="late", description="Rule that chooses a policy.")
    alpha: float | None = Field(default=None, ge=0, description="α of the rule late. Default: the scale of the costs.")
    fallback: str | None = Field(default=None, description="Policy that answers when the chosen one fails.")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="Of answers on this CPU: bfloat16 is faster, and some answers change.",
    )
    decoding: DecodingSettings = Field(default=DecodingSettings(), description="How its policies write.")

    @field_validator("normalise")
    @classmethod
    def _kinds(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [kind for kind in value if kind not in (*KINDS, SPACING)]:
            raise ValueError(f"unknown kind {unknown[0]!r}: use any of {', '.join((*KINDS, SPACING))}, or [] for none")
        return value

    @field_validator("cost")
    @classmethod
    def _known(cls, value: str) -> str:
        if ":" not in value and value not in COSTS:
            raise ValueError(f"unknown cost: use one of {', '.join(COSTS)}, subtoken:FILE or module:function")
        return value


class UpstreamSettings(_Section):
    """An OpenAI-compatible server that answers for some policies."""

    url: str = Field(min_length=1, description="Base URL, ending in /v1.")
    api_key_env: str | None = Field(default=None, description="Environment variable that holds the API key.")
    models: dict[str, str] = Field(default_factory=dict[str, str], description="Policy → the model's name there.")
    adapters: bool = Field(default=False, description="Load trained policies into it (vLLM).")
    timeout_seconds: float = Field(default=120.0, gt=0, description="Longest wait for one answer.")
    retries: int = Field(default=2, ge=0, le=10, description="Further attempts when one fails.")
    drop: tuple[str, ...] = Field(default=(), description="Fields that it does not take, e.g. temperature.")


class ServeSettings(_Section):
    """The gateway, ``redraft serve``."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=8400, ge=0, le=65535, description="Port to listen on; 0 for any free one.")
    max_body_bytes: int = Field(default=4_000_000, gt=0, description="Larger requests are refused.")
    body_seconds: float = Field(default=30.0, gt=0, description="Requests that take longer to arrive are refused.")
    concurrency: int = Field(default=512, gt=0, description="Requests handled at once; the rest are told to retry.")
    socket: Path | None = Field(default=None, description="Unix socket to listen on instead of host and port.")
    stop_seconds: float = Field(default=8.0, ge=0, description="Seconds that running answers get after SIGTERM.")
    trusted_proxies: str = Field(default="127.0.0.1", description="Addresses whose X-Forwarded-* headers are believed.")
    cors_origins: tuple[str, ...] = Field(default=(), description='Origins of pages that may call, or "*".')
    max_new_tokens: int = Field(default=256, gt=0, description="Longest answer of the embedded model.")
    max_prompt_tokens: int | None = Field(
        default=None, gt=0, description="Longest prompt of the embedded model. Default: its context."
    )
    upstreams: dict[str, UpstreamSettings] = Field(
        default_factory=dict[str, UpstreamSettings], description="Other servers that answer for policies."
    )


class Settings(_Section):
    """Everything ``redraft.toml`` may say. Each section is documented in its own class."""

    log: LogSettings = LogSettings()
    model: ModelSettings = ModelSettings()
    policies: PolicySettings = PolicySettings()
    serve: ServeSettings = ServeSettings()
    tasks: dict[str, TaskSettings] = Field(default_factory=dict[str, TaskSettings])

    def task(self, name: str) -> TaskSettings:
        """The settings of a task; the defaults if the file does not name it."""
        return self.tasks.get(name, TaskSettings())

    def cost_of(self, task: str, name: str | None = None) -> Cost:
        """The cost Δ of a task's edits, or another cost that looks past the same; raises as ``get_cost``."""
        own = self.task(task)
        return normalised(get_cost(name or own.cost), own.normalise)

    def decoding(self, task: str) -> Decoding:
        """How a task's policies write in this process, unless a client or an option says otherwise."""
        own = self.task(task)
        longest = own.decoding.max_new_tokens or self.serve.max_new_tokens
        return Decoding(longest, own.decoding.temperature, precision=own.precision)

    @property
    def cache(self) -> Path:
        """Folder of derived files that can be deleted at any time."""
        return self.model.cache.expanduser()


def load_settings(file: Path | None = None) -> Settings:
    """Read ``file`` (by default ``settings_file()``, which need not exist) and the environment.

    Raises ``ConfigError`` naming every problem at once: the file or variable, the key, the value and the remedy.
    """
    named = file or settings_file()
    optional = file is None and not os.environ.get("REDRAFT_CONFIG")
    values = {} if optional and not named.exists() else read_toml(named)
    places = dict.fromkeys(_leaves(values), str(named))
    for variable, path in _variables():
        value: Any = os.environ[variable]
        if value.startswith("["):
            with suppress(ValueError, RecursionError):  # a list is missing then, which is told below
                value = json.loads(value)
        _put(values, path, value)
        places[path] = variable
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_describe(problem, places) for problem in error.errors())) from error


def _variables() -> Iterator[tuple[str, tuple[str, ...]]]:
    """The variables that set something, each with the path of its key; the others are warned of."""
    for variable in sorted(name for name in os.environ if name.startswith(PREFIX) and name not in NOT_SETTINGS):
        path = tuple(variable.removeprefix(PREFIX).lower().split("__"))
        doubt = "" if len(path) == 1 else _doubt(path)  # sections are no values
        if doubt is None:
            yield variable, path
        else:
            _log.warning("%s sets nothing and is ignored%s", variable, f": {doubt}" if doubt else "")


def _doubt(path: Sequence[str]) -> str | None:
    """What may have been meant by a path that leads to no setting; ``None`` where it leads to one."""
    kind: Any = Settings
    for part in path:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif part in (fields := getattr(kind, "model_fields", {})):
            kind = fields[part].annotation
        else:
            return did_you_mean(part, fields)
    return None


def settings_file() -> Path:
    """The file that ``$REDRAFT_CONFIG`` (``--config``) names, else ``redraft.toml`` in the working folder."""
    return Path(os.environ.get("REDRAFT_CONFIG") or DEFAULT_FILE)


def read_toml(file: Path) -> dict[str, Any]:
    """Read a TOML file; raises ``ConfigError`` when it cannot be read or is not TOML."""
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}): check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML ({error})") from error


def _leaves(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all values that are not tables, and of empty tables."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(cast(dict[str, Any], value), (*path, key))
        else:
            yield (*path, key)


def _put(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Set a value below tables, made as needed. A plain value on the way stays, and is refused later."""
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
        return f"{where}: unknown key {key!r}: {did_you_mean(loc[-1], _siblings(loc)) or 'remove or correct it'}"
    if problem["type"] in ("dict_type", "model_type"):
        remedy = f"is a section: set its keys, e.g. as {PREFIX}LOG__URL sets log.url"
        return f"{where}: {key} = {problem['input']!r}: {remedy}"
    if problem["type"] == "tuple_type":
        remedy = 'is a list: set it as ["…", "…"], which must be JSON in a variable'
        return f"{where}: {key} = {problem['input']!r}: {remedy}"
    return f"{where}: {key} = {problem['input']!r}: {problem['msg'].removeprefix('Value error, ')}"


def _siblings(path: Sequence[str]) -> Iterable[str]:
    """Keys that may stand where ``path`` ends."""
    kind: Any = Settings
    for part in path[:-1]:
        kind = kind.model_fields[part].annotation if hasattr(kind, "model_fields") else get_args(kind)[1]
    return kind.model_fields
