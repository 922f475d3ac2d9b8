"""Occasions for a work email, written by us: what the notes say, and how their writer would put it.

A line is (note, sentence). A slot stands in one line of an occasion only, so that a sentence tells which line it
states; a digit tells two slots of a kind apart. The first line opens every email on that occasion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from redraft.lab.users.notes import Kind, Tone

__all__ = ["KINDS", "OCCASIONS", "PEOPLE", "RECIPIENTS", "VALUES", "Address", "Occasion"]

Address = Literal["colleague", "team", "client"]


@dataclass(frozen=True, slots=True)
class Occasion:
    """A kind of email: its tone, whom it may go to, and its lines in order."""

    tone: Tone
    addresses: tuple[Address, ...]
    lines: tuple[tuple[str, str], ...]


PEOPLE = (
    *("Anna Weber", "Ben Okafor", "Carla Rossi", "David Lind", "Elena Petrov", "Farid Haddad", "Grace Obi"),
    *("Hugo Martin", "Ines Costa", "Jonas Berg", "Karen Doyle", "Leo Tanaka", "Maria Lopez", "Noah Fischer"),
    *("Olga Novak", "Paul Jensen", "Rosa Silva", "Sam Patel", "Tara Quinn", "Victor Hall"),
)

RECIPIENTS: Mapping[Address, tuple[str, ...]] = {
    "colleague": tuple(name.split()[0] for name in PEOPLE),
    "team": ("the sales team", "the design team", "the support team", "the night shift", "the project team"),
    "client": ("Ms Keller", "Mr Brandt", "Ms Dubois", "Mr Santos", "Ms Ito", "Mr Conti", "Ms Larsson", "Mr Rao"),
}

VALUES: Mapping[str, Sequence[str | int]] = {
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday"),
    "time": ("8 am", "9 am", "9:30 am", "10 am", "11 am", "1 pm", "2 pm", "3 pm", "4 pm", "5 pm"),
    "date": tuple(f"{day} {month}" for month in ("March", "April", "June", "October") for day in range(2, 29)),
    "count": range(2, 25),
    "room": range(101, 420),
    "amount": range(300, 9600, 50),
    "number": range(1001, 9999),
    "person": ("Priya", "Marco", "Yusuf", "Lena", "Oskar", "Nadia", "Felix", "Mei", "Ivan", "Clara", "Tomas", "Aisha"),
    "city": ("Lyon", "Porto", "Ghent", "Turin", "Oslo", "Graz", "Leeds", "Malmo", "Basel", "Krakow"),
    "hotel": ("Astoria", "Bellevue", "Central", "Regent", "Savoy", "Corona"),
    "company": ("Nordwind", "Calder", "Brightline", "Ferrum", "Ostara", "Meridian", "Halden", "Solvix"),
    "meeting": ("budget meeting", "sales meeting", "design review", "planning meeting", "team lunch", "board call"),
    "report": ("sales report", "travel report", "safety report", "quarterly report", "audit report", "cost report"),
    "goods": ("chairs", "laptops", "monitors", "brochures", "printers", "lamps", "headsets", "desks"),
    "system": ("mail server", "file server", "payroll system", "intranet", "phone system", "booking system"),
    "topic": ("data safety", "first aid", "spreadsheets", "negotiation", "presentations", "time planning"),
    "subject": ("the canteen", "parking", "remote work", "the new website", "shift hours", "the newsletter"),
    "project": ("website project", "catalogue project", "warehouse project", "payments project", "hiring project"),
    "paper": ("agenda", "slides", "contract", "price list", "floor plan", "minutes"),
    "place": ("lobby", "canteen", "library", "garden", "workshop", "reception"),
    "budget": ("marketing budget", "training budget", "travel budget", "repair budget", "event budget"),
}

KINDS: Mapping[str, Kind] = {
    **{"day": "day", "time": "time", "date": "date"},
    **dict.fromkeys(("count", "room", "amount", "number"), "number"),
    **dict.fromkeys(("person", "city", "hotel", "company"), "name"),
}  # every other slot is a word


def _occasions(text: str) -> dict[str, Occasion]:
    """Read occasions off a page: a line ``name | tone | addresses``, below it its lines as ``note | sentence``."""
    found: dict[str, Occasion] = {}
    for block in text.strip().split("\n\n"):
        (name, tone, addresses), *lines = ([part.strip() for part in line.split("|")] for line in block.splitlines())
        pairs = tuple((note, sentence) for note, sentence in lines)
        found[name] = Occasion(cast("Tone", tone), cast("tuple[Address, ...]", tuple(addresses.split())), pairs)
    return found


OCCASIONS: Mapping[str, Occasion] = _occasions("""
meeting moved | news | colleague team
  {meeting} moved to {day} | The {meeting} is moved to {day}.
  new time {time} | It starts at {time}.
  room {room} | We meet in room {room}.
  {paper} to follow from {person} | {person} will send the {paper}.

