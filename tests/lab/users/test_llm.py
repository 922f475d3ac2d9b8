"""Against a real HTTP server that speaks the protocol and says what the script says."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from chat_server import ChatServer, completion, serving

from redraft.errors import ConfigError, DataError, ModelError
from redraft.lab.users import User, user_rng
from redraft.lab.users.email import EMAIL_DOMAINS
from redraft.lab.users.llm import STYLES, LLMUser
from redraft.lab.users.llm_cache import AnswerCache
from redraft.lab.users.summary import SUMMARY_DOMAINS
from redraft.policies.chat import Chat
from redraft.types import Context, Decoding, Message

KEY = "sk-very-secret"
NEWS = Context("news-1", (Message("system", "Be brief."), Message("user", "A fox 🦊 ran.")), "summary", "news")
Y = "The fox ran – “quickly”."
EDITED = "Once upon a time a fox ran!"


@pytest.fixture
def server() -> Generator[ChatServer]:
    with serving(ChatServer()) as server:
        yield server


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def chat(server: ChatServer, pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> Chat:
    monkeypatch.setenv("USER_KEY", KEY)
    return Chat("user 'qwen'", server.url, "qwen3", "USER_KEY", retries=2, sleep=pauses.append)


@pytest.fixture
def user(chat: Chat) -> LLMUser:
    return LLMUser("qwen", chat)


def edit(user: User, response: str = Y, context: Context = NEWS, seed: int = 1) -> str:
    return user.edit(context, response, t=1, rng=user_rng(seed, context.id))


def prompts(server: ChatServer) -> list[str]:
    return [request["messages"][-1]["content"] for _, _, request in server.requests]


# The two calls


def test_a_response_that_suits_stays(server: ChatServer, user: LLMUser) -> None:
    server.say("Yes.")
    assert edit(user) == Y
    [asked] = prompts(server)
    for part in ("Be brief.", "A fox 🦊 ran.", Y, *STYLES["summary", "news"]):
        assert part in asked
    assert asked.endswith("Please answer yes or no.")


def test_one_that_does_not_is_revised_without_its_source(server: ChatServer, user: LLMUser) -> None:
    server.say("**No**, but yes in parts.", f"Here is the revised summary:\n\n{EDITED}")
    assert edit(user) == EDITED
    [_, asked] = prompts(server)
    for part in (Y, *STYLES["summary", "news"]):
        assert part in asked
    assert "A fox" not in asked
    assert "Be brief." not in asked


def test_requests_are_greedy_and_bounded(server: ChatServer, user: LLMUser) -> None:
    server.say("No", EDITED)
    edit(user)
    sent = [request for _, _, request in server.requests]
    assert [request["temperature"] for request in sent] == [0.0, 0.0]
    assert [request["max_tokens"] for request in sent] == [16, 1000]
    assert {request["model"] for request in sent} == {"qwen3"}
    assert {headers["Authorization"] for _, headers, _ in server.requests} == {f"Bearer {KEY}"}


def test_an_unclear_answer_is_asked_for_once_more(server: ChatServer, user: LLMUser) -> None:
    server.say("I saw it yesterday.", "yes")
    assert edit(user) == Y
    [_, (_, _, again)] = server.requests
    assert [message["role"] for message in again["messages"]] == ["user", "assistant", "user"]
    assert again["messages"][1]["content"] == "I saw it yesterday."


def test_an_answer_that_stays_unclear_is_a_no_and_said_to_be(server: ChatServer, user: LLMUser) -> None:
    server.say("Hm.", "Well,\nmaybe", EDITED)
    with pytest.warns(UserWarning, match=r"'qwen', context 'news-1': answered neither yes nor no \('Well, maybe'\)"):
        assert edit(user) == EDITED
    assert len(server.requests) == 3


def test_a_revision_is_cut_where_it_repeats_itself(server: ChatServer, user: LLMUser) -> None:
    server.say("no", "Go! " + "It ran on. " * 60)
    assert edit(user) == "Go! It ran on."


def test_a_revision_to_nothing_is_an_edit(server: ChatServer, user: LLMUser) -> None:
    server.say("no", "")
    assert edit(user) == ""


def test_thoughts_are_not_read(server: ChatServer, user: LLMUser) -> None:
    server.say("<think>\nyes, yes\n</think>\n\nNo.", f"<think>\n“Hm”\n</think>\n{EDITED}")
    assert edit(user) == EDITED


@pytest.mark.parametrize("said", [["<think>\nyes, it"], ["no", "<think>So the user"]])
def test_thoughts_that_do_not_end_are_an_error(server: ChatServer, user: LLMUser, said: list[str]) -> None:
    server.say(*said)
    with pytest.raises(ModelError, match="user 'qwen': model 'qwen3' was still thinking after 1"):
        edit(user)


# Styles, strong and weak


def test_every_domain_of_both_tasks_has_a_style() -> None:
    domains = {("email", domain) for domain in EMAIL_DOMAINS} | {("summary", domain) for domain in SUMMARY_DOMAINS}
    assert set(STYLES) == domains


@pytest.mark.parametrize("key", STYLES)
def test_a_strong_user_wants_all_a_weak_one_some_of_it(chat: Chat, key: tuple[str, str]) -> None:
    items = STYLES[key]
    strong, weak = LLMUser("strong", chat), LLMUser("weak", chat, weak=True)
    contexts = [Context(str(i), (), *key) for i in range(400)]
    assert {strong.choose(context, None) for context in contexts} == {items}
    drawn = {weak.choose(context, user_rng(1, context.id)) for context in contexts}
    assert len(drawn) == 2 ** len(items) - 1  # every subset but the empty one
    assert all(chosen and list(chosen) == [item for item in items if item in chosen] for chosen in drawn)


def test_a_weak_user_minds_the_same_again_on_the_same_context(server: ChatServer, chat: Chat) -> None:
    weak = LLMUser("weak", chat, weak=True)
    server.reply = lambda request: "yes"
    for seed in (1, 1, 2, 3):
        edit(weak, seed=seed)
    first, same, *others = prompts(server)
    assert first == same
    assert any(first != other for other in others)
    chosen = weak.choose(NEWS, user_rng(1, NEWS.id))
    assert [item in first for item in STYLES["summary", "news"]] == [
        item in chosen for item in STYLES["summary", "news"]
    ]


def test_invalid_contexts_and_generators(chat: Chat) -> None:
    with pytest.raises(DataError, match=r"user 'u' edits summary/news, .*, not summary/office \(context 'c'\)"):
        edit(LLMUser("u", chat), context=Context("c", (), "summary", "office"))
    with pytest.raises(ValueError, match="'u' is weak and draws its items: give rng"):
        LLMUser("u", chat, weak=True).edit(NEWS, Y, t=1, rng=None)


# A server in trouble


def test_a_busy_or_failing_server_is_asked_again(server: ChatServer, user: LLMUser, pauses: list[float]) -> None:
    server.script = [(429, "{}", {"Retry-After": "3"}), (500, "oops", {}), (200, completion("no"), {})]
    server.script += [(502, "", {}), (504, "", {}), (200, completion(EDITED), {})]
    assert edit(user) == EDITED
    assert pauses == [3.0, 1.0, 0.5, 1.0]


def test_a_refusal_names_place_status_and_remedy_but_no_key(server: ChatServer, chat: Chat) -> None:
    secretive = Chat(chat.owner, server.url.replace("//", f"//me:{KEY}@"), "qwen3", "USER_KEY")
    server.script = [(404, f"no model qwen3 for {KEY}", {})]
    with pytest.raises(ModelError, match="check base_url, model and key") as caught:
        edit(LLMUser("qwen", secretive))
    assert f"user 'qwen': model 'qwen3' at {server.url} answered 404 (no model qwen3 for ***)" in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_server_that_never_answers_times_out(server: ChatServer, pauses: list[float]) -> None:
    server.stall = threading.Event()
    chat = Chat("user 'slow'", server.url, "m", timeout=0.05, retries=1, sleep=pauses.append)
    with pytest.raises(ModelError, match=r"user 'slow': .* cannot be reached \(ReadTimeout\), 2 times"):
        edit(LLMUser("slow", chat))
    assert pauses == [0.5]


# The cache


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "new" / "answers.db"


@pytest.fixture
def cached(chat: Chat, file: Path) -> LLMUser:
    return LLMUser("qwen", chat, cache=AnswerCache(file))


def test_a_second_run_sends_no_request(server: ChatServer, cached: LLMUser, file: Path) -> None:
    server.say("no", EDITED, "yes")
    first = [edit(cached), edit(cached, "Fine.")]
    moved = Chat("user 'again'", "http://127.0.0.2:9/v1", "qwen3", retries=0)  # nobody answers there
    again = LLMUser("again", moved, cache=AnswerCache(file))
    assert [edit(again), edit(again, "Fine.")] == first == [EDITED, "Fine."]
    assert len(server.requests) == 3


def test_what_is_not_the_same_request_is_sent(server: ChatServer, chat: Chat, cached: LLMUser) -> None:
    server.reply = lambda request: "yes"
    other_model = LLMUser("qwen", Chat(chat.owner, server.url, "llama"), cache=cached.cache)
    longer = LLMUser("qwen", chat, cache=cached.cache, judging_tokens=99)
    for asking in (cached, other_model, longer):
        edit(asking)
    edit(cached, Y + " ")
    assert len(server.requests) == 4


def test_unclear_answers_are_kept_too(server: ChatServer, cached: LLMUser) -> None:
    server.say("Hm.", "yes")
    assert edit(cached) == edit(cached) == Y
    assert len(server.requests) == 2


def test_a_failure_is_not_kept(server: ChatServer, cached: LLMUser) -> None:
    server.script = [(400, "no", {})]
    server.say("<think>So the user", "yes")
    for problem in ("answered 400", "was still thinking"):
        with pytest.raises(ModelError, match=problem):
            edit(cached)
    assert edit(cached) == Y


def test_requests_can_be_read_and_hold_no_key(server: ChatServer, cached: LLMUser, file: Path) -> None:
    server.say("no", EDITED)
    edit(cached)
    with sqlite3.connect(file) as database:
        rows = database.execute("SELECT request, answer FROM answers").fetchall()
    database.close()
    assert [answer for _, answer in rows] == ["no", EDITED]
    assert all('"model": "qwen3"' in request for request, _ in rows)
    stored = file.read_bytes()
    assert KEY.encode() not in stored
    assert b"127.0.0.1" not in stored


def test_threads_agree_on_one_answer(file: Path) -> None:
    """Eight ask at once, before any has an answer, and each server says something else."""
    at_once, heard = threading.Barrier(8), dict[int, str]()

    def ask(number: int) -> Callable[[], str]:
        def answer() -> str:
            at_once.wait()
            return f"answer {number}"

        return answer

    def run(number: int) -> None:
        heard[number] = AnswerCache(file).answer("m", NEWS.messages, Decoding(), ask(number))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(heard) == 8
    assert len(set(heard.values())) == 1


PROCESS = """
import sys
from pathlib import Path
from redraft.types import Decoding, Message
from redraft.lab.users.llm_cache import AnswerCache
cache = AnswerCache(Path(sys.argv[1]))
for i in range(40):
    print(cache.answer("m", [Message("user", str(i))], Decoding(), lambda: f"{i} by {sys.argv[2]}"))
"""


def test_processes_agree_on_their_answers(file: Path) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(file), name], stdout=subprocess.PIPE, text=True)
        for name in "ab"
    ]
    said = [process.communicate()[0].splitlines() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert said[0] == said[1]
    assert [answer.split()[0] for answer in said[0]] == [str(i) for i in range(40)]


@pytest.mark.parametrize("answer", ["", "yes\x00no", "é\r\n𝄞", "x" * 100_000])
def test_answers_come_back_as_they_were(file: Path, answer: str) -> None:
    cache = AnswerCache(file)
    assert cache.answer("m", NEWS.messages, Decoding(), lambda: answer) == answer
    assert cache.answer("m", NEWS.messages, Decoding(), lambda: "another") == answer


def test_invalid_cache_files(user: LLMUser, server: ChatServer, tmp_path: Path) -> None:
    server.reply = lambda request: "yes"
    damaged = tmp_path / "damaged.db"
    damaged.write_text("This is no database. " * 100)
    for file in (damaged, tmp_path, damaged / "below" / "a.db"):
        with pytest.raises(ConfigError, match=r"^cache .*: make its folder writable, or delete the file$"):
            edit(LLMUser("qwen", user.chat, cache=AnswerCache(file)))
