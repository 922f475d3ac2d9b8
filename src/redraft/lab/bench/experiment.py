"""What an experiment is, checked as a whole before anything runs.

A *benchmark* trains policies and lets users edit what they answer, or re-edits the answers of another run; an
*ablation* and a comparison of *costs* read the rows of a benchmark and run nothing. Unknown keys are refused, and all
problems are reported together. In a file, the keys of ``[smoke]`` replace the others for a quick passage through every
step.
"""

from __future__ import annotations

import tomllib
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from redraft.config import read_toml
from redraft.costs import get_cost
from redraft.errors import ConfigError
from redraft.lab.bench.tasks import TASKS
from redraft.policies.base import BASE
from redraft.train.options import METHODS, RL, SHARED, TrainOptions

__all__ = [
    "CANDIDATE",
    "KINDS",
    "Ablation",
    "AnyExperiment",
    "Arm",
    "CostComparison",
    "Description",
    "Experiment",
    "load_experiment",
]

_DERIVED = SHARED - {"max_response"}  # said elsewhere in the file
CANDIDATE = "#"
"""In the name of a row's policy: ``best#2`` is the third answer that ``best`` had to choose from, and no arm."""

Count = Annotated[int, Field(ge=1)]
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sizes(_Section):
    """How many contexts a cell logs and trains on, selects by, and serves; one number, or one for each task."""

    train: Count | dict[str, Count]
    validation: Count | dict[str, Count]
    online: Count | dict[str, Count]
    second: Annotated[int, Field(ge=0)] | dict[str, Count] = 0

    def of(self, task: str) -> tuple[int, int, int]:
        """(train, validation, online) of a task; raises ``ConfigError`` where the task has none."""
        return _of(task, self.train), _of(task, self.validation), _of(task, self.online)

    def further(self, task: str) -> int:
        """How many more contexts an arm that others go on from answers, for a log of its own."""
        return _of(task, self.second)


class Generation(_Section):
    """How policies are asked. Logs are sampled at temperature 1, rounds are answered greedily."""

    max_prompt: int = Field(default=512, ge=2)
    max_new_tokens: int = Field(default=256, ge=1)
    batch_size: int = Field(default=64, ge=1)
    precision: Literal["float32", "bfloat16"] = "float32"


class Server(_Section):
    """An OpenAI-compatible endpoint that plays a user; its key, if any, stands in the variable ``api_key_env``."""

    url: str = Field(min_length=1)
    model: str = Field(min_length=1)
    api_key_env: str | None = None


class Arm(_Section):
    """An arm beside the methods: a policy trained with options of its own, or another arm's policy served otherwise.

    Trained with ``method``, it goes on from the arm ``start`` and learns from the edits of what that one wrote, or of
    what ``log`` names. Options that it does not name are those chosen for the method itself. Else the arm ``of``
    answers at ``temperature``, and with ``best_of`` so often: then the one is given whose predicted ``cost``, of which
    ``pessimism`` times the bonus is part, is least, or the ``consensus`` of all.
    """

    method: str | None = None
    start: str = BASE
    log: str = ""
    options: dict[str, int | float | str] = Field(default_factory=dict[str, int | float | str])
    best_of: Annotated[int, Field(ge=2)] | None = None
    by: Literal["cost", "consensus"] = "cost"
    of: str = BASE
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    pessimism: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0

    @field_validator("method")
    @classmethod
    def _known_method(cls, method: str | None) -> str | None:
        return None if method is None else _within([method], (*METHODS, RL))[0]

    @field_validator("options")
    @classmethod
    def _trainable(cls, given: Mapping[str, float | str]) -> Mapping[str, float | str]:
        return _options(given, SHARED)

    @property
    def writer(self) -> str:
        """The arm whose edited answers it learns from."""
        return self.log or self.start

    @property
    def needs(self) -> str:
        """The arm that must be there first."""
        return self.of if self.method is None else self.start


