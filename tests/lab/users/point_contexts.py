"""Contexts with key points, one or two a domain, written by us; and texts around them for the users to edit."""

from __future__ import annotations

from email_drafts import mixed_texts
from hypothesis import strategies as st

from redraft.lab.bench.sources import Material
from redraft.lab.users.email import OTHER as OTHER_EMAIL
from redraft.lab.users.email import email_items
from redraft.lab.users.notes import Notes
from redraft.lab.users.rules import Item
from redraft.lab.users.summary import OTHER as OTHER_SUMMARY
from redraft.lab.users.summary import summary_items
from redraft.types import Context, Message

__all__ = ["EMAIL", "PREFERENCES", "SUMMARY", "situations"]

_BEES = Material(
    "Bees live in hives of up to 60,000 workers. They find flowers by scent. A dance tells the others how far to fly. "
    "In winter they keep the queen warm.",
    ("Bees live in hives of up to 60,000 workers.", "They find flowers by scent."),
)
_BRIDGE = Material(
    "The old bridge in Trier was closed on 3 May after a crack was found. Mayor Anna Kohl said repairs may take two "
    "years. Drivers now lose 20 minutes a day.",
    ("The old bridge in Trier was closed on 3 May after a crack was found.",),
)
_FILM = Material(
    "A clockmaker finds a door into last Tuesday. The first hour is slow. I left the cinema smiling.",
    ("A clockmaker finds a door into last Tuesday.",),
    {"recommended": True},
)
_TALK = Material(
    "Doctor: How is your asthma?\nPatient: Better, I use the inhaler twice a day.\nDoctor: Any other problems?\n"
    "Patient: No.",
    ("His asthma is better.", "He uses the inhaler twice a day.", "There isn't any other problem."),
)
SUMMARY = [
    Context(f"summary-{domain}-{number}", (Message("user", material.text),), "summary", domain, material.facts)
    for domain, materials in {
        "news": (_BRIDGE, _BEES),
        "wikipedia": (_BEES, _BRIDGE),
        "abstract": (_BEES, _BRIDGE),
        "film": (_FILM,),
    }.items()
    for number, material in enumerate(materials)
]
EMAIL = [
    Context(
        f"email-{domain}-{number}",
        (Message("user", material.text),),
        "email",
        domain,
        {**Notes("Ben Okafor", recipient, "news", ()).as_facts(), **material.facts},
    )
    for domain, materials, recipient in (
        ("abstract", (_BEES, _BRIDGE), "Professor Okoye"),
        ("paper", (_BRIDGE,), "Ines"),
        ("dialogue", (_TALK, _BEES), "Leo"),
    )
    for number, material in enumerate(materials)
]
PREFERENCES = {
    "email": (email_items(), email_items(OTHER_EMAIL)),
    "summary": (summary_items(), summary_items(OTHER_SUMMARY)),
}

_FRAMES = (
    *(
        "Story time!",
        "What would you do?",
        "Did you know?",
        "And there is more to come! 🔬",
        "🔬",
        "Q: What is it about?",
    ),
    *(
        "A: ",
        "Yes.",
        "No.",
        "Here is a summary:",
        "Is it worth seeing?",
        "A: Q: ",
        "(in short)",
        "((a) b)",
        "* ",
        "1. ",
    ),
    *(
        "Hey Leo!",
        "Many thanks,",
        "Kind regards,\nBen",
        "Dear Professor Okoye,",
        "utilize",
        "a variety of",
        "do not",
        "!",
    ),
    *("Listen, children!", "Can you believe it?", "Wait until you see the rest! 🚀", "Should I watch it?", "However,"),
)


def _texts(context: Context, preference: tuple[Item, ...]) -> st.SearchStrategy[str]:
    source, points = context.facts["source"], context.facts["points"]
    lines = [*points, *source.replace("\n", " ").split(". "), *(p.rstrip(".") for p in points), *_FRAMES]
    edited = source
    for item in preference:
        edited = item.apply(context, edited)
    return mixed_texts([*lines, *(p.lower() for p in points), edited])


_ABOUT = [
    (context, preference[context.domain], _texts(context, preference[context.domain]))
    for context in [*SUMMARY, *EMAIL]
    for preference in PREFERENCES[context.task]
]


@st.composite
def situations(draw: st.DrawFn) -> tuple[Context, str, tuple[Item, ...]]:
    """A context, a text to edit, and what one of its users, strong or weak, minds this time."""
    context, preference, texts = draw(st.sampled_from(_ABOUT))
    chosen = draw(st.lists(st.booleans(), min_size=len(preference), max_size=len(preference)))
    items = tuple(item for item, kept in zip(preference, chosen, strict=True) if kept or not item.optional)
    return context, draw(texts), items
