from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from redraft.config import NOT_SETTINGS, Settings, TaskSettings, load_settings
from redraft.errors import ConfigError


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("REDRAFT_")]:
        monkeypatch.delenv(name)


def write(text: str, name: str = "redraft.toml") -> Path:
    file = Path(name)
    file.write_text(text, "utf-8")
    return file


def test_invalid_kinds_of_transport() -> None:
    with pytest.raises(ValidationError, match="unknown kind 'quotes': use any of entities, line ends"):
        TaskSettings(normalise=("quotes",))
    settings = Settings(tasks={"email": TaskSettings(cost="character", normalise=("blanks",)), "notes": TaskSettings()})
    assert settings.cost_of("email").name == "character without blanks"
    assert settings.cost_of("notes").name == "word"


def test_defaults_need_no_file() -> None:
    settings = load_settings()
    assert settings.log.url == "sqlite:///redraft.db"
    assert settings.task("anything").cost == "word"
    assert settings.cache == Path("~/.cache/redraft").expanduser()


def test_the_file_in_the_working_folder_is_read() -> None:
    write('[log]\nhorizon_days = 3\n[tasks.email]\ncost = "character"')
    settings = load_settings()
    assert (settings.log.horizon_days, settings.log.url) == (3, "sqlite:///redraft.db")
    assert (settings.task("email").cost, settings.task("notes").cost) == ("character", "word")


def test_an_argument_goes_before_the_variable_before_the_working_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    write('model.name = "folder"')
    assert load_settings().model.name == "folder"
    monkeypatch.setenv("REDRAFT_CONFIG", str(write('model.name = "variable"', "b.toml")))
    assert load_settings().model.name == "variable"
    assert load_settings(write('model.name = "argument"', "c.toml")).model.name == "argument"


def test_the_environment_goes_before_the_file_key_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    write('[log]\nurl = "sqlite:///file.db"\nhorizon_days = 3')
    monkeypatch.setenv("REDRAFT_LOG__URL", "sqlite:///environment.db")
    monkeypatch.setenv("REDRAFT_TASKS__EMAIL__COST", "survival")
    settings = load_settings()
    assert (settings.log.url, settings.log.horizon_days) == ("sqlite:///environment.db", 3)
    assert settings.task("email").cost == "survival"


def test_all_problems_are_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    write('nonsense = 1\nmodel = 3\n[log]\nhorizon_days = -1\nurll = "x"\n[tasks.email]\ncost = "wrod"')
    monkeypatch.setenv("REDRAFT_LOG__MAX_TEXT_CHARS", "many")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "redraft.toml: unknown key 'nonsense': remove or correct it",
        "redraft.toml: model = 3: is a section",
        "redraft.toml: log.horizon_days = -1: Input should be greater than 0",
        "redraft.toml: unknown key 'log.urll': did you mean 'url'?",
        "redraft.toml: tasks.email.cost = 'wrod': unknown cost: use one of word, word-capped",
        "REDRAFT_LOG__MAX_TEXT_CHARS: log.max_text_chars = 'many': Input should be a valid integer",
    ):
        assert part in message
    assert message.count(";") == 5


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("REDRAFT_PORT", "REDRAFT_PORT sets nothing and is ignored"),
        ("REDRAFT_SERVICE_HOST", "REDRAFT_SERVICE_HOST sets nothing and is ignored"),
        ("REDRAFT_LOG", "REDRAFT_LOG sets nothing and is ignored"),
        ("REDRAFT_CONFIGG", "REDRAFT_CONFIGG sets nothing and is ignored"),
        ("REDRAFT_LOGG__URL", "REDRAFT_LOGG__URL sets nothing and is ignored: did you mean 'log'?"),
        ("REDRAFT_LOG__URLL", "REDRAFT_LOG__URLL sets nothing and is ignored: did you mean 'url'?"),
        ("REDRAFT_LOG__URL__X", "REDRAFT_LOG__URL__X sets nothing and is ignored"),
        ("REDRAFT_TASKS__EMAIL__DECODING__SEED", "REDRAFT_TASKS__EMAIL__DECODING__SEED sets nothing and is ignored"),
    ],
)
def test_a_variable_that_is_not_meant_for_us_stops_nothing(
    variable: str, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(variable, "tcp://10.0.0.1:8400")
    assert load_settings() == Settings()
    assert caplog.messages == [said]


def test_a_list_in_a_variable_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDRAFT_SERVE__CORS_ORIGINS", '["https://a", "https://b"]')
    assert load_settings().serve.cors_origins == ("https://a", "https://b")
    monkeypatch.setenv("REDRAFT_LOG__HORIZON_DAYS", "-1")
    for wrong in ("[https://a]", "https://a"):
        monkeypatch.setenv("REDRAFT_SERVE__CORS_ORIGINS", wrong)
        with pytest.raises(ConfigError, match=r"log\.horizon_days") as caught:
            load_settings()
        said = f'REDRAFT_SERVE__CORS_ORIGINS: serve.cors_origins = \'{wrong}\': is a list: set it as ["…", "…"]'
        assert said in str(caught.value)


def test_a_variable_below_what_is_no_section(monkeypatch: pytest.MonkeyPatch) -> None:
    write("log = 1\n[logg]\nx = 1")
    monkeypatch.setenv("REDRAFT_LOG__URL", "sqlite:///x.db")
    with pytest.raises(ConfigError, match=r"redraft\.toml: log = 1: is a section.*toml: unknown key 'logg'"):
        load_settings()


def test_variables_that_are_no_settings_are_let_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NOT_SETTINGS:
        monkeypatch.setenv(name, "")
    assert load_settings().log.url == "sqlite:///redraft.db"


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("modle.name = 'x'", "unknown key 'modle': did you mean 'model'?"),
        ("task.email.cost = 'word'", "unknown key 'task': did you mean 'tasks'?"),
        ("tasks.email.alfa = 1", "unknown key 'tasks.email.alfa': did you mean 'alpha'?"),
        ("serve.upstreams.a = {url = 'x', modles = {}}", "'serve.upstreams.a.modles': did you mean 'models'?"),
        ("serve.prot = 1", "unknown key 'serve.prot': did you mean 'port'?"),
        ("serve.nonsense = 1", "unknown key 'serve.nonsense': remove or correct it"),
    ],
)
def test_an_unknown_key_suggests_the_near_one(text: str, near: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(near)):
        load_settings(write(text))


@pytest.mark.parametrize("cost", ["subtoken:tokenizer.json", "module:function"])
def test_costs_of_ones_own_are_taken_at_their_word(cost: str) -> None:
    assert load_settings(write(f'tasks.email.cost = "{cost}"')).task("email").cost == cost


@pytest.mark.parametrize(
    "text", ["log.horizon_days = inf", "log.horizon_days = nan", 'log.url = ""', 'model.name = ""']
)
def test_invalid_values(text: str) -> None:
    with pytest.raises(ConfigError, match=r"redraft\.toml: (log|model)\.\w+ = "):
        load_settings(write(text))


def test_invalid_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read \(No such file"):
        load_settings(Path("absent.toml"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path)
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_settings(write("log = ["))
    Path("latin.toml").write_bytes(b'x = "\xe9"')
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_settings(Path("latin.toml"))


def test_a_file_named_by_the_variable_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDRAFT_CONFIG", "absent.toml")
    with pytest.raises(ConfigError, match="absent"):
        load_settings()


def test_settings_are_frozen() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.log.url = "x"  # pyright: ignore[reportAttributeAccessIssue]