class Experiment(_Section):
    """A benchmark. Users are named as ``redraft.lab.users.catalogue`` names them.

    With ``keep_epochs`` the policy of each epoch stays beside the one that is served, to tell what others would cost.
    """

    name: str = Field(pattern=r"^\w[\w.+-]*$")
    kind: Literal["benchmark"] = "benchmark"
    model: str = Field(default="smollm2", min_length=1)
    tasks: Names
    train_users: Names
    test_users: Names
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    cost: str = "word"
    methods: tuple[str, ...] = METHODS
    arms: dict[Annotated[str, Field(pattern=r"^\w[\w.+-]*$")], Arm] = Field(default_factory=dict[str, Arm])
    sizes: Sizes
    decoding: Generation = Generation()
    training: dict[str, int | float | str] = Field(default_factory=dict[str, int | float | str])
    sweep: dict[str, dict[str, list[int | float | str]]] = Field(
        default_factory=dict[str, dict[str, list[int | float | str]]]
    )
    endpoints: dict[str, Server] = Field(default_factory=dict[str, Server])
    threads: int = Field(default=1, ge=1)
    keep_epochs: bool = False
    responses_from: Path | None = None
    options_from: Path | None = None

    @field_validator("tasks")
    @classmethod
    def _known_tasks(cls, tasks: Sequence[str]) -> Sequence[str]:
        return _within(tasks, tuple(TASKS))

    @field_validator("methods")
    @classmethod
    def _known_methods(cls, methods: Sequence[str]) -> Sequence[str]:
        return _within(methods, METHODS)

    @field_validator("tasks", "train_users", "test_users", "seeds", "methods")
    @classmethod
    def _once(cls, values: Sequence[Any]) -> Sequence[Any]:
        if len(set(values)) < len(values):
            raise ValueError("names something twice: keep one")
        return values

    @field_validator("cost")
    @classmethod
    def _known_cost(cls, name: str) -> str:
        with _as_value_error():
            get_cost(name)
        return name

    @field_validator("training")
    @classmethod
    def _trainable(cls, given: Mapping[str, float | str]) -> Mapping[str, float | str]:
        return _options(given, _DERIVED)

    @field_validator("sweep")
    @classmethod
    def _sweepable(cls, sweep: Mapping[str, Mapping[str, Sequence[float | str]]]) -> object:
        _within(sweep, METHODS)
        for tried in sweep.values():
            if not all(tried.values()):
                raise ValueError("an option without values: name some, or leave it out")
            for name, values in tried.items():
                for value in values:
                    _options({name: value}, SHARED)
        return sweep

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        problems = [
            (bool(self.responses_from and (self.sweep or self.options_from)), "responses_from trains nothing: leave "
             "out sweep and options_from"),
            (bool(self.options_from and self.sweep), "options_from and sweep both choose options: keep one"),
            *self._broken_arms(),
        ]  # fmt: skip
        with _as_value_error():
            for task in self.tasks:
                self.sizes.of(task)
        if said := [text for broken, text in problems if broken]:
            raise ValueError("; ".join(said))
        return self

    def _broken_arms(self) -> list[tuple[bool, str]]:
        known = [BASE, *self.methods]
        found = [(len(self.names) < 2, "methods = () and no arms: name one")]
        for name, arm in self.arms.items():
            trained = arm.method is not None
            second = all(self.sizes.second[task] if isinstance(self.sizes.second, dict) else self.sizes.second
                         for task in self.tasks)  # fmt: skip
            found += [
                (name in known, f"arms.{name}: there is such an arm already, call it otherwise"),
                (trained == (arm.best_of is not None or arm.temperature is not None), f"arms.{name}: give it a "
                 "method, or best_of and temperature"),
                (arm.by == "consensus" and (arm.best_of or 0) < 3, f"arms.{name}: a consensus is of three "
                 "answers or more: raise best_of"),
                (arm.needs in self.arms and self.arms[arm.needs].method is None, f"arms.{name}: {arm.needs!r} is no "
                 "policy of its own, name the one that answers for it"),
                (arm.needs not in known, f"arms.{name} needs {arm.needs!r}: name it before, there are {known}"),
                (arm.writer not in known, f"arms.{name} learns from {arm.writer!r}: name it before, there are {known}"),
                (trained and arm.writer != BASE and not second, f"arms.{name}: sizes.second says how much "
                 f"{arm.writer!r} logs, and is 0"),
            ]  # fmt: skip
            known.append(name)
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """All arms, in an order in which each can be made of those before it."""
        return (BASE, *self.methods, *self.arms)

    def typed(self, options: Mapping[str, float | str]) -> dict[str, Any]:
        """Training options in the types of their fields."""
        return _options(options, SHARED)

    def options(self, task: str, method: str, seed: int) -> TrainOptions:
        """What a method is trained with where nothing is swept; its end-of-turn token lengthens a response by one."""
        train, validation, _ = self.sizes.of(task)
        given: dict[str, Any] = {"max_response": self.decoding.max_new_tokens + 1} | _options(self.training, _DERIVED)
        share = validation / (train + validation)
        return TrainOptions(method, seed=seed, holdout=share, max_prompt=self.decoding.max_prompt, **given)


