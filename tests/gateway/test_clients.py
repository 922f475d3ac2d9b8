"""Client libraries as people use them, against ``redraft serve`` as a process: behind an upstream, and embedded.

Each client is a program of its own beside this file (``clients/``, ``node/``) that runs cases and prints what it got;
the tests check that, what the upstream was asked, and what the log has, and send an edit. Those that are no package of
ours live in environments of their own, below pytest's cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx
import openai
import pytest
from fake_openai import CALL, ERRORS, KEY, PARSED, SAID, Fake, fake_openai

from redraft.log import EditLog
from redraft.log.keys import add_key
from redraft.messages import calls_text
from redraft.types import Interaction

pytestmark = pytest.mark.real  # a minute and more, with environments of their own

HERE = Path(__file__).parent
ANSWERED = ("chat", "stream", "tools", "tools stream", "json")
FAILED = tuple(f"fail {status}" for status in ERRORS)
LEFT = ("slow", "wait")
EMBEDDED = ("chat", "stream", "tools", "slow")
OFFICIAL = {
    400: "BadRequestError",
    401: "AuthenticationError",
    429: "RateLimitError",
    **dict.fromkeys((500, 502), "InternalServerError"),
}
VERCEL = dict.fromkeys(OFFICIAL, "AI_APICallError")
TEXTS = {"tools": calls_text([{"name": "send_email", "arguments": CALL}]), "json": json.dumps(PARSED)}
EDITS = {"tools": ("Ann", "Bob"), "json": ("Review", "Offer")}  # one word of each
WORDS = {"tools": 9, "json": 4}  # between blanks; five otherwise


@dataclass(frozen=True)
class Client:
    """A program, and what is particular about its client.

    ``again``: how often it repeats what we say need not be repeated. ``codes``: what it calls a code of ours.
    """

    program: str
    apis: tuple[str, ...]
    errors: dict[int, str]
    again: int = 0
    codes: Mapping[str, str] = field(default_factory=dict[str, str])


CLIENTS = {
    "openai": Client("clients/openai_client.py", ("chat", "responses"), OFFICIAL),
    "langchain": Client("clients/langchain_client.py", ("chat", "responses"), OFFICIAL),
    "litellm": Client(
        "clients/litellm_client.py",
        ("chat",),
        OFFICIAL | {502: "BadGatewayError"},
        codes={"rate_limit_exceeded": "429"},
    ),
    "node": Client("node/openai.mjs", ("chat", "responses"), OFFICIAL),
    "vercel": Client("node/vercel.mjs", ("chat", "responses", "compatible"), VERCEL, again=2),
}


class Asked(NamedTuple):
    """A case of a client: one of its APIs, and a kind of call."""

    client: str
    api: str
    kind: str

    @property
    def prompt(self) -> str:
        """What a program asks, and the fake reads."""
        return f"{self.kind}: {self.api} of {self.client}"

    @property
    def task(self) -> str:
        """A failure has a task of its own: its breaker must not answer for another."""
        return "-".join((self.kind, self.client, self.api)).replace(" ", "") if self.kind in FAILED else "email"

    def call(self, at: Served, name: str, upstream: Fake, key: str = "") -> dict[str, str]:
        """The case as a program reads it."""
        reached = upstream.url.removesuffix("v1") + "reached?" + urlencode({"prompt": self.prompt})
        ask = f"{self.api}/{'chat' if self.kind in FAILED else self.kind}"
        said = {"ask": ask, "model": self.task, "prompt": self.prompt, "reached": reached}
        return {"name": name, "url": f"{at.url}/v1", "key": key or at.key, **said}


def each(*kinds: str, official: tuple[pytest.MarkDecorator, ...] = ()) -> Any:
    """All clients and their APIs with these kinds; only the official Python client is there without a registry."""
    rows = [Asked(name, api, kind) for name, client in CLIENTS.items() for api in client.apis for kind in kinds]
    marks = {True: official, False: (pytest.mark.real,)}
    found = [pytest.param(row, marks=marks[row.client == "openai"], id="-".join(row)) for row in rows]
    return pytest.mark.parametrize("asked", found)


@dataclass
class Served:
    """A gateway that runs: where, with which key, over which log."""

    url: str
    key: str
    log: str

    def row(self, said: str, seconds: float = 5.0) -> Interaction | None:
        """The first completion of a prompt in the log, waited for."""
        deadline = time.monotonic() + seconds
        while True:
            with EditLog(self.log) as log:
                rows = [row for row in log.interactions() if row.completion.messages[-1].content == said]
            if rows or time.monotonic() > deadline:
                return rows[0] if rows else None
            time.sleep(0.05)

    def edit(self, completion_id: str, **said: Any) -> dict[str, Any]:
        answered = httpx.post(
            f"{self.url}/v1/edits",
            json={"completion_id": completion_id, **said},
            headers={"Authorization": f"Bearer {self.key}"},
        )
        assert answered.status_code == 200, answered.text
        return answered.json()


class Told:
    """What each client's program printed, by the names of cases; all are run with the first that is asked for."""

    def __init__(self, cache: Path, upstream: Fake, behind: Served, embedded: Served | None) -> None:
        self._cache, self._upstream, self._behind, self._embedded = cache, upstream, behind, embedded
        self._found: dict[str, dict[str, dict[str, Any]]] = {}
        self._ready: dict[str, Path] = {}

    def __call__(self, asked: Asked, where: str = "") -> dict[str, Any]:
        if asked.client not in self._found:
            self._found[asked.client] = self._run(asked.client)
        return self._found[asked.client][f"{asked.api} {where}{asked.kind}"]

    def _calls(self, client: str) -> Iterator[dict[str, str]]:
        for api in CLIENTS[client].apis:
            for kind in (*ANSWERED, *FAILED, *LEFT):
                yield Asked(client, api, kind).call(self._behind, f"{api} {kind}", self._upstream)
            yield Asked(client, api, "chat").call(self._behind, f"{api} denied", self._upstream, "rd-wrong")
            if self._embedded is None:
                continue
            for kind in EMBEDDED:
                call = Asked(client, api, kind).call(self._embedded, f"{api} embedded {kind}", self._upstream)
                yield call | ({"model": "slow"} if kind == "slow" else {})

    def _run(self, client: str) -> dict[str, dict[str, Any]]:
        names = ("REDRAFT_", "OPENAI_", "LANGCHAIN_", "LANGSMITH_", "PYTHON")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(names)}
        environment |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "*"}
        command = [*self._command(client), json.dumps(list(self._calls(client)))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return {line.pop("name"): line for line in lines}

    def _command(self, client: str) -> list[str]:
        """How to start a client's program, in the environment that it needs."""
        program = HERE / CLIENTS[client].program
        if client == "openai":
            return [sys.executable, str(program)]
        kind = program.parent.name
        if kind not in self._ready:
            self._ready[kind] = (_node if kind == "node" else _python)(program.parent, self._cache)
        folder = self._ready[kind]
        return ["node", str(folder / program.name)] if kind == "node" else [str(folder / "bin/python"), str(program)]


def _python(source: Path, cache: Path) -> Path:
    """An environment with the clients whose pins would bind ours."""
    folder = cache / f"python-{_digest(source / 'requirements.txt')}"
    if not (folder / "complete").exists():
        venv.create(folder, clear=True, with_pip=True)
        options = ["--quiet", "--no-compile", "--disable-pip-version-check", "-r", str(source / "requirements.txt")]
        _install([str(folder / "bin" / "python"), "-m", "pip", "install", *options], folder)
    return folder


def _node(source: Path, cache: Path) -> Path:
    """A copy of the programs beside the packages that they import."""
    if shutil.which("npm") is None:
        pytest.skip("no node and npm on this machine")
    folder = cache / f"node-{_digest(source / 'package-lock.json')}"
    folder.mkdir(exist_ok=True)
    for file in source.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    if not (folder / "complete").exists():
        _install(["npm", "ci", "--silent"], folder)
    return folder


def _install(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)
    if done.returncode:
        pytest.skip(f"{' '.join(command[:4])} failed, is a registry there? {(done.stderr or done.stdout)[-300:]}")
    (folder / "complete").touch()


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes() + sys.version.encode()).hexdigest()[:12]


