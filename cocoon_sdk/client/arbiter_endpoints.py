"""HTTP to arbiters: what can be asked and told, in which form, within which bounds (docs/arbiter.md).

Owns requests, time limits, sizes and the form of answers. Must not know whose signature counts, what evidence
is, or which arbiters a dispute has (`cocoon_sdk.client.arbiters`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from cocoon_sdk.contracts.disputes import Dispute
from cocoon_sdk.errors import CocoonError, MalformedError
from cocoon_sdk.protocol.canonical import canonical_bytes, parse_json
from cocoon_sdk.protocol.disputes import (
    MAX_INFO_BYTES,
    MAX_OPINIONS_BYTES,
    ArbiterInfo,
    ItemKind,
    Opinions,
)

SMALL_S: Final = 20.0
"""How long anything small may take: an arbiter that stalls is as good as one that is away."""
SLOWEST: Final = 64 * 1024
"""Bytes a second, which a delivery of evidence may have beyond that."""
_MAX_ANSWER: Final = 256 * 1024
_MAX_WHY: Final = 200
_DIGEST: Final = re.compile(r"\A[0-9a-f]{64}\Z")
_SIGNATURE: Final = re.compile(r"\A[0-9a-f]{128}\Z")


class ArbiterUnreachableError(CocoonError):
    """An arbiter's endpoint does not answer (`status` is None), or answers that it will not."""

    def __init__(self, what: str, *, why: str = "", hint: str = "", status: int | None = None) -> None:
        super().__init__(what, why=why, hint=hint)
        self.status = status


@dataclass(frozen=True, slots=True)
class Answered:
    """What an arbiter says to a delivery: its signatures by kind, unchecked, and why it refused others."""

    signatures: Mapping[ItemKind, bytes]
    refused: str


@dataclass(frozen=True, slots=True)
class Overview:
    """What an arbiter says about itself: where each dispute stands that it follows.

    `accepts_evidence` is false while it cannot keep any, as when its disk is full: bring it to another one.
    """

    accepts_evidence: bool
    disputes: tuple[dict[str, Any], ...]


class ArbiterEndpoints:
    """HTTP to arbiters; close it when done. Nothing of an answer is checked here but its form and size."""

    def __init__(self, *, timeout_s: float = SMALL_S) -> None:
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def info(self, url: str) -> ArbiterInfo:
        """Return who answers there. Raises `ArbiterUnreachableError` or `MalformedError`."""
        return ArbiterInfo.from_bytes(await self._ask("GET", url, "/v1/arbiter", limit=MAX_INFO_BYTES))

    async def announce(self, url: str, dispute: Dispute) -> None:
        """Tell an arbiter to look at a dispute."""
        where = f"0:{dispute.escrow.hash_part.hex()}"
        body = canonical_bytes({"escrow": where, "kind": int(dispute.kind), "id": dispute.number})
        await self._ask("POST", url, "/v1/disputes", body)

    async def status(self, url: str, digest: bytes) -> dict[str, Any]:
        """Return where a dispute stands, as the arbiter says itself."""
        return _object(await self._ask("GET", url, f"/v1/disputes/{digest.hex()}"))

    async def deliver(self, url: str, digest: bytes, sealed: bytes) -> Answered:
        """Deliver sealed evidence; return what the arbiter signed for, and why it refused the rest."""
        answer = await self._ask("POST", url, f"/v1/disputes/{digest.hex()}/evidence", sealed)
        value = _object(answer)
        receipts = value.get("receipts")
        if not isinstance(receipts, dict) or not all(
            name in ItemKind.__members__ and isinstance(text, str) and _SIGNATURE.match(text)
            for name, text in receipts.items()
        ):
            raise MalformedError("an arbiter's answer is not in form", why="it names no receipts")
        signatures = {ItemKind[name]: bytes.fromhex(text) for name, text in receipts.items()}
        return Answered(signatures, _why(answer) if "error" in value else "")

    async def exchange(self, url: str, digest: bytes, opinions: Opinions | None = None) -> Opinions:
        """Send what we know to be signed, if anything, and return what the arbiter knows."""
        path = f"/v1/disputes/{digest.hex()}/opinions"
        body = None if opinions is None else opinions.to_bytes()
        answer = await self._ask("GET" if body is None else "POST", url, path, body, limit=MAX_OPINIONS_BYTES)
        return Opinions.from_bytes(answer)

    async def overview(self, url: str) -> Overview:
        """Return what an arbiter follows, and whether it takes evidence now."""
        value = _object(await self._ask("GET", url, "/v1/disputes"))
        listed, accepts = value.get("disputes"), value.get("accepts_evidence")
        if not isinstance(listed, list) or not isinstance(accepts, bool):
            raise MalformedError("an arbiter's answer is not in form")
        found: list[dict[str, Any]] = []
        for each in listed:
            digest = each.get("digest") if isinstance(each, dict) else None
            if not isinstance(digest, str) or not _DIGEST.match(digest):
                raise MalformedError("an arbiter's answer is not in form")
            found.append({**await self.status(url, bytes.fromhex(digest)), "digest": digest})
        return Overview(accepts, tuple(found))

    async def _ask(
        self, method: str, url: str, path: str, body: bytes | None = None, *, limit: int = _MAX_ANSWER
    ) -> bytes:
        what = f"cannot use the arbiter at {url}"
        timeout_s = self._timeout_s + len(body or b"") / SLOWEST
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None),  # bounded together below
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,  # a compressed answer could be a bomb
                trust_env=False,
            )
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(
                    method, url.rstrip("/") + path, data=body, allow_redirects=False
                ) as response,
            ):
                answer = bytearray()
                async for chunk in response.content.iter_chunked(1 << 16):
                    answer += chunk
                    if len(answer) > limit:
                        raise ArbiterUnreachableError(what, why=f"it answers with more than {limit} bytes")
        except TimeoutError:
            raise ArbiterUnreachableError(what, why=f"no answer within {timeout_s:.0f} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ArbiterUnreachableError(what, why=type(error).__name__) from None
        if response.status != 200:
            why = f"{response.status}: {_why(bytes(answer))}"
            raise ArbiterUnreachableError(what, why=why, status=response.status)
        return bytes(answer)


def _object(body: bytes) -> dict[str, Any]:
    value = parse_json(body, max_bytes=_MAX_ANSWER)
    if not isinstance(value, dict):
        raise MalformedError("an arbiter's answer is not in form", why="it is no object")
    return value


def _why(body: bytes) -> str:
    try:
        value = parse_json(body, max_bytes=_MAX_ANSWER)
        text = value.get("error") if isinstance(value, dict) else None
    except MalformedError:
        text = None
    if not isinstance(text, str) or not text:
        return "it gives no reason"
    # A stranger's text: bounded, and nothing that moves a terminal's cursor.
    return "".join(char if char.isprintable() else "?" for char in text[:_MAX_WHY])
