"""Read an experiment from its TOML file, with what the command line says otherwise.

The keys of ``[smoke]`` replace those of the file for a quick passage through every step.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from redraft.config import read_toml
from redraft.errors import ConfigError
from redraft.lab.bench.experiment import KINDS, AnyExperiment, Experiment

__all__ = ["load_experiment"]


def load_experiment(file: Path, overrides: Sequence[str] = (), *, smoke: bool = False) -> AnyExperiment:
    """Read an experiment; ``overrides`` are ``key.path=value``, the value as TOML has it, or else plain text.

    Raises ``ConfigError`` naming all problems of the file at once.
    """
    values = read_toml(file)
    quick = values.pop("smoke", {})
    if not isinstance(quick, dict):
        raise ConfigError(f"{file}: smoke = {quick!r}: must be a section")
    if unknown := sorted(set(cast(dict[str, Any], quick)) - set(Experiment.model_fields)):
        raise ConfigError(f"{file}: smoke: unknown key {', '.join(map(repr, unknown))}: remove or correct it")
    if smoke:
        values |= quick
    for text in overrides:
        _override(values, text)
    model = KINDS.get(str(values.get("kind", "benchmark")))
    if model is None:
        raise ConfigError(f"{file}: kind = {values['kind']!r}: use one of {', '.join(KINDS)}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{file}: {'; '.join(map(_describe, error.errors()))}") from error


def _override(values: dict[str, Any], text: str) -> None:
    path, equals, value = text.partition("=")
    *sections, key = path.strip().split(".")
    if not equals or not all([*sections, key]):
        raise ConfigError(f"--override {text!r}: expected KEY.PATH=VALUE, e.g. sizes.train=8")
    for section in sections:
        below = values.setdefault(section, {})
        if not isinstance(below, dict):
            raise ConfigError(f"--override {text!r}: {section} is {below!r}, no section")
        values = cast(dict[str, Any], below)
    try:
        values[key] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        values[key] = value.strip()


def _describe(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}: remove or correct it"
    if problem["type"] == "missing":
        return f"{key} is missing: add it"
    said = problem["msg"].removeprefix("Value error, ")
    return f"{key} = {problem['input']!r}: {said}" if key else said
