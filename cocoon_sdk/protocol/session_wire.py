"""What a client and a worker say to each other inside a session's channel (docs/sessions.md).

Owns the frames, their bounds and their bytes: MessagePack, several frames in one message, so that what is
produced in one step of an engine is sealed and sent once. Must not know sockets, encryption, or what a frame
leads to. Reading is strict: types, sizes and the tag of each frame are checked before anybody sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.types import Nano

SESSION_PATH: Final = "/v1/session"
"""Where a worker's endpoint takes WebSocket connections."""
SUBPROTOCOL: Final = "cocoon.session.v1"

MAX_FRAMES: Final = 1024
MAX_BODY_BYTES: Final = 1 << 20
"""Largest request body, and largest piece of an answer."""
MAX_REQUESTS: Final = 256
"""Most requests under way in one session at a time."""
MAX_TEXT: Final = 1000

Amount = Annotated[int, Meta(ge=0, le=(1 << 53) - 1)]
Count = Annotated[int, Meta(ge=0, le=1 << 40)]
RequestId = Annotated[int, Meta(ge=1, le=(1 << 53) - 1)]
Hash32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
Body = Annotated[bytes, Meta(max_length=MAX_BODY_BYTES)]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Name = Annotated[str, Meta(pattern=r"\A[a-z0-9._-]{1,64}\Z")]