def start(folder: Path, settings: str) -> tuple[subprocess.Popen[str], str, str]:
    """Start ``redraft serve`` as a process; gives a key and the log's URL as well."""
    log = f"sqlite:///{folder / 'log.db'}"
    with EditLog(log) as edit_log, edit_log.keys() as connection:
        key = add_key(connection, "default", "clients", ["client", "feedback"])[1]
    file = folder / "redraft.toml"
    file.write_text(f'[log]\nurl = "{log}"\n{settings}')
    command = [
        sys.executable,
        "-c",
        "from redraft.cli.app import main; main()",
        "--config",
        str(file),
        "serve",
        "--json",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REDRAFT_")}
    environment |= {"OMP_NUM_THREADS": "1"}  # as one_torch_thread says
    with (folder / "stderr").open("w") as errors:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment), key, log


@pytest.fixture(scope="module")
def upstream() -> Iterator[Fake]:
    with fake_openai() as fake:
        yield fake


@pytest.fixture(scope="module")
def gateways(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, upstream: Fake
) -> Iterator[list[Served]]:
    """One whose only policy is an upstream's model; where tests ask for it, one that answers with the tiny model."""
    failing = [Asked(name, a, kind).task for name, client in CLIENTS.items() for a in client.apis for kind in FAILED]
    tasks = (f'[tasks.{name}]\npolicies = ["plain"]\ncost = "whitespace"\n' for name in ("email", *failing))
    there = f'[serve]\nport = 0\n[serve.upstreams.fake]\nurl = "{upstream.url}"\nmodels = {{ plain = "m" }}\n'
    started = [start(tmp_path_factory.mktemp("behind"), there + "".join(tasks))]
    if any("embedded" in item.name for item in request.session.items):
        folder = tmp_path_factory.mktemp("embedded")
        started.append(start(folder, _embedded(request.getfixturevalue("tiny_model_folder"), folder)))
    try:
        urls = [json.loads(str(process.stdout and process.stdout.readline()))["url"] for process, _, _ in started]
        yield [Served(url.removesuffix("/v1"), *about) for url, (_, *about) in zip(urls, started, strict=True)]
    finally:
        for process, _, _ in started:
            process.terminate()
            process.communicate(timeout=20)


