"""An arbiter's HTTP endpoint: small bounded messages from parties and other arbiters.

Owns routes, bounds and answers. Must not decide anything: disputes are looked up on chain, everything else is
bound by hashes or signed, and the hearing checks it. Evidence appears in no answer, log or error.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, Protocol

import structlog
from aiohttp import web
from pytoniq_core import Address

from cocoon_sdk.arbiter.config import ArbiterConfig
from cocoon_sdk.arbiter.errors import (
    BusyError,
    EvidenceError,
    OpinionError,
    TooManyDisputesError,
    TooOftenError,
)
from cocoon_sdk.arbiter.hearing import Hearing
from cocoon_sdk.arbiter.limits import RateLimiter, origin
from cocoon_sdk.arbiter.places import Places
from cocoon_sdk.contracts.disputes import NoDisputeError
from cocoon_sdk.errors import ChainError, CocoonError, DecryptionError, MalformedError
from cocoon_sdk.protocol.canonical import canonical_bytes, parse_json
from cocoon_sdk.protocol.disputes import (
    MAX_OPINIONS_BYTES,
    ArbiterInfo,
    DisputeKind,
    Evidence,
    Opinions,
    may_be_evidence,
)
from cocoon_sdk.protocol.hashing import HASH_BYTES
from cocoon_sdk.storage import StorageError
from cocoon_sdk.types import Hash

MAX_SMALL_BYTES: Final = 1024
_DEAR: Final = 9.0
"""What a request counts for, beside itself, that makes us ask the chain or open a box."""
_MAX_HEADERS: Final = 32
_AT_A_TIME: Final = 2
"""Looks at the chain and deliveries of one address, and boxes that are opened."""
_LOOKS: Final = 16
_SMALL: Final = 256
"""Small bodies that are read at a time, of one address `_SMALL_EACH`."""
_SMALL_EACH: Final = 16
_DIGEST: Final = r"{digest:[0-9a-f]{64}}"
_STATUS: Final = {
    MalformedError: 400,
    DecryptionError: 400,
    OpinionError: 409,
    NoDisputeError: 404,
    TooManyDisputesError: 503,
    TooOftenError: 429,
    BusyError: 503,
    StorageError: 503,
    ChainError: 503,
}
log = structlog.get_logger("cocoon.arbiter")


class Bench(Protocol):
    """What the endpoint needs of the arbiter behind it."""

    def info(self) -> ArbiterInfo:
        """Return who we are."""
        ...

    def hearing(self, digest: Hash) -> Hearing | None:
        """Return a dispute that is followed."""
        ...

    def hearings(self) -> list[Hearing]:
        """Return all that are followed."""
        ...

    async def follow(self, escrow: Address, number: int) -> Hearing:
        """Look at a dispute on chain and follow it."""
        ...

    @property
    def problem(self) -> str:
        """What keeps the arbiter from remembering anything new; empty for nothing."""
        ...

    def storage_failed(self, error: StorageError) -> None:
        """Take note that something could not be kept or read."""
        ...

    def opened(self, sealed: bytes) -> Evidence:
        """Decrypt evidence."""
        ...

    async def opinions(self, digest: Hash) -> Opinions:
        """Return all that is known to be signed in a dispute, one that has ended too."""
        ...

    async def take(self, hearing: Hearing, evidence: Evidence) -> None:
        """Check and keep evidence."""
        ...

    async def hear(self, hearing: Hearing, opinions: Opinions) -> Opinions:
        """Take what another arbiter knows to be signed, and return what we know."""
        ...


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ArbiterServer:
    """Serves one arbiter: `start` binds, `stop` closes."""

    def __init__(self, bench: Bench, config: ArbiterConfig) -> None:
        self._bench, self._config = bench, config
        now = asyncio.get_running_loop().time
        self._limiter = RateLimiter(config.requests_per_minute, now)
        self._large = Places(config.max_deliveries, _AT_A_TIME, now)
        self._small = Places(_SMALL, _SMALL_EACH, now)
        self._looks = Places(_LOOKS, _AT_A_TIME, now)
        self._opening = asyncio.Semaphore(_AT_A_TIME)
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self) -> None:
        """Bind host and port (0 takes a free one, see `port`). Raises `OSError`."""
        app = web.Application(client_max_size=self._config.max_sealed_bytes)
        served = self._served
        app.router.add_get("/v1/arbiter", served(self._info))
        app.router.add_get("/v1/disputes", served(self._list))
        app.router.add_post("/v1/disputes", served(self._announce))
        app.router.add_get(f"/v1/disputes/{_DIGEST}", served(self._status))
        app.router.add_post(f"/v1/disputes/{_DIGEST}/evidence", served(self._evidence))
        app.router.add_get(f"/v1/disputes/{_DIGEST}/opinions", served(self._opinions))
        app.router.add_post(f"/v1/disputes/{_DIGEST}/opinions", served(self._hear))
        runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            keepalive_timeout=30.0,
            max_headers=_MAX_HEADERS,
            shutdown_timeout=1.0,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._config.host, self._config.port, backlog=128).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self.port = int(runner.addresses[0][1])

    async def stop(self) -> None:
        """Close the socket."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def _served(self, handler: Handler) -> Handler:
        async def serve(request: web.Request) -> web.StreamResponse:
            try:
                self._charge(request, 1.0)
                return await handler(request)
            except CocoonError as error:
                if isinstance(error, StorageError):
                    self._bench.storage_failed(error)
                status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
                if status == 500:
                    log.error("request_failed", path=request.path, why=str(error))
                return _error(status, f"{error.what}: {error.why}" if error.why else error.what)
            except TimeoutError:
                return _error(408, "the request did not arrive in time")

        return serve

    def _charge(self, request: web.Request, cost: float) -> None:
        if not self._limiter.allows(origin(request.remote), cost):
            raise TooOftenError("too many requests from this address", hint="Try again in a minute")

    # -- routes --------------------------------------------------------------------------------------------

    async def _info(self, _: web.Request) -> web.StreamResponse:
        return web.Response(body=self._bench.info().to_bytes(), content_type="application/json")

    async def _list(self, _: web.Request) -> web.StreamResponse:
        hearings = self._bench.hearings()[:_MAX_LISTED]
        listed = [{**_name(each), "digest": each.dispute.digest.hex()} for each in hearings]
        # Where and why is its operator's business, and stands in the log.
        return _answer({"disputes": listed, "accepts_evidence": not self._bench.problem})

    async def _announce(self, request: web.Request) -> web.StreamResponse:
        escrow, number = _announced(await self._body(request, MAX_SMALL_BYTES))
        self._charge(request, _DEAR)
        async with self._looks.place(origin(request.remote)):
            hearing = await self._bench.follow(escrow, number)
        return _answer({"digest": hearing.dispute.digest.hex()})

    async def _status(self, request: web.Request) -> web.StreamResponse:
        hearing = self._of(request)
        dispute, times, own = hearing.dispute, hearing.times, await hearing.own()
        panel = await hearing.panel()
        return _answer(
            {
                **_name(hearing),
                "disputed_at": dispute.disputed_at,
                "evidence_until": times.evidence_until,
                "ends_at": times.ends_at,
                "index": hearing.index,
                "needed": dispute.threshold,
                "held": [kind.name for kind in hearing.held],
                "voted": own is not None,
                "signed": own is not None and own.signed is not None,
                "committed": sorted(panel.honest),
                "dishonest": sorted(panel.commitments.keys() - panel.honest),
                "verdicts": [
                    {"index": index, "pay": pay, "slash": slash}
                    for index, signed in sorted(panel.verdicts.items())
                    for pay, slash in sorted(signed)
                ],
            }
        )

    async def _evidence(self, request: web.Request) -> web.StreamResponse:
        hearing = self._of(request)
        self._charge(request, _DEAR)
        limit = self._config.max_sealed_bytes
        _check_length(request, limit)
        refused: dict[str, str] = {}
        async with self._large.place(origin(request.remote)) as place:
            sealed = await self._large.read(place, _chunks(request), limit, may_be_evidence)
            async with self._opening:
                evidence = await asyncio.to_thread(self._bench.opened, sealed)
                try:
                    await self._bench.take(hearing, evidence)
                except EvidenceError as error:  # the rest of it was taken
                    refused = {"error": f"{error.what}: {error.why}" if error.why else error.what}
                receipts = await hearing.receipts(evidence)
        return _answer(
            {
                "held": [kind.name for kind in hearing.held],
                "receipts": {kind.name: signature.hex() for kind, signature in receipts.items()},
                **refused,
            }
        )

    async def _body(self, request: web.Request, limit: int) -> bytes:
        _check_length(request, limit)
        async with self._small.place(origin(request.remote)) as place:
            return await self._small.read(place, _chunks(request), limit)

    async def _opinions(self, request: web.Request) -> web.StreamResponse:
        digest = Hash(bytes.fromhex(request.match_info["digest"]))
        known = await self._bench.opinions(digest)
        # Of a dispute that has ended, too: anybody may see why it ended so.
        return _opinions(known if known.commitments else await self._of(request).opinions())

    async def _hear(self, request: web.Request) -> web.StreamResponse:
        hearing = self._of(request)
        opinions = Opinions.from_bytes(await self._body(request, MAX_OPINIONS_BYTES))
        return _opinions(await self._bench.hear(hearing, opinions))

    def _of(self, request: web.Request) -> Hearing:
        hearing = self._bench.hearing(Hash(bytes.fromhex(request.match_info["digest"])))
        if hearing is None:
            raise NoDisputeError(
                "this dispute is not followed here",
                why="nobody announced it, or it has ended",
                hint="Announce it first",
            )
        return hearing


