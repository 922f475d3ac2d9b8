"""The LLM user on a real server: SmolLM2 behind vLLM, as `make vllm` starts it. The model is small: what is checked
is that both calls come through, not that the edits are good.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
from chat_server import ChatServer, serving

from redraft.errors import ModelError
from redraft.lab.bench.office import office_contexts
from redraft.lab.users import user_rng
from redraft.lab.users.llm import STYLES, LLMUser
from redraft.lab.users.llm_cache import AnswerCache
from redraft.policies.chat import Chat
from redraft.types import Context, Message

URL, MODEL = "http://127.0.0.1:8123/v1", "smollm2"

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:.*answered neither yes nor no"),
]

ARTICLE = "A red fox crossed the high street of Hull on Monday. Nobody was hurt, and the fox went home."
NEWS = Context("news-1", (Message("user", f"{ARTICLE}\n\nPlease summarize the above article."),), "summary", "news")
ANSWERS = {"summary": "A fox crossed a street in Hull.", "email": "Dear Sir or Madam, I am writing about the meeting."}


@pytest.fixture(scope="module", autouse=True)
def running() -> None:
    try:
        models = httpx.get(f"{URL}/models", timeout=10).json()["data"]
    except (httpx.HTTPError, ValueError, LookupError) as error:
        pytest.skip(f"no vLLM at {URL} ({type(error).__name__}): run `make vllm`")
    if MODEL not in [model["id"] for model in models]:
        pytest.skip(f"the server at {URL} has no {MODEL}: run `make vllm`")


@pytest.fixture
def front() -> Generator[ChatServer]:
    """Stands before vLLM: hands requests on, unless it has something else to say."""

    def hand_on(request: dict[str, Any]) -> str:
        answer = httpx.post(f"{URL}/chat/completions", json=request, timeout=300).raise_for_status()
        return answer.json()["choices"][0]["message"]["content"]

    with serving(ChatServer(hand_on)) as server:
        yield server


def edit(user: LLMUser, context: Context) -> str:
    return user.edit(context, ANSWERS[context.task], t=1, rng=user_rng(1, context.id))


def user_of(chat: Chat, tmp_path: Path, *, weak: bool = False) -> LLMUser:
    return LLMUser("small", chat, weak=weak, cache=AnswerCache(tmp_path / "answers.db"), revising_tokens=60)


@pytest.mark.parametrize("weak", [False, True])
def test_edits_both_tasks_and_nothing_is_sent_twice(front: ChatServer, tmp_path: Path, weak: bool) -> None:
    user = user_of(Chat("user 'small'", front.url, MODEL), tmp_path, weak=weak)
    contexts = [NEWS, *office_contexts(3, seed=1)]
    first = [edit(user, context) for context in contexts]
    sent = [request["messages"][0]["content"] for _, _, request in front.requests]
    for context in contexts:
        style = ", ".join(user.choose(context, user_rng(1, context.id)))
        judged = [text for text in sent if context.messages[0].content in text]
        assert judged
        assert all(f": {style}? Please" in text for text in judged)
        assert weak or style == ", ".join(STYLES[context.task, context.domain])
    assert all(first)
    front.requests.clear()
    assert [edit(user, context) for context in contexts] == first
    assert front.requests == []


def test_a_revision_comes_through(front: ChatServer, tmp_path: Path) -> None:
    """Whatever the model thinks of it, a no is followed by its revision."""
    front.say("No.")
    user = user_of(Chat("user 'small'", front.url, MODEL), tmp_path)
    assert edit(user, NEWS)
    [_, (_, _, request)] = front.requests
    asked = request["messages"][0]["content"]
    assert ANSWERS["summary"] in asked
    assert ARTICLE not in asked


def test_busy_and_failing_answers_are_overcome(front: ChatServer, tmp_path: Path) -> None:
    pauses: list[float] = []
    front.script = [(429, "", {"Retry-After": "2"}), (500, "", {}), (503, "", {})]
    user = user_of(Chat("user 'small'", front.url, MODEL, sleep=pauses.append), tmp_path)
    assert edit(user, NEWS)
    assert pauses == [2.0, 1.0, 2.0]


def test_a_short_timeout_is_an_error(tmp_path: Path) -> None:
    """The real server, which needs longer than a millisecond."""
    pauses: list[float] = []
    user = user_of(Chat("user 'hasty'", URL, MODEL, timeout=0.001, retries=1, sleep=pauses.append), tmp_path)
    with pytest.raises(ModelError, match=r"user 'hasty': .* cannot be reached \(\w+Timeout\), 2 times"):
        edit(user, NEWS)
    assert pauses == [0.5]


@pytest.mark.parametrize(("model", "tokens", "status"), [("nobody", 16, 404), (MODEL, 10**6, 400)])
def test_what_the_server_refuses_is_an_error(tmp_path: Path, model: str, tokens: int, status: int) -> None:
    user = LLMUser("small", Chat("user 'small'", URL, model), judging_tokens=tokens)
    with pytest.raises(ModelError, match=f"at {URL} answered {status} .*: check base_url, model and key"):
        edit(user, NEWS)
