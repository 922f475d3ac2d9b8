"""The email user: content first, then style; one preference for each kind of notes, after PRELUDE's (arXiv 2404.15269).

| notes | preference | items |
|---|---|---|
| office | structured, to the point | plain words, facts, bullets, no subject, greeting, closing |
| abstract | structured, respectful, professional frame | points, bullets, no subject, greeting, closing |
| paper | engaging, personal, thankful closing | points, paragraph, exclaiming, no subject, greeting, closing |
| dialogue | informal, conversational, no closing | short forms, points, paragraph, no subject, greeting, no closing |

What greeting and closing should be can be seen in the notes: a title asks for "Dear" and a full signature, a team for
"all", trouble for an apology, a request for thanks. Content (facts, points) is never optional.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from redraft.lab.users.content import put_right
from redraft.lab.users.letter import Letter, bullets, exclaiming, is_frame, paragraph, sentences
from redraft.lab.users.notes import Notes
from redraft.lab.users.points import Points, keep_points
from redraft.lab.users.rules import Item, by_zones
from redraft.lab.users.wording import SHORT_FORMS, STUFFY
from redraft.types import Context

__all__ = ["EMAIL_DOMAINS", "OTHER", "USUAL", "Phrases", "email_items"]

EMAIL_DOMAINS = ("office", "abstract", "paper", "dialogue")


@dataclass(frozen=True, slots=True)
class Phrases:
    """The very words in which a user carries out a preference; two users may share it and differ in these."""

    colleague: str = "Hi {},"
    team: str = "Hi all,"
    friend: str = "Hey {}!"
    client: str = "Dear {},"
    request: str = "Thanks,"
    trouble: str = "Sorry for the trouble,"
    news: str = "Best,"
    respectful: str = "Kind regards,"
    thankful: str = "Many thanks,"
    mark: str = "-"

    def closing(self, tone: str) -> str:
        """What closes a letter of this tone."""
        return {"request": self.request, "trouble": self.trouble, "news": self.news}[tone]


USUAL = Phrases()
OTHER = Phrases(
    colleague="Hello {},",
    team="Hello everyone,",
    friend="Hi {}!",
    client="Good morning {},",
    request="Thank you,",
    trouble="Sorry for the trouble,",
    news="Cheers,",
    respectful="Respectfully,",
    thankful="Thanks so much,",
    mark="*",
)
_TITLES = ("Mr ", "Ms ", "Professor ")

Change = Callable[[Context, Letter], Letter]


def _item(name: str, change: Change) -> Item:
    return Item(name, by_zones(Letter.read, change))


def _body(name: str, change: Callable[[str], str]) -> Item:
    return _item(name, lambda _, letter: replace(letter, body=change(letter.body)))


def _content(name: str, keep: Callable[[Context, list[str]], list[str]]) -> Item:
    def change(context: Context, letter: Letter) -> Letter:
        drafted = sentences(letter.body)
        right = keep(context, drafted)
        return letter if right == drafted else replace(letter, body="\n".join(right))

    return Item(name, by_zones(Letter.read, change), optional=False)


def _greeting(phrases: Phrases, plain: str) -> Item:
    def change(context: Context, letter: Letter) -> Letter:
        recipient = Notes.of(context).recipient
        kind = phrases.client if recipient.startswith(_TITLES) else plain
        return replace(letter, greeting=phrases.team if recipient.startswith("the ") else kind.format(recipient))

    return _item("greeting", change)


def _closing(closing: Callable[[Notes], str]) -> Item:
    def change(context: Context, letter: Letter) -> Letter:
        notes = Notes.of(context)
        signature = notes.sender if notes.recipient.startswith(_TITLES) else notes.sender.split()[0]
        return replace(letter, closing=f"{closing(notes)}\n{signature}")

    return _item("closing", change)


def email_items(phrases: Phrases = USUAL) -> Mapping[str, tuple[Item, ...]]:
    """Return the preference of each domain, in these phrases."""
    points = _content("points", lambda context, drafted: keep_points(Points.of(context), drafted, is_frame))
    no_subject = _item("no subject", lambda _, letter: replace(letter, subject=""))
    listed = _body("bullets", lambda body: bullets(body, phrases.mark))
    prose = _body("paragraph", paragraph)
    greeting = _greeting(phrases, phrases.colleague)
    return {
        "office": (
            _body("plain words", STUFFY.apply),
            _content("facts", lambda context, drafted: put_right(Notes.of(context), drafted)),
            listed,
            no_subject,
            greeting,
            _closing(lambda notes: phrases.closing(notes.tone)),
        ),
        "abstract": (points, listed, no_subject, greeting, _closing(lambda _: phrases.respectful)),
        "paper": (
            points,
            prose,
            _body("exclaiming", exclaiming),
            no_subject,
            greeting,
            _closing(lambda _: phrases.thankful),
        ),
        "dialogue": (
            _body("short forms", SHORT_FORMS.apply),
            points,
            prose,
            no_subject,
            _greeting(phrases, phrases.friend),
            _item("no closing", lambda _, letter: replace(letter, closing="")),
        ),
    }
