"""What serving sessions and fetching their money share.

Owns the bundle: book, survey, who is connected, and who wants to hear that a session is over. Must not
decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cocoon_worker.sessions.book import SessionBook
from cocoon_worker.sessions.records import SessionKey
from cocoon_worker.sessions.survey import SessionSurvey


@dataclass(slots=True)
class SessionDesk:
    """One worker's sessions.

    `connected` holds the sessions that are being served: they are not ended from our side. `on_over` is
    called with each session that its client closes, or that has ended: nothing new may be served in it.
    """

    book: SessionBook
    survey: SessionSurvey
    connected: set[SessionKey] = field(default_factory=set)
    on_over: list[Callable[[SessionKey], None]] = field(default_factory=list)
    requested: set[SessionKey] = field(default_factory=set)
    """Sessions that a person wants redeemed now."""
    over: list[SessionKey] = field(default_factory=list)
    """Sessions that were seen to be over, and that nobody was told about yet."""

    def tell_over(self) -> None:
        """Tell everybody who listens, outside of any transaction; the session is read anew the next time."""
        while self.over:
            key = self.over.pop(0)
            self.survey.forget(key)
            for listener in self.on_over:
                listener(key)
