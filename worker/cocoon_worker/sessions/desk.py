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

    def tell_over(self, key: SessionKey) -> None:
        """Tell everybody who listens, and read the session anew the next time."""
        self.survey.forget(key)
        for listener in self.on_over:
            listener(key)
