"""What a failure looks like to a client of the gateway: an HTTP status and OpenAI's error body.

Owns the gateway's own refusals and OpenAI's form of all refusals (the statuses of the SDK's errors are the
SDK's). Must not know aiohttp. An answer never repeats a prompt, a key or an answer's text: it carries the
`what`, `why` and `hint` of our own errors, which hold none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from cocoon_sdk.client.sessions import SessionError, http_meaning
from cocoon_sdk.errors import CocoonError
from cocoon_sdk.storage import StorageError

MAX_MESSAGE_CHARS: Final = 2_000
_SERVER: Final = "server_error"

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Refusal:
    """One failed request as the client is told. `retry_after_s` is None when trying again is no use."""

    status: int
    message: str
    type: str
    code: str | None = None
    param: str | None = None
    retry_after_s: int | None = None

    def document(self) -> dict[str, object]:
        """Return OpenAI's error object."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error}

    def body(self) -> bytes:
        """Return the JSON body."""
        return _encode(self.document())

    def headers(self) -> dict[str, str]:
        """Return what clients read to decide whether to try again (`x-should-retry` is OpenAI's)."""
        if self.retry_after_s is None:
            return {"x-should-retry": "false"}
        return {"Retry-After": str(self.retry_after_s), "x-should-retry": "true"}


class GatewayError(CocoonError):
    """A request that the gateway itself refuses; `status`, `kind` and `code` are what the client sees."""

    status: int = 400
    kind: str = "invalid_request_error"
    code: str | None = None

    def __init__(
        self,
        what: str,
        *,
        why: str = "",
        hint: str = "",
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(what, why=why, hint=hint)
        self.param, self.retry_after_s = param, retry_after_s


class BadRequestError(GatewayError):
    """The body is not a request that can be served; `param` names the field."""


class NotStoredError(BadRequestError):
    """The request refers to something the gateway would have had to store."""

    code = "nothing_is_stored"


class MissingKeyError(GatewayError):
    """No API key came with the request, and one is needed."""

    status, code = 401, "invalid_api_key"


class WrongKeyError(GatewayError):
    """The API key is not known, or revoked."""

    status, code = 401, "invalid_api_key"


class HostRefusedError(GatewayError):
    """A keyless gateway was addressed by a name that is not its own (a web page may be behind it)."""

    status, kind, code = 403, "permission_error", "host_not_allowed"


class ModelNotAllowedError(GatewayError):
    """The key may not use that model."""

    status, kind, code = 403, "permission_error", "model_not_allowed"


class ModelNotFoundError(GatewayError):
    """No worker serves a model of that name."""

    status, code = 404, "model_not_found"


class NotFoundError(GatewayError):
    """There is no such resource."""

    status, code = 404, "not_found"


class WrongMethodError(GatewayError):
    """The resource does not know that method."""

    status, code = 405, "method_not_allowed"


class BodyTooLargeError(GatewayError):
    """The body is longer than the gateway takes."""

    status, code = 413, "request_too_large"


class ContentTypeError(GatewayError):
    """The body is not declared as JSON."""

    status, code = 415, "unsupported_media_type"


class BodyTimeoutError(GatewayError):
    """The body did not arrive in time."""

    status, code = 408, "request_timeout"


class BudgetReachedError(GatewayError):
    """The key's budget, in total or for today, does not cover the request."""

    status, kind, code = 402, "insufficient_quota", "budget_reached"


class RateLimitError(GatewayError):
    """The key's requests or tokens of this minute are used up."""

    status, kind, code = 429, "rate_limit_error", "rate_limit_exceeded"


class BusyError(GatewayError):
    """The gateway already serves as many requests as it may."""

    status, kind, code = 429, "rate_limit_error", "gateway_busy"


class ShuttingDownError(GatewayError):
    """The gateway finishes what it has and takes nothing new."""

    status, kind, code = 503, "server_error", "shutting_down"


class RequestTimeoutError(GatewayError):
    """The answer was not complete in the time a request may take."""

    status, kind, code = 504, "server_error", "timeout"


_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    402: "insufficient_quota",
    404: "invalid_request_error",
    429: "rate_limit_error",
}
_RETRY_S: Final[Mapping[int, int]] = {429: 1, 502: 1, 503: 5}
"""When to try again what says nothing about it itself; other statuses are not worth another try."""


def refusal(error: BaseException) -> Refusal:
    """Return what the client is told about `error`; of what is not ours no details are told."""
    if isinstance(error, GatewayError):
        return Refusal(error.status, _words(error), error.kind, error.code, error.param, error.retry_after_s)
    if isinstance(error, StorageError):
        # Where the database is, is the operator's business.
        return Refusal(503, "the gateway's database is not available", _SERVER, "storage", None, 5)
    if isinstance(error, CocoonError):
        status, code = http_meaning(error)
        if status != 500:
            stated = error.retry_after_s if isinstance(error, SessionError) else None
            after = _RETRY_S.get(status) if stated is None else stated
            return Refusal(status, _words(error), _TYPES.get(status, _SERVER), code, None, after)
    if isinstance(error, TimeoutError):
        return Refusal(504, "the answer was not complete in time", _SERVER, "timeout")
    return Refusal(500, "the gateway failed; its log says why", _SERVER, "internal_error")


def _words(error: CocoonError) -> str:
    text = str(error)
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"
