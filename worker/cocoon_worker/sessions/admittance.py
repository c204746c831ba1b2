"""How a connection becomes a session's: the handshake, and the look at the chain.

Owns these two steps. Must not know ledgers, requests or who else is connected.
"""

from __future__ import annotations

from typing import Final

from aiohttp import WSMsgType, web

from cocoon_sdk.crypto.channel import Channel, WorkerHandshake, WorkerName, client_proof
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.errors import ChainError, MalformedError
from cocoon_sdk.protocol.session_wire import ClientFrame, Failed, FailureCode, Hello, read_client_frames
from cocoon_worker.context import Context
from cocoon_worker.sessions.account import failure
from cocoon_worker.sessions.errors import SessionRefusedError, UnknownSessionError
from cocoon_worker.sessions.survey import SessionFacts, check_serveable

RETRY_S: Final = 5


class EndError(Exception):
    """This connection ends, with that frame."""

    def __init__(self, last: Failed) -> None:
        super().__init__(last.code)
        self.last = last


async def shake_hands(
    socket: web.WebSocketResponse, name: WorkerName, operator: SigningKey
) -> tuple[Channel, Hello, list[ClientFrame]]:
    """Make the channel; return it with the client's Hello and the frames that came with it.

    Raises `DecryptionError` or `MalformedError`.
    """
    handshake = WorkerHandshake(await _bytes(socket), name, operator)
    await socket.send_bytes(handshake.reply)
    frames = read_client_frames(handshake.open_first(await _bytes(socket)))
    if not frames or not isinstance(frames[0], Hello):
        raise MalformedError("cannot begin the session", why="the first frame is no Hello")
    return handshake.channel, frames[0], frames[1:]


async def find_session(context: Context, hello: Hello, binding: bytes) -> SessionFacts:
    """Return the session as the chain has it. Raises `EndError` unless it is the client's and serveable."""
    account = int.from_bytes(hello.escrow, "big")
    try:
        facts = await context.sessions.survey.look(account, hello.session_id)
        # Before anything is told, kept or read anew: whoever asks has to be the session's client.
        if not facts.voucher_key.verify(client_proof(binding, facts.ref.to_bytes()), hello.proof):
            raise EndError(failure(FailureCode.SESSION, "the proof is not by the session's voucher key"))
        if hello.amount > facts.deposit:
            facts = await context.sessions.survey.look(account, hello.session_id, max_age_s=0)
        check_serveable(facts, context.time.maybe(), context.config.sessions.least_left_s)
    except UnknownSessionError as error:
        raise EndError(failure(FailureCode.SESSION, str(error), retry_after_s=RETRY_S)) from None
    except SessionRefusedError as error:
        raise EndError(failure(FailureCode.SESSION, str(error))) from None
    except ChainError:
        why = "the worker cannot read the chain now"
        raise EndError(failure(FailureCode.BUSY, why, retry_after_s=RETRY_S)) from None
    return facts


def cannot_write() -> Failed:
    """Return what a client is told when its voucher cannot be kept."""
    return failure(FailureCode.INTERNAL, "the worker cannot write its journal", retry_after_s=60)


async def _bytes(socket: web.WebSocketResponse) -> bytes:
    message = await socket.receive()
    if message.type is not WSMsgType.BINARY:
        raise MalformedError("cannot begin the session", why="no binary message came")
    data: bytes = message.data
    return data