def _embedded(model: Path, folder: Path) -> str:
    settings = f'[model]\nname = "{model}"\ncache = "{folder}"\n[policies]\nroot = "{folder}"\n'
    brief = '[tasks.email]\npolicies = ["base"]\n[tasks.email.decoding]\nmax_new_tokens = 12\n'
    return f'{settings}[serve]\nport = 0\nmax_new_tokens = 1000\n{brief}[tasks.slow]\npolicies = ["base"]\n'


@pytest.fixture(scope="module")
def told(request: pytest.FixtureRequest, upstream: Fake, gateways: list[Served]) -> Told:
    assert request.config.cache is not None
    return Told(request.config.cache.mkdir("clients"), upstream, gateways[0], (*gateways[1:], None)[0])


@pytest.fixture(scope="module")
def behind(gateways: list[Served]) -> Served:
    return gateways[0]


@pytest.fixture(scope="module")
def embedded(gateways: list[Served]) -> Served:
    return gateways[1]


@each(*ANSWERED)
def test_answers_arrive_whole_and_their_edits_count(asked: Asked, told: Told, behind: Served, upstream: Fake) -> None:
    found = told(asked)
    assert "error" not in found, found
    answer = asked.kind.split()[0]
    if answer == "tools":
        assert [found["call"][0], json.loads(found["call"][1])] == ["send_email", CALL]
        assert found.get("after", SAID) == SAID
    elif answer == "json":
        assert found["parsed"] == PARSED
    else:
        assert found["text"] == SAID
        assert found["usage"]
        assert found.get("pieces", 5) == 5  # each as it came
    assert upstream.count(asked.prompt) == 1 + ("after" in found)
    row, text = behind.row(asked.prompt), TEXTS.get(answer, SAID)
    assert row is not None
    assert (row.completion.id, row.completion.response) == (found["id"], text)
    edited = behind.edit(found["id"], edited=text.replace(*EDITS.get(answer, ("well", "splendid"))))
    assert edited["cost"] == pytest.approx(1 / WORDS.get(answer, 5))