class Ablation(_Section):
    """A reading of a benchmark's rows: LateEnsemble over subsets of arms, over α, and over T by resampled rounds."""

    name: str = Field(pattern=r"^\w[\w.+-]*$")
    kind: Literal["ablation"]
    rows_from: Path
    arms: Annotated[tuple[Names, ...], Field(min_length=1)]
    alphas: Annotated[tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...], Field(min_length=1)]
    rounds: Annotated[tuple[Count, ...], Field(min_length=1)]


class CostComparison(_Section):
    """A reading of a benchmark's rows: what every edit costs under other costs, and whether policies rank alike.

    ``semantic`` among the costs is 1 − cosine of sentence embeddings by the model ``encoder``.
    """

    name: str = Field(pattern=r"^\w[\w.+-]*$")
    kind: Literal["cost"]
    rows_from: Path
    costs: Names
    encoder: str | None = None

    @field_validator("costs")
    @classmethod
    def _known_costs(cls, names: Sequence[str]) -> Sequence[str]:
        with _as_value_error():
            for name in names:
                if name != "semantic":
                    get_cost(name)
        return names


class Description(BaseModel):
    """What a run's ``experiment.json`` says, as far as a report asks; what it does not say is empty.

    ``arms`` and ``subsets`` both stand under ``arms`` in the file: a benchmark describes arms there, an ablation lists
    subsets of them.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)
    name: str = ""
    kind: Literal["benchmark", "ablation", "cost"] = "benchmark"
    model: str = ""
    identity: str | None = None
    cost: str = ""
    command: str = ""
    versions: dict[str, str] = Field(default_factory=dict[str, str])
    tasks: tuple[str, ...] = ()
    train_users: tuple[str, ...] = ()
    test_users: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    methods: tuple[str, ...] = ()
    arms: dict[str, Arm] = Field(default_factory=dict[str, Arm])
    subsets: tuple[tuple[str, ...], ...] = ()
    sizes: dict[str, int | dict[str, int]] = Field(default_factory=dict[str, int | dict[str, int]])
    rows_from: Path = Path()
    responses_from: Path | None = None
    alphas: tuple[float, ...] = ()
    rounds: tuple[int, ...] = ()
    costs: tuple[str, ...] = ()
    encoder: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _arms_as_written(cls, given: Any) -> Any:
        """Take an arm as it was written: an option that it names may have gone since."""
        arms = given.get("arms") if isinstance(given, dict) else None
        if isinstance(arms, list):
            return {**given, "arms": {}, "subsets": arms}
        if isinstance(arms, dict):
            described = cast("dict[str, Any]", arms)
            return {**given, "arms": {name: Arm.model_construct(**arm) for name, arm in described.items()}}
        return given


KINDS: dict[str, type[Experiment | Ablation | CostComparison]] = {
    "benchmark": Experiment,
    "ablation": Ablation,
    "cost": CostComparison,
}
AnyExperiment = Experiment | Ablation | CostComparison


def load_experiment(file: Path, overrides: Sequence[str] = (), *, smoke: bool = False) -> AnyExperiment:
    """Read an experiment; ``overrides`` are ``key.path=value``, the value as TOML has it, or else plain text.

    Raises ``ConfigError`` naming all problems of the file at once.
    """
    values = read_toml(file)
    quick = values.pop("smoke", {})
    if not isinstance(quick, dict):
        raise ConfigError(f"{file}: smoke = {quick!r}: must be a section")
    if unknown := sorted(set(cast("dict[str, object]", quick)) - set(Experiment.model_fields)):
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


def _of(task: str, size: int | Mapping[str, int]) -> int:
    if isinstance(size, int):
        return size
    if task not in size:
        raise ConfigError(f"sizes: no number for task {task!r}: add one")
    return size[task]


def _within(names: Iterable[str], known: Sequence[str]) -> Any:
    if wrong := [name for name in names if name not in known]:
        raise ValueError(f"unknown {', '.join(map(repr, wrong))}: use {', '.join(known)}")
    return names


def _options(given: Mapping[str, float | str], excluded: frozenset[str]) -> dict[str, Any]:
    """Training options in the types of their fields; raises ``ValueError`` on a name or a value that is none."""
    defaults = TrainOptions().as_dict()
    _within(given, sorted(defaults.keys() - excluded))
    typed = {name: type(defaults[name])(value) for name, value in given.items()}
    if broken := [f"{name} = {given[name]}: must be whole" for name in given if typed[name] != given[name]]:
        raise ValueError("; ".join(broken))
    with _as_value_error():
        TrainOptions(**typed)
    return typed


@contextmanager
def _as_value_error() -> Generator[None]:
    """Let pydantic collect what our own checks refuse."""
    try:
        yield
    except ConfigError as error:
        raise ValueError(str(error)) from error
