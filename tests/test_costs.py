from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft import costs
from redraft.costs import COSTS, Cost, get_cost, levenshtein, ngram_survival, subtoken_cost
from redraft.errors import ConfigError, DataError

# Few letters, so that tokens meet again; combining, right-to-left and astral characters, quotes and line ends.
TEXT = st.text(alphabet='abc  .,"\n\u0301\u05d0\u0627\u200f😀', max_size=25)
unhurried = settings(deadline=None)  # the first call imports NLTK
LEVENSHTEIN = ["word", "whitespace", "character"]


def brute_force(a: Sequence[object], b: Sequence[object]) -> int:
    """Levenshtein by the textbook table."""
    table = [[i + j for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i, j in product(range(1, len(a) + 1), range(1, len(b) + 1)):
        replaced = table[i - 1][j - 1] + (a[i - 1] != b[j - 1])
        table[i][j] = min(replaced, table[i - 1][j] + 1, table[i][j - 1] + 1)
    return table[-1][-1]


def words(text: str) -> list[str]:
    from nltk.tokenize import word_tokenize

    return word_tokenize(text, preserve_line=True)


TOKENS: dict[str, Callable[[str], Sequence[object]]] = {"word": words, "whitespace": str.split, "character": list}


def broken(response: str, edited: str) -> float:
    return math.nan if edited else -1.0


NOT_A_FUNCTION = 3
EXAMPLE = COSTS["word"]


@pytest.mark.parametrize("name", COSTS)
def test_names_are_the_keys(name: str) -> None:
    assert get_cost(name) is COSTS[name]
    assert COSTS[name].name == name


@pytest.mark.parametrize("name", LEVENSHTEIN)
@unhurried
@given(x=TEXT, y=TEXT, z=TEXT)
def test_raw_levenshtein_is_a_metric_on_tokens(name: str, x: str, y: str, z: str) -> None:
    raw, tokens = COSTS[name].raw, TOKENS[name]
    assert (raw(x, y) == 0) == (list(tokens(x)) == list(tokens(y)))
    assert raw(x, y) == raw(y, x)
    assert raw(x, z) <= raw(x, y) + raw(y, z)


@pytest.mark.parametrize("name", LEVENSHTEIN)
@unhurried
@given(x=TEXT, y=TEXT)
def test_levenshtein_equals_the_textbook(name: str, x: str, y: str) -> None:
    raw = brute_force(TOKENS[name](x), TOKENS[name](y))
    assert COSTS[name].raw(x, y) == COSTS[f"{name}-raw"](x, y) == raw
    assert COSTS[name](x, y) == raw / max(1, len(TOKENS[name](x)))


@pytest.mark.parametrize("name", COSTS)
@unhurried
@given(x=TEXT, y=TEXT)
def test_every_cost_is_finite_and_0_on_equal_texts(name: str, x: str, y: str) -> None:
    cost = COSTS[name]
    assert cost(x, x) == 0
    assert 0 <= cost(x, y) < math.inf
    if name == "survival" or name.endswith("-capped"):
        assert cost(x, y) <= 1


@pytest.mark.parametrize(
    ("name", "response", "edited", "raw", "cost"),
    [
        ("word", "The cat sat.", "The cat sat.", 0, 0),
        ("word", "The cat sat.", "A cat sat down.", 2, 2 / 4),
        ("word", "It's fine", "It is fine", 1, 1 / 3),  # It 's fine
        ("whitespace", "It's fine", "It is fine", 2, 1),
        ("character", "kitten", "sitting", 3, 3 / 6),
        ("character", "אב", "אג", 1, 1 / 2),
        ("character", "👍🏽", "👍", 1, 1 / 2),  # a skin tone is a code point
        ("word", "ok 😀", "ok 😢", 1, 1 / 2),
        ("word", "", "", 0, 0),
        ("word", "", "three new words", 3, 3),
        ("word-capped", "", "three new words", 3, 1),
        ("word-raw", "one", "three new words", 3, 3),
        ("word", "all gone now", "", 3, 1),
        ("word", "a b", "c d e f", 4, 2),
        ("word-capped", "a b", "c d e f", 4, 1),
        ("survival", "a b c d", "a b c d e f", 0, 0),  # additions take nothing away
        ("survival", "a b c d", "c d a b", 1, 1 / 3),  # only "b c" is gone
        ("survival", "a a a", "a a", 1, 1 / 2),  # with multiplicity
        ("survival", "a", "b a", 0, 0),
        ("survival", "a b", "a", 1, 1),
        ("survival", "a b", "", 1, 1),
        ("survival", "", "a b", 0, 0),
    ],
)
def test_by_hand(name: str, response: str, edited: str, raw: int, cost: float) -> None:
    assert COSTS[name].raw(response, edited) == raw
    assert COSTS[name](response, edited) == cost
    assert COSTS[name].of_raw(raw, response) == cost


@pytest.mark.parametrize("name", ["word", "whitespace"])
def test_white_space_alone_costs_nothing(name: str) -> None:
    assert COSTS[name]("one  two\n", "one two") == 0
    assert COSTS["character"].raw("one  two\n", "one two") == 2
    assert "white space" in str(costs.__doc__)


def test_no_texts_linger_beyond_a_few() -> None:
    """Tokens are cached between calls; an erased text must not stay in memory for long."""
    for i in range(200):
        COSTS["word"](f"draft {i}", f"text {i}")
    assert costs.words.cache_info().currsize <= 64


def test_nltk_needs_no_download(tmp_path: Path) -> None:
    code = "from redraft.costs import COSTS; assert COSTS['word']('One. Two.', 'One. 2.') == 1 / 3"
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "NLTK_DATA": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_importing_costs_is_light() -> None:
    code = "import redraft.costs, sys; assert not {'nltk', 'rapidfuzz', 'torch', 'tokenizers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_first_price_loads_no_scientific_library() -> None:
    code = """
import sys
from redraft.costs import COSTS
COSTS["word"]("a b", "a c")
assert not {"sklearn", "scipy", "pandas"} & set(sys.modules)
import scipy.stats
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_survival_of_other_lengths() -> None:
    lost, length = ngram_survival(str.split, n=3)
    assert (lost("a b c d", "a b c"), length("a b c d")) == (1, 2)
    with pytest.raises(ConfigError, match="n = 0"):
        ngram_survival(str.split, n=0)


def test_levenshtein_of_any_tokens() -> None:
    assert levenshtein(lambda text: [int(n) for n in text.split(",")])("1,2,-1", "1,-2,-1") == 1


@pytest.fixture
def tokenizer_file(tmp_path: Path) -> Path:
    """A tokenizer that knows three words, with a trainer's settings left in the file."""
    tokenizers = pytest.importorskip("tokenizers", reason="comes with redraft[train]")
    vocabulary = {"[UNK]": 0, "a": 1, "b": 2, "c": 3}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[UNK] $A", special_tokens=[("[UNK]", 0)]
    )
    tokenizer.enable_truncation(max_length=2)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_subtoken_cost(tokenizer_file: Path) -> None:
    cost = get_cost(f"subtoken:{tokenizer_file}")
    assert cost.name == f"subtoken:{tokenizer_file}"
    assert cost.raw("a b c a", "a c a b") == 2
    assert cost("a b c a", "a c a b") == 2 / 4  # neither cut, nor padded, nor with a special token
    assert cost("", "a b") == 2
    assert cost("x", "y") == 0  # unknown words are one token: a cost sees what its tokens see


def test_invalid_subtoken_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*absent\.json"):
        subtoken_cost(tmp_path / "absent.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"cannot read .*bad\.json"):
        subtoken_cost(tmp_path / "bad.json")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ConfigError, match=r"pip install 'redraft\[train\]'"):
        subtoken_cost(tmp_path / "bad.json")


def test_get_cost_takes_functions_and_costs() -> None:
    def shorter(response: str, edited: str) -> float:
        return abs(len(response) - len(edited))

    cost = get_cost(shorter)
    assert (cost.name, cost("abc", "a"), cost.raw("abc", "a")) == ("shorter", 2, 2)
    assert get_cost(cost) is cost
    assert get_cost(f"{__name__}:EXAMPLE") is EXAMPLE
    assert get_cost("operator:ne")("a", "b") == 1
    assert get_cost("operator:ne").name == "operator:ne"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrod", "'wrod' is unknown: use one of word, word-capped"),
        ("", "unknown"),
        ("subtoken:", "unknown"),
        ("no_such_module:f", "cannot be imported"),
        ("operator:no_such_name", "cannot be imported"),
        (":f", "cannot be imported"),
        (".relative:f", "cannot be imported"),
        (f"{__name__}:NOT_A_FUNCTION", "not callable"),
    ],
)
def test_invalid_cost(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        get_cost(name)
    assert "\n" not in str(caught.value)


def test_a_module_that_fails_to_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "failing_cost.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="division by zero"):
        get_cost("failing_cost:f")


@pytest.mark.parametrize(("edited", "value"), [("", "-1.0"), ("x", "nan")])
def test_a_custom_cost_must_return_a_cost(edited: str, value: str) -> None:
    with pytest.raises(DataError, match=f"'broken' returned {value}"):
        get_cost(broken)("y", edited)


def test_a_custom_cost_is_0_on_equal_texts() -> None:
    assert Cost("one", lambda response, edited: 1)("same", "same") == 0
