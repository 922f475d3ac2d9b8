"""A language model as user, asked in two calls as PRELUDE does (arXiv 2404.15269).

The first call shows what was asked, the response and the style the user likes, and asks whether it suits: yes or no.
On a no, the second shows the response and the style, but *not* what was asked, and requests a revision; on a yes the
response stays as it is. Temperature is 0. An answer that is neither yes nor no is asked for once more and then taken
as a no, with a warning. A revision is cut where it starts to repeat itself, as responses are.

The styles are PRELUDE's, for our sources. As they stand there: those of news, Wikipedia, paper abstracts and film
reviews to summarise, and of the emails those on papers (our ``abstract``), on posts (``dialogue``) and on tweets about
papers (``paper``, a title and a sentence). The ``office`` notes are our own, so their style is put together of its
items, the tone of the emails on peer reviews and the structure of those on papers: what the rule user likes there.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redraft.errors import DataError, ModelError
from redraft.lab.users.chat import Chat
from redraft.lab.users.llm_cache import AnswerCache
from redraft.lm.trim import trim
from redraft.types import Context, Decoding, Message

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["STYLES", "LLMUser", "read_revision", "read_verdict"]

STYLES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("summary", "news"): (
        "style targeted to young children",
        "storytelling",
        "short sentences",
        "playful language",
        "interactive",
        "positive",
    ),
    ("summary", "wikipedia"): ("bullet points", "parallel structure", "brief"),
    ("summary", "abstract"): ("tweet style", "simple English", "inquisitive", "skillful foreshadowing", "with emojis"),
    ("summary", "film"): ("question answering style",),
    ("email", "office"): ("casual tone", "clear", "structured", "straight to the points"),
    ("email", "abstract"): ("structured", "straight to the points", "respectful", "professional greeting and closing"),
    ("email", "paper"): ("engaging", "personalized", "professional tone", "thankful closing"),
    ("email", "dialogue"): ("informal", "conversational", "no closing"),
}
"""What the user likes, in words, by task and domain; no policy is told the domain."""

_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_JUDGE = """{asked}

Here is the {kind} that was written:
{response}

Is the above {kind} good for a user who wants the following style: {style}? Please answer yes or no."""
_AGAIN = "Please answer with one word: yes or no."
_REVISE = """Here is the {kind}:
{response}

Assume that you prefer the following style: {style}. Please revise the above {kind} to meet your style. \
Answer with the revised {kind} and nothing else."""


@dataclass(frozen=True)
class LLMUser:
    """A user played by the model behind ``chat``.

    Parameters
    ----------
    weak
        Whether the user cares about a random subset of its style each time, never an empty one.
    cache
        Where answers are kept; without one, every call is a request.
    judging_tokens, revising_tokens
        The most tokens of an answer to the first and the second call. A model that thinks aloud needs more for both;
        better, switch thinking off on the server.
    """

    name: str
    chat: Chat
    weak: bool = False
    cache: AnswerCache | None = None
    judging_tokens: int = 16
    revising_tokens: int = 1000

    def edit(self, context: Context, response: str, *, t: int, rng: Generator | None) -> str:
        """Return the edited response; only a weak user needs ``rng``.

        Raises ``DataError`` when there is no style for the context's task and domain, ``ModelError`` when the server
        does not answer as it should, and ``ConfigError`` when it cannot be asked or the cache cannot be used.
        """
        style = ", ".join(self.choose(context, rng))
        if self._suits(context, response, style):
            return response
        prompt = _REVISE.format(kind=context.task, response=response, style=style)
        answer = self._ask([Message("user", prompt)], self.revising_tokens)
        return trim(read_revision(answer, response))

    def choose(self, context: Context, rng: Generator | None) -> tuple[str, ...]:
        """Return the style items that count this time; for a weak user all non-empty subsets are equally likely."""
        items = STYLES.get((context.task, context.domain))
        if items is None:
            known = ", ".join("/".join(key) for key in STYLES)
            raise DataError(
                f"user {self.name!r} edits {known}, not {context.task}/{context.domain} (context {context.id!r})"
            )
        if not self.weak:
            return items
        if rng is None:
            raise ValueError(f"user {self.name!r} is weak and draws its items: give rng, e.g. user_rng(seed, id)")
        subset = int(rng.integers(1, 2 ** len(items)))
        return tuple(item for i, item in enumerate(items) if subset >> i & 1)

    def _suits(self, context: Context, response: str, style: str) -> bool:
        asked = "\n\n".join(message.content for message in context.messages)
        prompt = _JUDGE.format(asked=asked, kind=context.task, response=response, style=style)
        messages = [Message("user", prompt)]
        answer = self._ask(messages, self.judging_tokens)
        verdict = read_verdict(answer)
        if verdict is None:
            messages += [Message("assistant", answer), Message("user", _AGAIN)]
            answer = self._ask(messages, self.judging_tokens)
            verdict = read_verdict(answer)
        if verdict is None:
            place, said = f"user {self.name!r}, context {context.id!r}", " ".join(answer.split())[:80]
            warnings.warn(f"{place}: answered neither yes nor no ({said!r}); counted as no", stacklevel=3)
        return verdict is True

    def _ask(self, messages: Sequence[Message], tokens: int) -> str:
        decoding = Decoding(tokens, temperature=0.0)

        def ask() -> str:
            with self.chat.connect() as server:
                return self._spoken(server(messages, decoding), tokens)

        return self.cache.answer(self.chat.model, messages, decoding, ask) if self.cache else ask()

    def _spoken(self, answer: str, tokens: int) -> str:
        """What is said after thinking aloud. Checked before an answer is kept: the remedy is not in the cache's key."""
        said = _THOUGHTS.sub("", answer)
        if said.lstrip().startswith("<think>"):
            raise ModelError(
                f"user {self.name!r}: model {self.chat.model!r} was still thinking after {tokens} tokens: "
                "switch thinking off on the server, or allow more"
            )
        return said


