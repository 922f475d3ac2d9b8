from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from redraft.select import SELECTORS, Selector

Make = Callable[[Sequence[str]], Selector]


@pytest.fixture(params=sorted(SELECTORS))
def make(request: pytest.FixtureRequest) -> Make:
    """Every rule in turn, with its defaults: the contract holds for whatever is added to ``SELECTORS``."""
    return SELECTORS[request.param]