@each(*FAILED)
def test_errors_say_what_the_upstream_said(asked: Asked, told: Told, behind: Served, upstream: Fake) -> None:
    found, known = told(asked), CLIENTS[asked.client]
    status = int(asked.kind.split()[1])
    said = ERRORS[status] if status != 401 else {}  # that is about the gateway's key, which is not the client's affair
    shown = 502 if status == 401 else status
    assert found["status_code"] == shown
    assert known.errors[shown] in found["error"]
    code = said.get("code")
    assert (found["code"], found["param"]) == (known.codes.get(code or "", code), said.get("param"))
    assert KEY not in json.dumps(found)
    assert (found["retry_after"] == "1") == (status == 429)
    tried = upstream.count(asked.prompt)  # the gateway's three attempts at most, not three times the client's
    assert tried == 1 if status == 400 else tried <= 3 * (1 + known.again)
    assert behind.row(asked.prompt, 0) is None


@each("slow")
def test_a_client_that_leaves_ends_the_answer(asked: Asked, told: Told, behind: Served, upstream: Fake) -> None:
    found = told(asked)
    assert found["text"] == "Dear"
    assert upstream.left(asked.prompt) == ["gone"]
    row = behind.row(asked.prompt)
    assert row is not None
    assert row.completion.response == "Dear"
    edited = behind.edit(found.get("id", row.completion.id), edited="Dear Bob")
    assert (edited["cost"], edited["new"]) == (1, True)


@each("wait")
def test_who_gives_up_before_the_first_byte_saw_nothing(
    asked: Asked, told: Told, behind: Served, upstream: Fake
) -> None:
    assert told(asked) == {"gone": True}
    assert upstream.left(asked.prompt) == ["gone"]
    assert behind.row(asked.prompt, 0.2) is None


@each("denied")
def test_a_wrong_key_is_the_clients_own_error(asked: Asked, told: Told) -> None:
    found = told(asked)
    assert found["status_code"] == 401
    assert CLIENTS[asked.client].errors[401] in found["error"]


@each(*EMBEDDED, official=(pytest.mark.slow,))  # its process loads torch
def test_the_embedded_model_answers_streams_and_says_what_it_refuses(
    asked: Asked, told: Told, embedded: Served
) -> None:
    found = told(asked, "embedded ")
    if asked.kind == "tools":
        assert (found["status_code"], found["param"]) == (400, "tools")
        assert CLIENTS[asked.client].errors[400] in found["error"]
        assert embedded.row(asked.prompt, 0) is None
        return
    assert "error" not in found, found
    row = embedded.row(asked.prompt)
    assert row is not None
    whole = row.completion.response
    assert whole.startswith(found["text"]) if asked.kind == "slow" else whole == found["text"]
    edited = embedded.edit(found.get("id", row.completion.id), accepted=True)
    assert edited["cost"] == 0


def test_the_docs_name_the_versions_that_are_tested() -> None:
    root = HERE.parents[1]
    pins = [
        *(HERE / "clients/requirements.txt").read_text().splitlines(),
        *(root / "constraints.txt").read_text().splitlines(),
    ]
    versions = dict(line.split("==") for line in pins if line.startswith(("openai==", "langchain-openai", "litellm")))
    packages: dict[str, str] = json.loads((HERE / "node/package.json").read_text())["dependencies"]
    rows = [row for row in (root / "docs/gateway.md").read_text().splitlines() if row.startswith("|")]
    for name, version in [*versions.items(), *packages.items()]:
        assert name == "zod" or any(f"`{name}`" in row and f"| {version} |" in row for row in rows), (name, version)


@pytest.mark.slow
def test_the_real_model_behind_the_official_client(tmp_path: Path) -> None:
    here = f'[policies]\nroot = "{tmp_path}"\n[serve]\nport = 0\n[tasks.email]\npolicies = ["base"]\n'
    process, key, log = start(tmp_path, here)
    try:
        place = json.loads(str(process.stdout and process.stdout.readline()))["url"]
        ask: Any = {"model": "email", "messages": [{"role": "user", "content": "Say hello to Ann."}], "max_tokens": 8}
        with openai.OpenAI(base_url=place, api_key=key) as client:
            whole = client.chat.completions.create(**ask)
            chunks = list(client.chat.completions.create(**ask, stream=True))
            response = client.responses.create(model="email", input="Say hello to Ann.", max_output_tokens=16)
        text = whole.choices[0].message.content
        assert text
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text  # greedy
        assert response.output_text.startswith(text)
        served = Served(place.removesuffix("/v1"), key, log)
        for name in (whole.id, chunks[0].id, response.id):
            assert served.edit(name, accepted=True)["cost"] == 0
    finally:
        process.terminate()
        process.communicate(timeout=20)
