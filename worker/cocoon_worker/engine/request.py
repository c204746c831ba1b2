"""What the engine is really asked: the client's request, checked, its model named, its output clamped.

Owns the worker's part; which fields pass at all is everybody's rule (`cocoon_sdk.protocol.requests`). What
only a provider's own bookkeeping reads (`metadata`, `store`) is checked and left out. Pure; must not know any
engine.
"""

from __future__ import annotations

from collections.abc import Collection

from cocoon_sdk.protocol.requests import LEFT_OUT, RequestRefusedError, check_request, refused
from cocoon_worker.engine.base import EngineKind, EngineLimits, EngineRequest, EngineRequestError, Json


def checked_body(request: EngineRequest, models: Collection[str], limits: EngineLimits) -> Json:
    """Return the body to send: every field allowed and in range, model named, output length clamped.

    Raises `EngineRequestError` naming the first offending field. The client's mapping is not changed.
    """
    body = dict(request.body)
    try:
        check_request(request.kind.value, body, limits)
        body["model"] = _model(body.get("model"), models)
        if request.kind is not EngineKind.EMBEDDING:
            _clamp_output(body, limits)
    except RequestRefusedError as error:
        raise EngineRequestError(error.what, why=error.why, hint=error.hint) from None
    for name in LEFT_OUT:
        body.pop(name, None)
    return body


def _model(name: object, models: Collection[str]) -> str:
    if name is None and len(models) == 1:
        return next(iter(models))
    if not isinstance(name, str) or name not in models:
        raise refused("model", f"this engine serves {', '.join(sorted(models)) or 'nothing yet'}")
    return name


def _clamp_output(body: Json, limits: EngineLimits) -> None:
    given = [body[name] for name in ("max_tokens", "max_completion_tokens") if body.get(name) is not None]
    wanted = min(given, default=limits.default_output_tokens)
    field = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    body.pop("max_tokens", None)
    body.pop("max_completion_tokens", None)
    body[field] = min(wanted, limits.max_output_tokens)
    if (body.get("min_tokens") or 0) > body[field]:
        raise refused("min_tokens", f"it is above the output limit of {body[field]} tokens")
