"""Fetching a result from the worker's own endpoint, with its signature, before it is on chain.

Owns the HTTP side and its bounds. Must not know keys: the answer is untrusted until `AsyncJob` has checked
signature, hash and price. The worker chooses the URL, so only addresses that the policy permits are reached.

    GET {endpoint}/v1/results/{escrow, raw}/{job id}
    200 {"result": base64, "result_hash": hex, "amount": decimal nanoTON, "signature": hex}
    202 {"status": "running" | "queued"}    404 unknown    410 {"status": "refused", "reason": "..."}
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import socket
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from pytoniq_core import Address

from cocoon_sdk.crypto.keys import SIGNATURE_BYTES
from cocoon_sdk.data import AddressPolicy
from cocoon_sdk.errors import MalformedError, OfferRefusedError, ResultUnavailableError
from cocoon_sdk.protocol.canonical import parse_json
from cocoon_sdk.protocol.envelope import MAX_ENVELOPE_BYTES
from cocoon_sdk.protocol.hashing import HASH_BYTES
from cocoon_sdk.types import Hash, Nano

TIMEOUT_S: Final = 30.0
_MAX_BODY: Final = MAX_ENVELOPE_BYTES * 4 // 3 + 4096
_MAX_REASON: Final = 300
_AMOUNT: Final = re.compile(r"\A[0-9]{1,19}\Z")


@dataclass(frozen=True, slots=True)
class SignedHandover:
    """What a worker handed over: nothing of it is checked yet but the form."""

    sealed: bytes = field(repr=False)
    result_hash: Hash
    amount: Nano
    signature: bytes = field(repr=False)
    operator_key: int = 0
    """The key under which the signature was found good; 0 until it is checked."""


class HandoverClient:
    """Reads workers' endpoints; close it when done."""

    def __init__(self, policy: AddressPolicy, *, timeout_s: float = TIMEOUT_S) -> None:
        self._policy, self._timeout_s = policy, timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def fetch(self, endpoint: str, escrow: Address, job_id: int) -> SignedHandover | None:
        """Return what the worker hands over, None while it has nothing.

        Raises `OfferRefusedError` with the worker's reason, `ResultUnavailableError` when the endpoint cannot
        be used, `MalformedError` for an answer that is not in form.
        """
        scheme = urlsplit(endpoint).scheme
        if scheme not in ("http", "https"):
            return None  # a streaming endpoint hands over no job results
        where = escrow.to_str(is_user_friendly=False)
        url = f"{endpoint.rstrip('/')}/v1/results/{where}/{job_id}"
        what = f"cannot read the worker's endpoint {_origin(endpoint)}"
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._connected().get(url, allow_redirects=False) as response,
            ):
                status, body = response.status, await _read(response, what)
        except TimeoutError:
            raise ResultUnavailableError(what, why=f"no answer within {self._timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ResultUnavailableError(what, why=type(error).__name__) from None
        if status == 410:
            raise OfferRefusedError(
                f"the worker declined job {job_id}",
                why=_reason(body),
                hint="cancel() takes the money back after the claim deadline",
            )
        if status in (202, 404):
            return None
        if status != 200:
            raise ResultUnavailableError(what, why=f"it answers {status}")
        return parse_handover(body)

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=16, socket_factory=self._guarded_socket),
                timeout=aiohttp.ClientTimeout(total=None),  # `fetch` bounds everything together
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,  # a compressed answer could be a bomb
                trust_env=False,
            )
        return self._session

    def _guarded_socket(self, info: tuple[Any, ...]) -> socket.socket:
        # Checked on the address that is really connected to: names may resolve differently each time.
        family, kind, protocol, _, target = info
        if not self._policy.permits(str(target[0])):
            raise OSError(f"{target[0]} is not an address this client may reach")
        return socket.socket(family=family, type=kind, proto=protocol)


def parse_handover(body: bytes) -> SignedHandover:
    """Read the worker's JSON. Raises `MalformedError`."""
    what = "the worker's handover is not in form"
    answer = parse_json(body, max_bytes=_MAX_BODY)
    if not isinstance(answer, dict):
        raise MalformedError(what, why="it is no object")
    amount, sealed = answer.get("amount"), answer.get("result")
    if not isinstance(amount, str) or not _AMOUNT.match(amount):
        raise MalformedError(what, why="amount is no decimal string of nanoTON")
    if not isinstance(sealed, str):
        raise MalformedError(what, why="result is no text")
    try:
        data = base64.b64decode(sealed, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError(what, why="result is no base64") from None
    result_hash = _hex(answer.get("result_hash"), HASH_BYTES, what, "result_hash")
    signature = _hex(answer.get("signature"), SIGNATURE_BYTES, what, "signature")
    return SignedHandover(data, Hash(result_hash), Nano(int(amount)), signature)


def _hex(value: object, size: int, what: str, name: str) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-fA-F]+", value) or len(value) != 2 * size:
        raise MalformedError(what, why=f"{name} is not {2 * size} hexadecimal digits")
    return bytes.fromhex(value)


def _reason(body: bytes) -> str:
    try:
        answer = parse_json(body, max_bytes=64 * 1024)
        reason = answer.get("reason") if isinstance(answer, dict) else None
    except MalformedError:
        reason = None
    if not isinstance(reason, str) or not reason:
        return "it gives no reason"
    # A stranger's text: bounded, and nothing that moves a terminal's cursor.
    return "".join(char if char.isprintable() else "?" for char in reason[:_MAX_REASON])


async def _read(response: aiohttp.ClientResponse, what: str) -> bytes:
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ResultUnavailableError(what, why="it compresses although it was asked not to")
    body = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        body += chunk
        if len(body) > _MAX_BODY:
            raise ResultUnavailableError(what, why=f"it sends more than {_MAX_BODY} bytes")
    return bytes(body)


def _origin(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])
