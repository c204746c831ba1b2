"""Why an external message was not accepted, out of the text that nodes and HTTP APIs send.

Owns recognising such texts and finding the exit code in them. Must not know transports.
"""

from __future__ import annotations

import re
from typing import Final

from cocoon_sdk.errors import ExternalRejectedError

MAX_WHY: Final = 300
_REJECTION = re.compile(r"cannot (?:apply|unpack) external message|not accepted|rejected by", re.I)
_EXIT_CODE = re.compile(r"exit[ _]?code\s*[=:]?\s*(-?[0-9]{1,10})", re.I)


def rejection(text: str) -> ExternalRejectedError | None:
    """Return the error that a node's text means, with the exit code if it names one; None for other texts."""
    if not _REJECTION.search(text):
        return None
    code = _EXIT_CODE.search(text)
    return ExternalRejectedError(
        "external message was not accepted", exit_code=int(code[1]) if code else None, why=text[:MAX_WHY]
    )
