"""Settings: ``redraft.toml`` and the environment, checked as one.

Order of precedence: arguments, ``REDRAFT_*`` environment variables (``__`` between levels), the file. An unknown
key is refused, and all problems of a file are reported together.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from redraft.costs import COSTS
from redraft.errors import ConfigError

__all__ = ["LogSettings", "ModelSettings", "PolicySettings", "Settings", "TaskSettings", "load_settings"]

DEFAULT_FILE = "redraft.toml"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LogSettings(_Section):
    """Where the edit log lives, and when a silence becomes a censored observation."""

    url: str = Field(default="sqlite:///redraft.db", description="SQLAlchemy URL of the log.")
    horizon_days: float = Field(14.0, gt=0, description="A completion without feedback after this is censored.")
    max_text_chars: int = Field(default=1_000_000, gt=0, description="Longer texts are refused, row by row.")


class ModelSettings(_Section):
    """The base model policies stand on."""

    name: str = Field(default="smollm2", description="An alias, a hub id or a local folder.")
    cache: Path = Field(Path("~/.cache/redraft"), description="Converted models and reference log-probabilities.")


class PolicySettings(_Section):
    """Where trained policies are kept."""

    root: Path = Field(default=Path("policies"), description="Folder that holds TASK/NAME@VERSION.")


class TaskSettings(_Section):
    """What is particular to one task."""

    cost: str = Field(default="word", description="Name of the cost Δ; trainer, selector and report use the same.")

    @field_validator("cost")
    @classmethod
    def _known(cls, value: str) -> str:
        if ":" not in value and value not in COSTS:
            raise ValueError(f"unknown cost, use one of {', '.join(COSTS)}, subtoken:FILE or module:function")
        return value


class Settings(BaseSettings):
    """Everything ``redraft.toml`` may say. Each section is documented where its class is."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, env_prefix="REDRAFT_", env_nested_delimiter="__")

    log: LogSettings = LogSettings()
    model: ModelSettings = ModelSettings()
    policies: PolicySettings = PolicySettings()
    tasks: dict[str, TaskSettings] = Field(default_factory=dict[str, TaskSettings])

    def task(self, name: str) -> TaskSettings:
        """The settings of a task, defaults where the file does not name it."""
        return self.tasks.get(name, TaskSettings())

    @property
    def cache(self) -> Path:
        """Folder of derived files that can be deleted at any time."""
        return self.model.cache.expanduser()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the environment above the file, whose values arrive as arguments of the constructor."""
        return env_settings, init_settings


def load_settings(file: Path | None = None) -> Settings:
    """Read ``file``, else ``$REDRAFT_CONFIG``, else ``redraft.toml`` where there is one, and the environment.

    Raises ``ConfigError`` naming every problem at once: the file, the key, the value received and the remedy.
    """
    if file is None and os.environ.get("REDRAFT_CONFIG"):
        file = Path(os.environ["REDRAFT_CONFIG"])
    values = _read(file) if file is not None else _read(Path(DEFAULT_FILE), missing_is_empty=True)
    try:
        return Settings(**values)
    except ValidationError as error:
        where = str(file or DEFAULT_FILE)
        problems = "; ".join(_describe(problem) for problem in error.errors())
        raise ConfigError(f"{where} (or REDRAFT_* in the environment): {problems}") from error


def _read(file: Path, *, missing_is_empty: bool = False) -> dict[str, Any]:
    if missing_is_empty and not file.exists():
        return {}
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}): check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML ({error})") from error


def _describe(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}: remove or correct it"
    return f"{key} = {problem['input']!r}: {problem['msg']}"
