"""Named errors of the worker's side of sessions.

Owns names and their place in the tree. Each refusal tells the client why its session is not served.
"""

from __future__ import annotations

from cocoon_worker.errors import JournalError, WorkerError


class SessionBookError(JournalError):
    """A session was about to be written as it cannot be: a count fell, or it is not known. A bug."""


class SessionRefusedError(WorkerError):
    """A session is not served; its subclasses say why. Nothing was written."""


class ForgedEscrowError(SessionRefusedError):
    """The account is not a genuine escrow of this network, or does not exist."""


class UnknownSessionError(SessionRefusedError):
    """The escrow has no such session: it ended, never was, or our endpoint lags behind the client's."""


class ForeignSessionError(SessionRefusedError):
    """The session is another worker's."""


class SessionClosingError(SessionRefusedError):
    """The client closes the session: nothing new is served, what is signed is redeemed."""


class SessionExpiringError(SessionRefusedError):
    """The session has expired, or is about to."""


class WeakVoucherKeyError(SessionRefusedError):
    """Anybody could sign with the session's voucher key."""
