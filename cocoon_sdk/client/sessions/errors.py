"""Errors of sessions and inference, each with the HTTP status that tells the same to a user of the gateway.

Owns the `SessionError` branch of the tree and the mapping of every error of ours to a status. Must not know
HTTP servers. No error holds a prompt, an answer, a voucher or a key.
"""

from __future__ import annotations

from typing import ClassVar, Final

from cocoon_sdk.errors import (
    ChainError,
    CocoonError,
    ConfigError,
    InsufficientEscrowError,
    MalformedError,
    NoWorkerError,
    PriceTooHighError,
    UnknownModelError,
)
from cocoon_sdk.storage import StorageError


class SessionError(CocoonError):
    """A session or a request inside it cannot go on.

    `http_status` is what a gateway answers, `code` a short stable name for programs, `retry_after_s` when the
    same call may be tried again (seconds; None: no telling).
    """

    http_status: ClassVar[int] = 502
    code: ClassVar[str] = "session_error"

    def __init__(self, what: str, *, why: str = "", hint: str = "", retry_after_s: int | None = None) -> None:
        super().__init__(what, why=why, hint=hint)
        self.retry_after_s = retry_after_s


# -- the request -------------------------------------------------------------------------------------------


class RequestRefusedError(SessionError):
    """The request itself is wrong: no worker will serve it."""

    http_status = 400
    code = "bad_request"


class TooDearError(RequestRefusedError):
    """The prompt costs more than a session pays ahead, so no worker may begin with it."""

    code = "too_dear"


# -- money -------------------------------------------------------------------------------------------------


class SpendLimitError(SessionError):
    """A limit that the owner set (per day, per session, in all) leaves no room for this."""

    http_status = 402
    code = "spend_limit"


class SessionRefusedError(SessionError):
    """No session with this worker can be had: the chain or the worker refused it."""

    http_status = 503
    code = "session_refused"


class StaleSessionError(SessionError):
    """Another holder signed for this session meanwhile: what this process knows of it is out of date."""

    http_status = 503
    code = "stale_session"


class SessionWornError(SessionError):
    """Too much was lost in this session, by cut connections, for what is asked: another one would do."""

    http_status = 503
    code = "session_worn"


class SessionUsedUpError(SessionError):
    """The session's deposit does not hold what is asked for."""

    http_status = 503
    code = "session_used_up"


# -- workers -----------------------------------------------------------------------------------------------


class WorkerFailedError(SessionError):
    """A worker failed, and no other could take over."""

    http_status = 502
    code = "worker_failed"


class WorkerLostError(WorkerFailedError):
    """The connection to the worker broke, or it fell silent."""

    code = "worker_lost"


class NotTheWorkerError(WorkerLostError):
    """Who answers has another key than the worker's: it may be the worker itself, or somebody on the way."""


class UnknownTermsError(WorkerFailedError):
    """The worker does not offer these terms any more: its announcement has to be read again."""

    code = "unknown_terms"


class DishonestWorkerError(WorkerFailedError):
    """The worker's numbers, receipt or frames are wrong: nothing more is paid to it."""

    code = "dishonest_worker"


class EndpointRefusedError(WorkerFailedError):
    """The worker's endpoint is none that this client may reach."""

    code = "endpoint_refused"


class AnswerCutError(WorkerFailedError):
    """A streamed answer broke off where no other worker can go on (tool calls, logprobs, structured output).

    What was delivered of it stays valid, and paid.
    """

    code = "answer_cut"


class BusyError(SessionError):
    """All workers that fit are busy."""

    http_status = 429
    code = "busy"


class WorkerTimeoutError(SessionError):
    """The answer did not begin, go on or end in time."""

    http_status = 504
    code = "timeout"


_STATUS: Final[tuple[tuple[type[CocoonError], int, str], ...]] = (
    (UnknownModelError, 404, "model_not_found"),
    (InsufficientEscrowError, 402, "insufficient_escrow"),
    (PriceTooHighError, 402, "price_too_high"),
    (NoWorkerError, 503, "no_worker"),
    (MalformedError, 400, "malformed"),
    (ChainError, 503, "chain_unavailable"),
    (StorageError, 503, "storage_unavailable"),
    (ConfigError, 500, "misconfigured"),
)


def again(error: SessionError) -> SessionError:
    """Return the same error anew, for one more task to raise: shared ones would share their tracebacks."""
    return type(error)(error.what, why=error.why, hint=error.hint, retry_after_s=error.retry_after_s)


def http_meaning(error: CocoonError) -> tuple[int, str]:
    """Return the HTTP status and the short name of any error of ours; 500 and `internal` by default."""
    if isinstance(error, SessionError):
        return error.http_status, error.code
    for kind, status, code in _STATUS:
        if isinstance(error, kind):
            return status, code
    return 500, "internal"
