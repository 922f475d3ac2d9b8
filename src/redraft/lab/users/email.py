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
from redraft.lab.users.rules import Item
from redraft.lab.users.wording import SHORT_FORMS, STUFFY
from redraft.types import Context

__all__ = ["EMAIL_DOMAINS", "OTHER", "USUAL", "Phrases", "email_items"]

EMAIL_DOMAINS = ("office", "abstract", "paper", "dialogue")


@dataclass(frozen=True, slots=True)
class Phrases:
    """The very words in which a user carries out a preference; two users may share it and differ in these."""

    colleague: str
    team: str
    friend: str
    client: str
    request: str
    trouble: str
    news: str
    respectful: str
    thankful: str
    mark: str

    def closing(self, tone: str) -> str:
        """What closes a letter of this tone."""
        return {"request": self.request, "trouble": self.trouble, "news": self.news}[tone]


USUAL = Phrases(
    colleague="Hi {},",
    team="Hi all,",
    friend="Hey {}!",
    client="Dear {},",
    request="Thanks,",
    trouble="Sorry for the trouble,",
    news="Best,",
    respectful="Kind regards,",
    thankful="Many thanks,",
    mark="-",
)
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


def _zones(change: Change) -> Callable[[Context, str], str]:
    """Make a text operation of a change to zones; a text that needs none stays as it is, blank space and all."""

    def apply(context: Context, text: str) -> str:
        letter = Letter.read(text)
        changed = change(context, letter)
        return text if changed == letter else str(changed)

    return apply


def _body(name: str, change: Callable[[str], str]) -> Item:
    return Item(name, _zones(lambda _, letter: replace(letter, body=change(letter.body))))


def _facts(context: Context, letter: Letter) -> Letter:
    drafted = sentences(letter.body)
    right = put_right(Notes.of(context), drafted)
    return letter if right == drafted else replace(letter, body="\n".join(right))


def _points(context: Context, letter: Letter) -> Letter:
    drafted = sentences(letter.body)
    right = keep_points(Points.of(context), drafted, is_frame)
    return letter if right == drafted else replace(letter, body="\n".join(right))


def _greeting(phrases: Phrases, plain: str) -> Item:
    def change(context: Context, letter: Letter) -> Letter:
        recipient = Notes.of(context).recipient
        kind = phrases.client if recipient.startswith(_TITLES) else plain
        return replace(letter, greeting=phrases.team if recipient.startswith("the ") else kind.format(recipient))

    return Item("greeting", _zones(change))


def _closing(closing: Callable[[Notes], str]) -> Item:
    def change(context: Context, letter: Letter) -> Letter:
        notes = Notes.of(context)
        signature = notes.sender if notes.recipient.startswith(_TITLES) else notes.sender.split()[0]
        return replace(letter, closing=f"{closing(notes)}\n{signature}")

    return Item("closing", _zones(change))


def email_items(phrases: Phrases = USUAL) -> Mapping[str, tuple[Item, ...]]:
    """Return the preference of each domain, in these phrases."""
    points = Item("points", _zones(_points), optional=False)
    no_subject = Item("no subject", _zones(lambda _, letter: replace(letter, subject="")))
    listed = _body("bullets", lambda body: bullets(body, phrases.mark))
    prose = _body("paragraph", paragraph)
    greeting = _greeting(phrases, phrases.colleague)
    return {
        "office": (
            _body("plain words", STUFFY.apply),
            Item("facts", _zones(_facts), optional=False),
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
            Item("no closing", _zones(lambda _, letter: replace(letter, closing=""))),
        ),
    }
