"""The beginning of a link: both sides show who they are, and agree on what was counted so far.

Owns the handshake, `Hello` and `Welcome`, and what a link needs of a session. Must not know requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import aiohttp

from cocoon_sdk.client.sessions.errors import (
    DishonestWorkerError,
    SessionUsedUpError,
    StaleSessionError,
    WorkerLostError,
)
from cocoon_sdk.client.sessions.links import failures
from cocoon_sdk.crypto.channel import Channel, ClientHandshake, WorkerName, client_proof
from cocoon_sdk.crypto.keys import SigningKey, VerifyKey
from cocoon_sdk.protocol import session_wire as wire
from cocoon_sdk.protocol.metering import ClientLedger
from cocoon_sdk.protocol.vouchers import SessionRef, Voucher

_LAST_RID: Final = (1 << 53) - 1 - wire.MAX_REQUESTS


class PaidSession(Protocol):
    """What a link needs of a session that this process holds (`HeldSession`).

    `ledger` is one object as long as the session is held, `best` the best voucher that was given, `next_rid`
    the number of the next request. `greeted` tells that its worker has agreed on that number before.
    """

    ref: SessionRef
    voucher_key: SigningKey
    ledger: ClientLedger
    best: Voucher | None
    next_rid: int
    greeted: bool

    async def sign(self, amount: int) -> Voucher:
        """Sign a voucher and keep it; it is on disk when this returns. Raises `CocoonError`."""
        ...

    async def save(self) -> None:
        """Keep what came so far, and the number of the next request. Raises `CocoonError`."""
        ...

    def wear_out(self) -> None:
        """Note that another session has to take new requests."""
        ...


@dataclass(frozen=True, slots=True)
class Greeting:
    """An authenticated channel, and what else the worker said in its first message."""

    channel: Channel
    rest: Sequence[wire.WorkerFrame]


async def greet(
    socket: aiohttp.ClientWebSocketResponse, session: PaidSession, operator: VerifyKey
) -> Greeting:
    """Authenticate both sides, and take over the worker's count.

    Raises `CocoonError`: `HandshakeError` for somebody else than the worker, `StaleSessionError` when another
    process signed meanwhile, `MeteringError` for counts that cannot be, or what the worker says against it.
    """
    ref, ledger, best = session.ref, session.ledger, session.best
    handshake = ClientHandshake(WorkerName(ref.domain.global_id, bytes(ref.worker.hash_part)))
    await socket.send_bytes(handshake.hello)
    channel = handshake.finish(await _receive(socket), operator)
    hello = wire.Hello(
        escrow=bytes(ref.domain.contract.hash_part),
        session_id=ref.session_id,
        proof=session.voucher_key.sign(client_proof(channel.binding, ref.to_bytes())),
        amount=0 if best is None else int(best.amount),
        signature=b"" if best is None else best.signature,
        accounted=ledger.accounted,
    )
    await socket.send_bytes(channel.seal(wire.encode_frames([hello])))
    frames = wire.read_worker_frames(channel.open(await _receive(socket)))
    _welcomed(frames[0] if frames else None, session)
    return Greeting(channel, frames[1:])


def _welcomed(first: wire.WorkerFrame | None, session: PaidSession) -> None:
    if isinstance(first, wire.Failed) and first.rid == 0:
        raise failures.of_frame(first)
    if not isinstance(first, wire.Welcome):
        raise DishonestWorkerError("the worker is not honest", why="it did not greet")
    if first.signed > session.ledger.signed:
        why = "the worker has a better voucher than this process gave"
        raise StaleSessionError("another process uses the session", why=why)
    if first.signed < session.ledger.signed:
        raise DishonestWorkerError("the worker is not honest", why="it did not take the best voucher")
    if session.greeted and first.next_rid > session.next_rid:
        # It would tear the answers apart that its receipts are judged by in a row.
        raise DishonestWorkerError("the worker is not honest", why="it counts requests that nobody sent")
    session.ledger.resume(first.booked)
    session.next_rid, session.greeted = max(session.next_rid, first.next_rid), True
    if session.next_rid >= _LAST_RID:
        raise SessionUsedUpError("the session is used up", why="its numbers of requests are")


async def _receive(socket: aiohttp.ClientWebSocketResponse) -> bytes:
    while True:
        message = await socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            return bytes(message.data)
        if message.type is aiohttp.WSMsgType.PING:
            await socket.pong(message.data)
        elif message.type is not aiohttp.WSMsgType.PONG:
            raise WorkerLostError("cannot talk to the worker", why="it closed the connection")