class _Frame(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    pass


# -- client to worker --------------------------------------------------------------------------------------


class Hello(_Frame, frozen=True, tag=1):
    """First of all: which session, and the proof (by its voucher key) that it is ours.

    `proof` signs the channel's binding and the session (`client_proof(binding, SessionRef.to_bytes())`).
    `amount` and `signature` are the best voucher that the client has given (0 and empty: none yet).
    `accounted` is what it has got for it by its own count, in nanoTON.
    """

    escrow: Hash32
    session_id: Annotated[int, Meta(ge=1, le=0xFFFF_FFFF)]
    proof: Signature
    amount: Amount
    signature: Annotated[bytes, Meta(max_length=64)]
    accounted: Amount

    def __post_init__(self) -> None:
        if len(self.signature) != (64 if self.amount else 0):
            raise ValueError("an amount comes with its signature of 64 bytes, 0 with none")


class Ask(_Frame, frozen=True, tag=2):
    """One request. `rid` counts up from 1 over the session's whole life. `body` is the OpenAI body in JSON.

    `stream` asks for pieces as they are made; without it the worker may still answer in pieces.
    """

    rid: RequestId
    kind: Name
    terms_hash: Hash32
    stream: bool
    body: Body


class Pay(_Frame, frozen=True, tag=3):
    """A voucher: the cumulative amount in nanoTON, and the voucher key's signature."""

    amount: Amount
    signature: Signature


class Cancel(_Frame, frozen=True, tag=4):
    """Stop a request; what it has used up is still owed."""

    rid: RequestId


class Prove(_Frame, frozen=True, tag=5):
    """The commitment to how this request's answer is made is wanted: `Proof` comes before `Done`.

    Sent while the request is under way, best behind its `Ask`.
    """

    rid: RequestId


# -- worker to client --------------------------------------------------------------------------------------


class Welcome(_Frame, frozen=True, tag=16):
    """The session is known. `signed` is the worker's best voucher, `booked` what is used up by its count.

    `next_rid` is the lowest number that a request may carry. `max_unpaid` is what the worker does at most
    before it is paid, in nanoTON.
    """

    signed: Amount
    booked: Amount
    next_rid: RequestId
    max_unpaid: Amount


class Delta(_Frame, frozen=True, tag=17):
    """A piece of an answer, and the tokens of this request so far.

    For a streamed request `data` is the JSON of one event of the OpenAI stream (without `data: `); else the
    whole body, or one event at a time where the worker chose to answer in pieces (`piece`).
    """

    rid: RequestId
    input_tokens: Count
    cached_input_tokens: Count
    output_tokens: Count
    piece: bool
    data: Body

    def __post_init__(self) -> None:
        _check_cached(self.cached_input_tokens, self.input_tokens)


class Done(_Frame, frozen=True, tag=18):
    """An answer is complete, or was ended by `Cancel`: the receipt over everything sent (`Receipt`).

    `total` is what the session has used up with it. Comes with the last piece, before the last increment is
    paid.
    """

    rid: RequestId
    input_tokens: Count
    cached_input_tokens: Count
    output_tokens: Count
    charged: Amount
    total: Amount
    proof_hash: Hash32
    signature: Signature
    cancelled: bool

    def __post_init__(self) -> None:
        _check_cached(self.cached_input_tokens, self.input_tokens)


class Due(_Frame, frozen=True, tag=19):
    """The worker waits: it goes on when the signed amount reaches `amount`, in nanoTON."""

    amount: Amount


class Failed(_Frame, frozen=True, tag=20):
    """A request ended without an answer (rid 0: the session itself). What was sent of it stays owed.

    `code` is a `FailureCode`; `retry_after_s` is set when the same request may be sent again.
    """

    rid: Annotated[int, Meta(ge=0, le=(1 << 53) - 1)]
    code: Name
    why: Text
    charged: Amount
    retry_after_s: Annotated[int, Meta(ge=0, le=86400)] | None


class Leaving(_Frame, frozen=True, tag=21):
    """The worker takes no new requests on this connection; what is under way is finished."""

    why: Text


class Proof(_Frame, frozen=True, tag=22):
    """How an answer was made, behind its last piece: what `proof_hash` in the `Done` that follows commits to.

    `data` is the canonical JSON of a `cocoon_sdk.verify.commitment.Commitment`.
    """

    rid: RequestId
    data: Body


ClientFrame: TypeAlias = Hello | Ask | Pay | Cancel | Prove
WorkerFrame: TypeAlias = Welcome | Delta | Done | Due | Failed | Leaving | Proof


class FailureCode:
    """Why a request or session failed, as `Failed.code` says it. Unknown codes count as `INTERNAL`."""

    BAD_REQUEST: Final = "bad_request"
    """The request itself; no worker will serve it."""
    UNKNOWN_TERMS: Final = "unknown_terms"
    """The worker does not offer these terms (any more): read its announcement again."""
    TOO_DEAR: Final = "too_dear"
    """The prompt alone costs more than the worker does unpaid."""
    WORN: Final = "worn"
    """Too much of what the worker does unpaid is lost already: another session would do."""
    BUSY: Final = "busy"
    ENGINE: Final = "engine"
    """The engine failed or was cut off in the middle."""
    UNPAID: Final = "unpaid"
    """No voucher came in time."""
    BAD_VOUCHER: Final = "bad_voucher"
    SESSION: Final = "session"
    """The session is unknown, closing, expired, used up, or not the client's."""
    REPLACED: Final = "replaced"
    """Another connection of the same session took over."""
    INTERNAL: Final = "internal"


def _plain(value: object) -> int:
    if isinstance(value, Nano):
        return int(value)
    raise NotImplementedError


# Money is an integer of its own kind, which MessagePack does not know.
_encoder: Final = msgspec.msgpack.Encoder(enc_hook=_plain)
_from_client: Final = msgspec.msgpack.Decoder(Annotated[list[ClientFrame], Meta(max_length=MAX_FRAMES)])
_from_worker: Final = msgspec.msgpack.Decoder(Annotated[list[WorkerFrame], Meta(max_length=MAX_FRAMES)])


_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def encode_frames(frames: Sequence[ClientFrame | WorkerFrame]) -> bytes:
    """Return one message that carries the frames in order."""
    return _encoder.encode(frames)


def read_client_frames(message: bytes) -> list[ClientFrame]:
    """Read what a client sent. Raises `MalformedError`."""
    try:
        frames: list[ClientFrame] = _from_client.decode(message)
    except _UNREADABLE as error:
        raise _malformed(error) from None
    return frames


def read_worker_frames(message: bytes) -> list[WorkerFrame]:
    """Read what a worker sent. Raises `MalformedError`."""
    try:
        frames: list[WorkerFrame] = _from_worker.decode(message)
    except _UNREADABLE as error:
        raise _malformed(error) from None
    return frames


def _check_cached(cached: int, all_input: int) -> None:
    # Else the price, where cached tokens are taken off the input, could fall below zero.
    if cached > all_input:
        raise ValueError("more input tokens are cached than there are")


def _malformed(error: Exception) -> MalformedError:
    return MalformedError("cannot read the message", why=str(error)[:200], hint="The other side may be newer")
