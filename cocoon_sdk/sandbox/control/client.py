"""`ControlClient`: the other side of the control API.

Owns finding the secret in a sandbox's folder and turning answers into values and errors. Must not know the
command line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

import aiohttp

from cocoon_sdk.errors import ChainUnavailableError, CocoonError
from cocoon_sdk.sandbox.errors import SandboxError
from cocoon_sdk.sandbox.storage.folder import is_claimed, read_document

CONTROL_FILE = "control.json"
TIMEOUT_S = 120.0


class NotRunningError(SandboxError):
    """No sandbox runs where one was looked for."""


class RemoteError(SandboxError):
    """The sandbox refused; `kind` is the name of its error."""

    def __init__(self, kind: str, what: str, *, why: str = "", hint: str = "") -> None:
        super().__init__(what, why=why, hint=hint)
        self.kind = kind


class ControlClient:
    """Speaks to the sandbox that runs in `folder`. Use it with `async with`. Raises `NotRunningError`."""

    def __init__(self, folder: Path) -> None:
        document = read_document(folder / CONTROL_FILE) if is_claimed(folder) else None
        if not isinstance(document, dict) or not isinstance(document.get("url"), str):
            raise NotRunningError(
                f"no sandbox runs in {folder}",
                why="nobody has the folder" if document is None else "its control file makes no sense",
                hint="start one with `cocoon sandbox up`",
            )
        self.folder = folder
        self._url, secret = document["url"], str(document.get("secret"))
        self._session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {secret}"})

    async def call(self, method: str, **values: Any) -> Any:
        """Call a method; return its result. Raises `RemoteError` and `ChainUnavailableError`."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with self._session.post(f"{self._url}/{method}", json=values, timeout=timeout) as response:
                answer = json.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ChainUnavailableError(
                "the sandbox does not answer", why=f"{type(error).__name__} from {self._url}"
            ) from error
        if not isinstance(answer, dict):
            raise ChainUnavailableError("the sandbox does not answer", why="its answer makes no sense")
        refusal = answer.get("error")
        if isinstance(refusal, dict):
            raise _remote(refusal)
        return answer.get("result")

    async def close(self) -> None:
        """Close the connection."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _remote(parts: dict[str, Any]) -> CocoonError:
    what, why, hint = (str(parts.get(name, "")) for name in ("what", "why", "hint"))
    return RemoteError(str(parts.get("type", "")), what, why=why, hint=hint)
