"""What ``GET /`` answers: JSON for programs, a small page for browsers. Task names only where no key is needed."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from redraft import __version__

__all__ = ["SUMMARY", "welcome"]

SUMMARY = "Policies that learn from how people edit what they write, behind OpenAI's API."

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>redraft</title>
<style>:root {{ color-scheme: light dark }} body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem;
margin: 3rem auto; padding: 0 1rem }} code {{ overflow-wrap: anywhere }}</style>
<h1>redraft {version}</h1>
<p>{summary}</p>
<p>Point an OpenAI client at <code>{base_url}</code>. {models}</p>
<p><a href="/docs">API reference</a> · <a href="/healthz">health</a> · <a href="/metrics">metrics</a></p>
</html>
"""


def welcome(request: Request, tasks: Sequence[str]) -> Response:
    """Say what this is and where its API starts; ``tasks`` are those that everyone may know of."""
    base_url = f"{request.base_url}v1"
    if "text/html" in request.headers.get("accept", ""):
        named = f"The model is a task: <code>{escape(', '.join(tasks))}</code>." if tasks else "It needs an API key."
        page = _PAGE.format(version=__version__, summary=SUMMARY, base_url=escape(base_url), models=named)
        return HTMLResponse(page, headers={"vary": "accept"})
    body = {"name": "redraft", "version": __version__, "summary": SUMMARY, "base_url": base_url}
    docs = {"docs": f"{request.base_url}docs", "openapi": f"{request.base_url}openapi.json"}
    return JSONResponse(body | docs | ({"tasks": list(tasks)} if tasks else {}), headers={"vary": "accept"})