meeting cancelled | trouble | colleague team client
  {meeting} on {day} cancelled | The {meeting} on {day} is cancelled.
  {person} is ill | {person} is ill.
  next try on {date} | We will try again on {date}.
  {paper} comes by post | The {paper} will come by post.

report due | request | colleague team
  {report} needed by {day} | Please send the {report} by {day}.
  at most {count} pages | It may have {count} pages at most.
  copy to {person} | Please copy {person}.
  add the {paper} | Please add the {paper}.

report late | trouble | colleague client
  {report} late, ready on {day} | The {report} will only be ready on {day}.
  figures from {city} missing | The figures from {city} are missing.
  {count} pages done | I have {count} pages so far.
  {person} is helping | {person} is helping me.

delivery delayed | trouble | client
  delivery of {goods} delayed to {date} | The {goods} are delayed to {date}.
  order number {number} | It is order number {number}.
  {count} boxes come earlier | {count} boxes come earlier.
  driver calls at {time} | The driver calls at {time}.

invoice question | request | client
  invoice {number} unclear | I have a question on invoice {number}.
  it says {amount} euros | It says {amount} euros.
  we ordered {count} {goods} | We ordered {count} {goods}.
  answer needed by {day} | Please answer by {day}.

room change | news | colleague team
  {meeting} now in room {room} | The {meeting} is now in room {room}.
  still on {day} | It is still on {day}.
  seats for {count} | There are seats for {count} people.
  key from {person} | {person} has the key.

new colleague | news | team colleague
  {person} joins us on {day} | {person} will join us on {day}.
  works on the {project} | The work is on the {project}.
  comes from {city} | The last job was in {city}.
  welcome coffee at {time} | There is a welcome coffee at {time}.

travel plan | news | colleague client
  trip to {city} on {date} | We travel to {city} on {date}.
  train at {time} | The train leaves at {time}.
  hotel {hotel} | We stay at the {hotel} hotel.
  {person} has the tickets | {person} has the tickets.

training | news | team colleague
  training on {topic}, {day} | There is a training on {topic} on {day}.
  trainer {person} | {person} is the trainer.
  starts {time} | It starts at {time}.
  {count} places left | There are {count} places left.

server maintenance | trouble | team colleague
  {system} down on {day} | The {system} will be down on {day}.
  from {time} | It begins at {time}.
  lasts {count} hours | It lasts {count} hours.
  questions to {person} | {person} can answer questions.

budget | request | colleague team
  {budget} must be checked | Please check the {budget}.
  total {amount} euros | The total is {amount} euros.
  {city} wants more | {city} wants more.
  reply by {date} | Please reply by {date}.

survey | request | team colleague
  survey about {subject} | Please fill in the survey about {subject}.
  takes {count} minutes | It takes {count} minutes.
  closes on {date} | It closes on {date}.
  results go to {person} | {person} will get the results.

visit | news | colleague team
  visit from {company} on {date} | {company} will visit us on {date}.
  {count} guests | There will be {count} guests.
  tour at {time} | The tour is at {time}.
  lunch in the {place} | Lunch is in the {place}.

supplies | request | client colleague
  need {count} {goods} | We need {count} {goods}.
  for the {place} | They are for the {place}.
  wanted by {date} | Please deliver them by {date}.
  limit {amount} euros | The limit is {amount} euros.

repair | trouble | team colleague
  {place} closed on {day} | The {place} is closed on {day}.
  repair takes {count} days | The repair takes {count} days.
  use room {room} instead | Please use room {room} instead.
  {company} does the work | {company} does the work.
""")
