"""Sessions on the worker's side: what is served, what is signed for it, and how it becomes money.

Owns the room's public names that others build on: the book and the survey.
"""

from cocoon_worker.sessions.book import SessionBook
from cocoon_worker.sessions.errors import (
    ForeignSessionError,
    ForgedEscrowError,
    SessionBookError,
    SessionClosingError,
    SessionExpiringError,
    SessionRefusedError,
    UnknownSessionError,
    WeakVoucherKeyError,
)
from cocoon_worker.sessions.records import GuardState, SessionEntry, SessionKey, SessionState
from cocoon_worker.sessions.survey import SessionFacts, SessionSurvey

__all__ = [
    "ForeignSessionError",
    "ForgedEscrowError",
    "GuardState",
    "SessionBook",
    "SessionBookError",
    "SessionClosingError",
    "SessionEntry",
    "SessionExpiringError",
    "SessionFacts",
    "SessionKey",
    "SessionRefusedError",
    "SessionState",
    "SessionSurvey",
    "UnknownSessionError",
    "WeakVoucherKeyError",
]
