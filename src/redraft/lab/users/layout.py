"""How the sentences of a body stand: as a list, as one paragraph, with exclamation marks. Idempotent, each of them."""

from __future__ import annotations

from redraft.lab.users.letter import pieces, sentences, split_marker

__all__ = ["bullets", "exclaiming", "paragraph"]


def bullets(body: str, mark: str = "-") -> str:
    """Every sentence on a line of its own, after a mark.

    >>> bullets("We meet at 3 pm. Bring the slides").splitlines()
    ['- We meet at 3 pm.', '- Bring the slides.']
    """
    return "\n".join(f"{mark} {sentence}" for sentence in sentences(body))


def paragraph(body: str) -> str:
    """All sentences on one line."""
    return " ".join(sentences(body))


def exclaiming(body: str) -> str:
    """Every sentence that ends with a full stop ends with an exclamation mark instead.

    >>> exclaiming("- We meet at 3 p.m. today. Bring the slides.")
    '- We meet at 3 p.m. today! Bring the slides!'
    """
    lines = (split_marker(line) for line in body.split("\n"))
    return "\n".join(marker + " ".join(map(_loud, pieces(rest))) for marker, rest in lines)


def _loud(piece: str) -> str:
    return f"{piece[:-1]}!" if piece.endswith(".") and not piece.endswith("..") else piece
