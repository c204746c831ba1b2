"""What a worker says against a request or a session, as errors of ours.

Owns the mapping. Must not know what is done about it. A worker's words are a stranger's: bounded, and
nothing in them moves a terminal's cursor.
"""

from __future__ import annotations

from typing import Final

from cocoon_sdk.client.sessions.errors import (
    BusyError,
    DishonestWorkerError,
    NotTheWorkerError,
    RequestRefusedError,
    SessionError,
    SessionRefusedError,
    SessionWornError,
    StaleSessionError,
    TooDearError,
    UnknownTermsError,
    WorkerFailedError,
    WorkerLostError,
)
from cocoon_sdk.crypto.channel import HandshakeError
from cocoon_sdk.errors import CocoonError, DecryptionError, MalformedError
from cocoon_sdk.protocol.metering import MeteringError
from cocoon_sdk.protocol.session_wire import Failed, FailureCode

_MAX_WHY: Final = 300
_KINDS: Final[dict[str, tuple[type[SessionError], str]]] = {
    FailureCode.BAD_REQUEST: (RequestRefusedError, "the worker refuses the request"),
    FailureCode.UNKNOWN_TERMS: (UnknownTermsError, "the worker does not offer these terms any more"),
    FailureCode.TOO_DEAR: (TooDearError, "the prompt is too dear for this worker to begin unpaid"),
    FailureCode.WORN: (SessionWornError, "the session is worn"),
    FailureCode.BUSY: (BusyError, "the worker is busy"),
    FailureCode.ENGINE: (WorkerFailedError, "the worker's engine failed"),
    FailureCode.UNPAID: (WorkerFailedError, "the worker saw no voucher in time"),
    FailureCode.BAD_VOUCHER: (SessionRefusedError, "the worker refuses the voucher"),
    FailureCode.SESSION: (SessionRefusedError, "the worker refuses the session"),
    FailureCode.REPLACED: (StaleSessionError, "another connection of the same session took over"),
}


def of_frame(failed: Failed) -> SessionError:
    """Return the error that a `Failed` frame stands for."""
    kind, what = _KINDS.get(failed.code, (WorkerFailedError, "the worker failed"))
    why = "".join(char if char.isprintable() else " " for char in failed.why[:_MAX_WHY])
    return kind(what, why=why, retry_after_s=failed.retry_after_s)


def of_worker(error: CocoonError) -> SessionError:
    """Return what an error stands for that came of something the worker sent."""
    if isinstance(error, SessionError):
        return error
    why = f"{error.what}: {error.why}" if error.why else error.what
    if isinstance(error, HandshakeError):
        return NotTheWorkerError("the connection to the worker is not safe", why=why, hint=error.hint)
    if isinstance(error, DecryptionError):
        # Whoever is on the way can do this: it is not held against the worker.
        return WorkerLostError("the connection to the worker is not safe", why=why, hint=error.hint)
    if isinstance(error, MeteringError | MalformedError):
        return DishonestWorkerError("the worker is not honest", why=why, hint=error.hint)
    return of_ours(error)


def of_ours(error: CocoonError) -> SessionError:
    """Return an error of this side (a database, a limit) as one that ends a link."""
    if isinstance(error, SessionError):
        return error
    return SessionRefusedError("the session cannot be paid for", why=f"{error.what}: {error.why}")
