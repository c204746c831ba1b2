"""How much the check of one answer may cost. Owns the count and its bound; must not know what is compared.

What an answer shows may be made so that comparing it takes hours: whoever compares says how far it goes.
"""

from __future__ import annotations

from typing import Final

MOST_WORK: Final = 1 << 26
"""Characters that are compared for one answer: honest calls need a few times as many as their answer has."""


class Work:
    """How much may still be compared for one answer, in characters."""

    def __init__(self, most: int = MOST_WORK) -> None:
        self.left = most

    def spend(self, characters: int) -> None:
        """Take from it. Raises `TooMuchError` when nothing is left."""
        self.left -= characters
        if self.left < 0:
            raise TooMuchError


class TooMuchError(Exception):
    """The work of an answer is spent. It never leaves this room: who compares says that nobody can tell."""