_MAX_LISTED: Final = 1000
assert HASH_BYTES == 32, "the routes name digests by 64 digits"


def _check_length(request: web.Request, limit: int) -> None:
    if request.content_length is not None and request.content_length > limit:
        raise MalformedError("the body is too large", why=f"at most {limit} bytes")


def _chunks(request: web.Request) -> AsyncIterator[bytes]:
    return aiter(request.content.iter_chunked(1 << 16))


def _announced(body: bytes) -> tuple[Address, int]:
    what = "the announcement is not in form"
    value = parse_json(body, max_bytes=MAX_SMALL_BYTES)
    if not isinstance(value, dict) or value.keys() != {"escrow", "kind", "id"}:
        raise MalformedError(what, why="expected escrow, kind and id")
    escrow, kind, number = value["escrow"], value["kind"], value["id"]
    if kind not in set(DisputeKind) or isinstance(kind, bool):
        raise MalformedError(what, why="unknown kind of dispute")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 1 << 32:
        raise MalformedError(what, why="the id is no unsigned 32-bit number")
    if not isinstance(escrow, str) or len(escrow) != 66 or not escrow.startswith("0:"):
        raise MalformedError(what, why="the escrow is no raw address in workchain 0")
    try:
        return Address((0, bytes.fromhex(escrow[2:]))), number
    except ValueError:
        raise MalformedError(what, why="the escrow is no raw address in workchain 0") from None


def _name(hearing: Hearing) -> dict[str, Any]:
    dispute = hearing.dispute
    where = f"0:{dispute.escrow.hash_part.hex()}"
    return {"escrow": where, "kind": int(dispute.kind), "id": dispute.number}


def _opinions(opinions: Opinions) -> web.Response:
    return web.Response(body=opinions.to_bytes(), content_type="application/json")


def _answer(value: dict[str, Any]) -> web.Response:
    return web.Response(body=canonical_bytes(value), content_type="application/json")


def _error(status: int, text: str) -> web.Response:
    return web.Response(status=status, body=canonical_bytes({"error": text}), content_type="application/json")
