from __future__ import annotations

from pathlib import Path

import pytest
from point_contexts import SUMMARY

from redraft.errors import ConfigError
from redraft.lab.users import user_rng
from redraft.lab.users.catalogue import Endpoint, get_user
from redraft.lab.users.llm import LLMUser
from redraft.lab.users.noise import AdversarialUser, DriftingUser, MixedUsers, NoisyUser, TiringUser

CONTEXT = SUMMARY[0]
SERVERS = {"qwen": Endpoint("http://127.0.0.1:1/v1", "m")}


def left(spec: str, t: int = 1) -> str:
    return get_user("summary", spec).edit(CONTEXT, "A draft.", t=t, rng=user_rng(1, CONTEXT.id))


def test_modifiers_wrap_from_left_to_right():
    user = get_user("summary", "weak+noise=0.25+fatigue=30")
    assert isinstance(user, TiringUser)
    assert isinstance(user.user, NoisyUser)
    assert (user.half_life, user.user.epsilon, user.name) == (30, 0.25, "summary-weak+noise=0.25+fatigue=30")
    assert isinstance(get_user("email", "strong+adversarial=1"), AdversarialUser)


def test_drift_is_towards_the_other_user():
    assert [left("strong+drift=30", t) for t in (29, 30)] == [left("strong"), left("other")]
    slow = get_user("summary", "strong+drift=20..24")
    assert isinstance(slow, DriftingUser)
    assert (slow.at, slow.width) == (20, 4)


def test_a_population_has_shares():
    mixed = get_user("summary", "0.25 strong; 0.75 other+noise=0")
    assert isinstance(mixed, MixedUsers)
    assert [share for share, _ in mixed.members] == [0.25, 0.75]
    assert left("0.5 strong; 0.5 strong") == left("strong")


def test_an_endpoint_plays_a_user(tmp_path: Path):
    user = get_user("summary", "qwen:weak", SERVERS, cache=tmp_path)
    assert isinstance(user, LLMUser)
    assert (user.weak, user.chat.model, user.name) == (True, "m", "summary-qwen:weak")
    assert user.cache is not None
    assert not isinstance(get_user("summary", "qwen:strong+noise=0.5", SERVERS), LLMUser)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("lazy", "user 'lazy': use strong, weak, other or ENDPOINT:strong"),
        ("llama:strong", "endpoints are qwen"),
        ("qwen:lazy", "use ENDPOINT:strong or ENDPOINT:weak"),
        ("strong+noise=much", "noise=much is not a valid number"),
        ("strong+noise=2", "epsilon"),
        ("strong+loud=1", r"\+noise="),
        ("strong; weak", "give each part of a population a share"),
        ("strong+drift=a..b", "drift=a..b is not a valid number"),
    ],
)
def test_invalid_names_are_one_line_with_a_remedy(spec: str, said: str):
    with pytest.raises(ConfigError, match=said) as caught:
        get_user("summary", spec, SERVERS)
    assert "\n" not in str(caught.value)
