from __future__ import annotations

import pytest

from redraft.errors import ModelError
from redraft.policies import Policy, ScriptedPolicy
from redraft.types import Decoding, Message

CONTEXTS = [[Message("system", "Be brief."), Message("user", "Hi")], [Message("user", "Bye")]]


def test_answers_from_a_table_by_the_last_message() -> None:
    policy: Policy = ScriptedPolicy("polite", {"Bye": "Farewell.", "Hi": "Hello."})
    assert policy.respond(CONTEXTS, Decoding()) == ["Hello.", "Farewell."]
    assert policy.name == "polite"


def test_answers_from_a_function_trimmed() -> None:
    policy: Policy = ScriptedPolicy("loop", lambda messages: messages[-1].content * 200)
    assert policy.respond(CONTEXTS, Decoding()) == ["Hi", "Bye"]


def test_an_unscripted_context_is_an_error() -> None:
    with pytest.raises(ModelError, match="'polite' has no answer to 'Bye'"):
        ScriptedPolicy("polite", {"Hi": "Hello."}).respond(CONTEXTS, Decoding())