_MARKUP = re.compile(r"[*_`~#>]+")
_EITHER = re.compile(r"\b(?:yes\s*(?:/|\b(?:and|or)\b)\s*no|no\s*(?:/|\b(?:and|or)\b)\s*yes)\b")
# "no" before a noun ("no changes needed", "no bullets") judges nothing; before these words, or before none, it does.
_FIRST = re.compile(
    r"\W*(?:(yes)\b|(no)\b(?!-)(?=\s+(?:it|its|it's|this|that|the|i|i'm|because|but|not)\b|\s*[^\w\s]|\s*$))"
)
_ALONE = re.compile(r"(?<![\w'-])(yes|no)(?=\s*[^\w\s'-]|\s*$)", re.MULTILINE)


def read_verdict(answer: str) -> bool | None:
    """Read an answer to a yes-or-no question; ``None`` where it says neither, or both.

    The first word counts; else every "yes" and "no" that stands alone, where they agree.

    >>> [read_verdict(answer) for answer in ("**No**, but yes in parts", "I'd say yes.", "Not yesterday's eyes")]
    [False, True, None]
    """
    said = _EITHER.sub(" ", _MARKUP.sub("", answer).replace("’", "'").lower())
    first = _FIRST.match(said)
    verdicts = {first[1] or first[2]} if first else set(_ALONE.findall(said))
    return verdicts == {"yes"} if len(verdicts) == 1 else None


_NOUN = r"(?:email|e-mail|summary|text|message|version|draft|revision|rewrite)"
_MARKS = r"[*_#>\s]*"
_PREAMBLE = re.compile(
    rf"{_MARKS}(?:(?:sure|certainly|of course|absolutely|okay|ok)\b[^\n:]{{0,40}}?\W\s*)?(?:"
    rf"(?:here(?:['’]s| is)|below is|this is)\b[^\n:]{{0,80}}\b{_NOUN}\b[^\n:]{{0,80}}:[*_]*[ \t]*\n"
    rf"|(?:here(?:['’]s| is) (?:a|the|your) )?(?:revised|rewritten) {_NOUN}[*_]*:[*_]*)",
    re.IGNORECASE,
)
_LABEL = re.compile(rf"{_MARKS}{_NOUN}[*_]*:[*_]*[ \t]*\n", re.IGNORECASE)
_FENCE = re.compile(r"(```+)[^\n`]*\n(.*?)\n?\1", re.DOTALL)
_QUOTES = (('"""', '"""'), ('"', '"'), ("“", "”"), ("«", "»"))


def read_revision(answer: str, response: str) -> str:
    r"""Read a revised text out of an answer, without a preamble, a label, a code fence or quotes around the whole.

    What ``response``, the text that was to be revised, begins with itself is kept.

    >>> read_revision('Sure! Here is the revised email:\n\n"Hi Ann, see you."', "Hello Ann, see you.")
    'Hi Ann, see you.'
    """
    text, response = answer.strip(), response.strip()
    while (bare := _unwrapped(text, response)) != text:
        text = bare
    return text


def _unwrapped(text: str, response: str) -> str:
    """Take one layer off, if there is one."""
    for talk in (_PREAMBLE, _LABEL):
        if (found := talk.match(text)) and not talk.match(response):
            return text[found.end() :].strip()
    if (fenced := _FENCE.fullmatch(text)) and not response.startswith("```"):
        return fenced[2].strip()
    for opening, closing in _QUOTES:
        inner = text[len(opening) : -len(closing)]
        whole = len(text) >= len(opening + closing) and text == f"{opening}{inner}{closing}"
        if whole and not response.startswith(opening) and opening not in inner and closing not in inner:
            return inner.strip()
    return text
