"""Keys and passwords out of texts that others wrote, before a client or a log line gets them."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["redacted"]

_HIDDEN = (
    (re.compile(r"(://)[^/\s\"'<>]+@"), r"\1***@"),  # user:password@ of a URL
    (re.compile(r"\b(Bearer\s+)[^\s\"']+", re.IGNORECASE), r"\1***"),
    (re.compile(r"\b((?:password|passwd|pwd|api[_-]?key|key|token|secret)=)[^\s&;\"']+", re.IGNORECASE), r"\1***"),
    (re.compile(r"\b(?:sk|rk|pk|rd|gsk|hf|xai|pplx|nvapi)[-_][\w*.\-]{4,}"), "***"),
    (re.compile(r"[\w.\-]{0,200}\*{3,}[\w*.\-]*"), "***"),  # a key that its server has masked in part
)


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without these secrets and without what looks like one.

    >>> redacted("Incorrect API key provided: sk-upst*****cret. See postgresql://me:pw@db/log?password=x")
    'Incorrect API key provided: *** See postgresql://***@db/log?password=***'
    """
    for secret in secrets:
        if len(secret) > 2:  # a shorter one would be replaced in every word
            text = text.replace(secret, "***")
    for pattern, instead in _HIDDEN:
        text = pattern.sub(instead, text)
    return text
