"""What all pages share: a template filled in.

Nothing in a page is fetched and nothing runs: styles, figures and texts stand inside, and every text that a model or a
person wrote is escaped.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

__all__ = ["render"]


def render(template: str, **values: Any) -> str:
    """Fill in a template of this package; ``css`` is there for it, and only ``Markup`` stays unescaped."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    here = files("redraft.lab.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    css = Markup(here.joinpath("page.css").read_text("utf-8"))
    return environment.from_string(here.joinpath(template).read_text("utf-8")).render(css=css, **values)
