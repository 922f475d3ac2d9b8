"""The cost of an edit, Δ(y, y'): what a person had to change, from the text the model wrote.

A cost is a raw count and, by default, that count divided by max(1, length of y) in the same units, as the paper
does: the quotient is unbounded above (an empty y that must become a page costs as many units as the page), and
only a ``-capped`` variant stops at 1. Raw Levenshtein distances are metrics on token sequences; the quotients are not.
Left out on purpose: anything that needs a model.

A cost sees what its tokens see. Texts that differ only in white space cost 0 under ``word`` and ``whitespace``, though
someone changed them; ``character`` counts every code point. What a word is, ``redraft.words`` says. ``typed`` leaves
out what software changed on the way (``redraft.transport``): logs and reports count that.
"""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from redraft import transport
from redraft.errors import ConfigError, DataError
from redraft.types import COST_UNIT
from redraft.words import nltk_words, words

__all__ = [
    "COSTS",
    "DEFAULT_COST",
    "Cost",
    "at_first",
    "get_cost",
    "levenshtein",
    "ngram_survival",
    "normalised",
    "subtoken_cost",
]

Tokenize = Callable[[str], Sequence[Hashable]]


@dataclass(frozen=True, slots=True)
class Cost:
    """A named Δ. Calling it gives the cost that is minimised; ``raw`` gives the count beside it.

    Parameters
    ----------
    name
        Its name in settings and logged rows.
    raw
        ``raw(response, edited)``: the count, ≥ 0, in units of the cost (words, characters, n-grams).
    length
        ``length(response)``: units in y, the divisor; ``None`` leaves the count undivided.
    cap
        Upper bound of the quotient.
    kinds
        What software does to a text, of ``redraft.transport.KINDS``, that is no edit.

    Examples
    --------
    >>> word = COSTS["word"]
    >>> word.raw("a b c", "a c d"), word("a b c d", "a c d")
    (2, 0.25)
    """

    name: str
    raw: Callable[[str, str], float]
    length: Callable[[str], int] | None = None
    cap: float = math.inf
    kinds: tuple[str, ...] = transport.KINDS

    def __call__(self, response: str, edited: str) -> float:
        """Δ(y, y') ≥ 0, and 0 when both are equal."""
        if response == edited:
            return 0.0
        return self.of_raw(self.raw(response, edited), response)

    def same(self, response: str, edited: str) -> bool:
        """Whether y' is y, but for what software did on the way."""
        return transport.same(response, edited, self.kinds)

    def typed(self, response: str, edited: str) -> float:
        """``raw`` of what a person did, without what software did on the way."""
        if self.same(response, edited):
            return 0.0
        return float(self.raw(*transport.alike(response, edited, self.kinds)))

    def priced(self, response: str, edited: str | None) -> tuple[float, int]:
        """``typed``, and the cost that belongs to it in 10⁻⁹ units; both 0 for ``None`` (accepted).

        Raises ``DataError`` when a user's own Δ gives no number ≥ 0.
        """
        raw = 0.0 if edited is None else self.typed(response, edited)
        if not (math.isfinite(raw) and raw >= 0):
            raise DataError(f"cost {self.name!r} gave {raw}: a cost is a finite number, at least 0")
        return raw, round(self.of_raw(raw, response) * COST_UNIT)

    def of_raw(self, raw: float, response: str) -> float:
        """The cost that belongs to a raw count on this response."""
        divisor = 1 if self.length is None else max(1, self.length(response))
        return min(self.cap, raw / divisor)


def levenshtein(tokenize: Tokenize) -> Callable[[str, str], int]:
    """Insertions, deletions and substitutions of tokens that turn y into y' (unit costs)."""

    def distance(response: str, edited: str) -> int:
        from rapidfuzz.distance import Levenshtein

        return Levenshtein.distance(tokenize(response), tokenize(edited))

    return distance


def ngram_survival(tokenize: Tokenize, n: int = 2) -> tuple[Callable[[str, str], int], Callable[[str], int]]:
    """N-grams of y that are gone from y', counted with multiplicity, and how many y has.

    Texts shorter than ``n`` count as one n-gram of their own length. Unlike an edit distance this ignores what was
    added and where things moved: it asks how much of the draft was useful. An empty y has nothing to lose.
    """
    if n < 1:
        raise ConfigError(f"n = {n}: n-grams need at least one token")

    def grams(text: str) -> Counter[tuple[Hashable, ...]]:
        tokens = tokenize(text)
        return _windows(tokens, {min(n, len(tokens))} - {0})

    def lost(response: str, edited: str) -> int:
        before = grams(response)
        shared = before & _windows(tokenize(edited), {len(gram) for gram in before})
        return before.total() - shared.total()

    return lost, lambda response: grams(response).total()


