from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.lab.users.llm import read_revision, read_verdict


@pytest.mark.parametrize(
    "answer",
    [
        "yes",
        "Yes.",
        "YES!",
        "**Yes**",
        "  _yes_\n",
        "Yes, no changes are needed.",
        "Yes it is, no doubt.",
        "Answer: Yes",
        "The answer is **yes**.",
        "I would say yes.",
        "Yes or no? Yes.",
        "> Yes",
        '"Yes"',
        "The summary is lively.\n\nYes",
    ],
)
def test_a_yes(answer: str) -> None:
    assert read_verdict(answer) is True


@pytest.mark.parametrize(
    "answer",
    [
        "no",
        "No.",
        "**No**",
        "__No__, it is not.",
        "No, but yes in parts",
        "no - it is too long",
        "No — it is too long",
        "No it isn't",
        "No because it is dull",
        "Answer: no",
        "Final answer: **No**",
        "I saw it yesterday. No.",
        "It has no bullets, so: no.",
        "1. No",
        "No\nThe summary has eyes.",
    ],
)
def test_a_no(answer: str) -> None:
    assert read_verdict(answer) is False


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "...",
        "yesterday",
        "Eyes, noses and yesses",
        "I know nothing, now or never.",
        "Yes and no.",
        "yes/no",
        "No or yes",
        "No changes needed.",
        "No-one would mind",
        "There is no bullet list here",
        "It could be yes, it could be no.",
        "The summary is good.",
    ],
)
def test_neither(answer: str) -> None:
    assert read_verdict(answer) is None


WORDS = st.sampled_from(
    ["yesterday", "eyes", "now", "know", "not", "none", "good", "piano", "Nora", "yessir", ",", "."]
)


@given(st.lists(WORDS))
def test_no_word_that_merely_contains_one_is_read(words: list[str]) -> None:
    assert read_verdict(" ".join(words)) is None


@given(
    st.sampled_from(["yes", "no"]),
    st.sampled_from(".,!:;\n"),
    st.lists(st.one_of(WORDS, st.just("no"), st.just("yes"))),
)
def test_the_first_word_decides(first: str, mark: str, words: list[str]) -> None:
    rest = " ".join(["It", "is", *words])
    assert read_verdict(f"{first}{mark} {rest}") is (first == "yes")


@given(st.text())
def test_any_text_can_be_read(answer: str) -> None:
    assert read_verdict(answer) in (True, False, None)
    assert read_revision(answer, "y") == read_revision(answer, "y").strip()


TEXT = "Hi Ann,\n\nhere is the plan: lunch at 3.\n- “soup”\n- `tea`\n\nThanks,\nBo"


@pytest.mark.parametrize(
    "answer",
    [
        TEXT,
        f"\n  {TEXT}\n",
        f"Here is the revised email:\n\n{TEXT}",
        f"Here's a revised version that suits you, casual and clear:\n{TEXT}",
        f"Sure! Here is the revised text:\n{TEXT}",
        f"Certainly, below is the email:\n\n{TEXT}",
        f"**Revised email:**\n\n{TEXT}",
        f"Revised Email: {TEXT}",
        f"Here is the revised email: {TEXT}",
        f"> Here is the revised email:\n{TEXT}",
        f"Email:\n{TEXT}",
        f"```\n{TEXT}\n```",
        f"```markdown\n{TEXT}\n```",
        f'"{TEXT}"',
        f"“{TEXT}”".replace("“soup”", "soup"),
        f'"""{TEXT}"""',
        f'Of course. Here is the revised email:\n\n```text\n"{TEXT}"\n```\n',
    ],
)
def test_the_talk_around_a_revision_goes(answer: str) -> None:
    assert read_revision(answer, "Hello Ann, lunch is at 3.").replace("“soup”", "soup") == TEXT.replace(
        "“soup”", "soup"
    )


@pytest.mark.parametrize(
    "text",
    [
        "Here is the agenda for Friday, as promised.\n- lunch",
        "This is it. New email addresses: a, b",
        'He said: "Fine."',
        '"Fine," he said, "no more."',
        "“A” and “B”",
        '"',
        "```",
        "Use `x`.\n```\ncode\n```\nThen go.",
        "Sure, see you there!",
        "Here are the points:\n- lunch",
        "Here's what we need:\n- soup",
        "Here are the updated times:\n3 pm",
        "Of course: lunch.\nHere is the email address: a@example.org",
        "New email: a@example.org",
        "Sure thing.\nThe email is out: read it.",
        "Email me: bo@example.org",
        "Text: who reads it?",
        "",
    ],
)
def test_what_belongs_to_a_text_stays(text: str) -> None:
    assert read_revision(text, "Hello.") == text


@pytest.mark.parametrize(
    "text", ['"Quoted."', "```\ncode\n```", "Here is the summary:\nIt rains.", "Summary:\nIt rains.", "«Quoted.»"]
)
def test_what_the_response_had_itself_stays(text: str) -> None:
    assert read_revision(text, text.replace("rains", "rained").replace("Quoted", "Said").replace("code", "c")) == text
    assert read_revision(text, "It rained.") != text


PLAIN = st.text("abc de.,!\n-😀é", min_size=1).map(str.strip).filter(bool)
WRAPS = (
    "Here is the revised email:\n\n{}",
    "Revised summary:\n{}",
    "```\n{}\n```",
    "```markdown\n{}\n```",
    '"{}"',
    "“{}”",
    "Sure, here's the updated version:\n{}",
)


@given(PLAIN, st.lists(st.sampled_from(WRAPS), max_size=3, unique=True))
def test_layers_come_off(text: str, wraps: list[str]) -> None:
    answer = text
    for wrap in wraps:
        answer = wrap.format(answer)
    assert read_revision(answer, "plain") == text


@given(st.text(), st.text())
def test_reading_a_reading_changes_nothing(answer: str, response: str) -> None:
    once = read_revision(answer, response)
    assert read_revision(once, response) == once
