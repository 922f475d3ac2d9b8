"""Texts a user may meet: drafts as a small model writes them, and anything else."""

from __future__ import annotations

from hypothesis import strategies as st

from redraft.lab.bench.office import office_contexts
from redraft.lab.users import user_rng
from redraft.lab.users.catalogue import get_user
from redraft.lab.users.notes import Fact, Notes, Slot
from redraft.lab.users.wording import STUFFY
from redraft.types import Context, Message

CONTEXTS = office_contexts(48, seed=5)
NOTES = Notes(
    "Anna Weber",
    "Tom",
    "news",
    (
        Fact("budget meeting moved to Thursday", "The budget meeting is moved to Thursday.", (
            Slot("word", "budget meeting"), Slot("day", "Thursday"))),
        Fact("new time 3 pm", "It starts at 3 pm.", (Slot("time", "3 pm"),)),
        Fact("room 204", "We meet in room 204.", (Slot("number", "204"),)),
    ),
)  # fmt: skip
CONTEXT = Context("email-0-0001", (Message("user", "Write."),), "email", "office", facts=NOTES.as_facts())
RIGHT = """Hi Tom,

- The budget meeting is moved to Thursday.
- It starts at 3 pm.
- We meet in room 204.

Best,
Anna"""

# What SmolLM2-135M-Instruct writes on such notes: a subject or a stock phrase, rambling, cut at 64 tokens.
DRAFTS = (
    "Subject: Budget Meeting Update\n\nDear [Recipient],\n\nI hope this email finds you well. I am writing to inform "
    "you that the budget meeting has been moved to Thursday. I understand that this may be an inconvenience, but I "
    "believe that it is important that we all",
    "Dear Tom,\n\nI hope this message finds you well. I wanted to reach out to you regarding the upcoming budget "
    "meeting. As you know, we have been working on a number of projects and I would like to discuss the progress of "
    "each of them with you in room 204",
    "Subject: Meeting\n\nHi Tom,\n\nI hope you're doing well. The budget meeting is on Friday at 2 pm in room 310. "
    "Please let me know if you have any questions or concerns. I look forward to seeing you there.\n\nBest regards,\n"
    "[Your Name]",
    "Dear Anna,\n\nI am excited to share with you the results of our recent survey. Our team has worked hard to bring "
    "you this information, and we are confident that it will help you to make better decisions in the future. The",
    "Subject: Budget meeting moved to Thursday\n\nDear Tom,\n\nI'm writing to inform you that the budget meeting has "
    "been moved to Thursday. The new time is 3 pm. We will meet in room 204 instead of the usual place, so please",
    "I hope this email finds you well. I'm writing to you today regarding a recent update on the budget. I'm writing "
    "to you because I'm currently working on a project that involves a new budget. I'm sure you're aware of the",
    "Dear Hiring Manager,\n\nI am writing to express my interest in the position of Budget Meeting Coordinator. With "
    "my experience and skills, I am confident that I would be an asset to your team and your company in many ways",
    "Subject: Reminder: Budget Meeting\n\nDear Team,\n\nThis is a reminder that our budget meeting is scheduled for "
    "Thursday, March 12th at 3:00 PM in room 204. Please bring your laptop and any other materials that you may need",
    "Once upon a time in Paris, where two underrated musicians worked hard to make their dreams come true, Lince and "
    "Jonny stepped into the realm of talent: an elusive ballad, but among the brightest of the sounds it is quite",
    "Hello Tom,\n\nHope you're well. Just a quick note about the meeting: it's on Thursday, and the time is new too. I "
    "will be there with the figures of last year and look forward to your thoughts on them. Also, please remember to",
)

_OWN = [fact["sentence"] for context in CONTEXTS for fact in context.facts["facts"]]
_PARTS = (
    *("Hi Tom,", "Dear [Name],", "Dear Mr. Smith, the team", "hello", "Subject: News", "**Subject:** Re: it", "re:"),
    *(
        "Best,",
        "Best regards, Anna",
        "Thanks",
        "thank you!",
        "Sorry for the trouble,",
        "Anna",
        "Yours truly,",
        "Cheers",
    ),
    *(
        "I hope you are well.",
        "Please let me know.",
        "p.m. we",
        "Ms. It",
        "- ",
        "* - ",
        "1. ",
        "12) ",
        "•",
        "...",
        "?!",
    ),
    *(
        "We meet on Friday at 5 p.m.",
        "The time is 15:30.",
        "room 999",
        "on 3rd of May",
        "€1,200.50",
        "friday",
        "MONDAY",
    ),
    *(
        "The new time is",
        "in room",
        "budget meeting",
        "not",
        "Thursday",
        "3:00 PM",
        "204",
        "I am writing",
        "that",
        "to",
    ),
    *("😀🎉", "שלום עולם", "مرحبا، الاجتماع يوم الخميس.", "ſ", "İ", "ß", "\u2028", "\x1f", "\x85", "\x00", "\t"),
)
_SEPARATORS = ("", " ", "  ", "\n", "\n\n", ". ", ", ", " - ", "\n- ", "\r\n", "! ")
_piece = st.one_of(
    st.sampled_from(_PARTS),
    st.sampled_from(_OWN),
    st.sampled_from(sorted(STUFFY.plain)),
    st.sampled_from(DRAFTS),
    st.sampled_from([get_user("office", "strong").edit(c, "", t=1, rng=user_rng(0, c.id)) for c in CONTEXTS]),
    st.text(max_size=12),
)


def texts_about(context: Context) -> st.SearchStrategy[str]:
    """Mixtures of this context's own lines, whole or with other values, of other emails, and of anything at all."""
    own = [text for fact in context.facts["facts"] for text in (fact["sentence"], fact["note"])]
    values = [slot["value"] for fact in context.facts["facts"] for slot in fact["slots"]]
    other = st.sampled_from([*_PARTS, *values, "Friday", "7 pm", "4321", "2 May", "Nordwind"])
    changed = st.builds(str.replace, st.sampled_from(own), st.sampled_from(values), other)
    return mixed_texts([*own, *values], changed)


def mixed_texts(own: list[str], *others: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Mixtures of lines of a context's own, of the drafts' pieces, and of anything at all."""
    pieces = st.lists(st.one_of(_piece, st.sampled_from(own), *others), max_size=9)
    return st.builds(_mixed, pieces, st.lists(st.sampled_from(_SEPARATORS), min_size=9, max_size=9))


def _mixed(pieces: list[str], separators: list[str]) -> str:
    return "".join(map("".join, zip(pieces, separators, strict=False)))


_ABOUT = [(context, texts_about(context)) for context in (CONTEXT, *CONTEXTS)]  # made once: making one takes long


@st.composite
def situations(draw: st.DrawFn) -> tuple[Context, str]:
    """A context and a text to edit."""
    context, texts = draw(st.sampled_from(_ABOUT))
    return context, draw(texts)