def _windows(tokens: Sequence[Hashable], sizes: set[int]) -> Counter[tuple[Hashable, ...]]:
    return Counter(tuple(tokens[i : i + size]) for size in sizes for i in range(len(tokens) - size + 1))


def _family(name: str, tokenize: Tokenize) -> dict[str, Cost]:
    divided = Cost(name, levenshtein(tokenize), lambda response: len(tokenize(response)))
    return {
        name: divided,
        f"{name}-capped": replace(divided, name=f"{name}-capped", cap=1.0),
        f"{name}-raw": replace(divided, name=f"{name}-raw", length=None),
    }


COSTS: dict[str, Cost] = {
    **_family("word", words),
    **_family("whitespace", str.split),
    **_family("character", str),
    "survival": Cost("survival", *ngram_survival(words)),
}
DEFAULT_COST = "word"
_FIRST = {**_family("word", nltk_words), "survival": Cost("survival", *ngram_survival(nltk_words))}


def at_first(cost: Cost) -> Cost:
    """What a cost of this name was before scripts without blanks and transport were seen: old logs have its numbers."""
    return replace(_FIRST.get(cost.name, cost), kinds=())


def normalised(cost: Cost, kinds: Collection[str]) -> Cost:
    """The cost that looks past these kinds of transport; its name tells them, unless they are the default.

    >>> normalised(COSTS["word"], ["line ends"]).name, normalised(COSTS["word"], transport.KINDS).name
    ('word without line ends', 'word')
    """
    wanted = tuple(kind for kind in (*transport.KINDS, transport.SPACING) if kind in kinds)
    if wanted == cost.kinds:
        return cost
    return replace(cost, name=f"{cost.name} without {', '.join(wanted) or 'nothing'}", kinds=wanted)


def subtoken_cost(tokenizer_file: Path) -> Cost:
    """Levenshtein over a model's own sub-tokens, divided by their number, from a ``tokenizer.json``.

    Raises ``ConfigError`` when the file is missing or unreadable, or the ``tokenizers`` package is absent.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ConfigError("cost 'subtoken' needs the tokenizers package: pip install 'redraft[train]'") from error
    try:
        tokenizer = Tokenizer.from_file(str(tokenizer_file.expanduser()))
    except Exception as error:  # the binding raises bare Exception for every cause
        raise ConfigError(f"cost 'subtoken': cannot read {tokenizer_file} as a tokenizer.json ({error})") from error
    tokenizer.no_truncation()  # some files carry the settings of training, which would cut or pad what is compared
    tokenizer.no_padding()

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    return Cost(f"subtoken:{tokenizer_file}", levenshtein(encode), lambda response: len(encode(response)))


def get_cost(name: str | Callable[[str, str], float] | Cost) -> Cost:
    """The cost of that name: one of ``COSTS``, ``subtoken:FILE``, ``module:function``, or a callable as it is.

    Raises ``ConfigError`` with the known names when there is none.
    """
    if isinstance(name, Cost):
        return name
    if callable(name):
        return _custom_cost(getattr(name, "__name__", "custom"), name)
    if name in COSTS:
        return COSTS[name]
    kind, _, rest = name.partition(":")
    if kind == "subtoken" and rest:
        return subtoken_cost(Path(rest))
    if rest:
        return _imported_cost(name, kind, rest)
    known = ", ".join(COSTS)
    raise ConfigError(f"cost {name!r} is unknown: use one of {known}, subtoken:FILE or module:function")


def _imported_cost(name: str, module: str, attribute: str) -> Cost:
    try:
        function = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # someone else's module can fail in any way
        raise ConfigError(
            f"cost {name!r} cannot be imported ({error}): give module:function, installed or on PYTHONPATH"
        ) from error
    if isinstance(function, Cost):
        return function
    if not callable(function):
        raise ConfigError(f"cost {name!r} is not callable: it must take (response, edited) and return a number")
    return _custom_cost(name, cast(Callable[[str, str], float], function))


def _custom_cost(name: str, function: Callable[[str, str], float]) -> Cost:
    def checked(response: str, edited: str) -> float:
        cost = float(function(response, edited))
        if not 0 <= cost < math.inf:
            raise DataError(f"cost {name!r} returned {cost}: it must return a finite number ≥ 0")
        return cost

    return Cost(name, checked)
