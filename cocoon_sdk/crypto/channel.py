"""An encrypted channel between a client and a worker: who the worker is comes from the chain, not from a CA.

Owns the handshake and the sealing of messages in order. Must not know what the messages say, how bytes
travel, or where the worker's key was read. SIGMA-I (Krawczyk 2003) over X25519 with ed25519 signatures, then
libsodium's secretstream (XChaCha20-Poly1305) once in each direction:

    client -> worker   version | client's ephemeral key
    worker -> client   version | worker's ephemeral key | stream header | signature of the operator key
    client -> worker   stream header | first sealed message, which carries the client's own signature

Both signatures cover the transcript: version, both ephemeral keys, the network and the worker's account. Keys
follow from the ephemeral secrets and the transcript, so recorded traffic stays sealed when a signing key
leaks later. A message that was altered, dropped, repeated or moved does not open, and ends the channel.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, final

from nacl import bindings as sodium
from nacl.exceptions import CryptoError

from cocoon_sdk.crypto.keys import KEY_BYTES, SIGNATURE_BYTES, BoxKey, BoxPublicKey, SigningKey, VerifyKey
from cocoon_sdk.errors import DecryptionError, KeyMaterialError, MalformedError

CHANNEL_VERSION: Final = 1
CHANNEL_OVERHEAD_BYTES: Final = int(sodium.crypto_secretstream_xchacha20poly1305_ABYTES)
MAX_CHANNEL_MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""Largest text of one message; both sides refuse more before they decrypt."""

_HEADER_BYTES: Final = int(sodium.crypto_secretstream_xchacha20poly1305_HEADERBYTES)
_MESSAGE_TAG: Final = int(sodium.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE)
_STREAM_KEY_BYTES: Final = int(sodium.crypto_secretstream_xchacha20poly1305_KEYBYTES)
_HELLO_BYTES: Final = 1 + KEY_BYTES
_REPLY_BYTES: Final = 1 + KEY_BYTES + _HEADER_BYTES + SIGNATURE_BYTES
_TRANSCRIPT: Final = b"cocoon.v1.channel"
_BY_WORKER: Final = b"cocoon.v1.channel.worker"
_BY_CLIENT: Final = b"cocoon.v1.channel.client"


class HandshakeError(DecryptionError):
    """The other side is not who it should be, or does not speak this version of the channel."""


@dataclass(frozen=True, slots=True)
class WorkerName:
    """Which worker a channel leads to: the account id of its stake on one network.

    Raises `MalformedError` for numbers that no network or account has.
    """

    global_id: int
    account: bytes

    def __post_init__(self) -> None:
        if len(self.account) != KEY_BYTES or not -(1 << 31) <= self.global_id < 1 << 31:
            raise MalformedError("cannot name the worker", why="account or network id is out of bounds")


@final
class Channel:
    """Seals what goes out and opens what comes in, each in order. `binding` is the transcript's hash.

    Not safe to share between threads. After the first message that does not open it opens nothing more: what
    an attacker put in between cannot be skipped over.
    """

    __slots__ = ("_pull", "_push", "_ready", "_unsent_header", "binding")

    def __init__(
        self, binding: bytes, send_key: bytes, receive_key: bytes, peer_header: bytes | None
    ) -> None:
        self.binding = binding
        self._push = sodium.crypto_secretstream_xchacha20poly1305_state()
        header = sodium.crypto_secretstream_xchacha20poly1305_init_push(self._push, send_key)
        self._unsent_header = bytes(header)
        self._pull = sodium.crypto_secretstream_xchacha20poly1305_state()
        self._ready = False
        if peer_header is not None:
            self.begin_opening(peer_header, receive_key)

    def __repr__(self) -> str:
        return f"Channel(binding={self.binding.hex()[:16]})"

    def take_header(self) -> bytes:
        """Return this side's stream header, once, for the handshake."""
        header, self._unsent_header = self._unsent_header, b""
        return header

    def begin_opening(self, header: bytes, key: bytes) -> None:
        """Take the peer's stream header: a step of the handshake."""
        sodium.crypto_secretstream_xchacha20poly1305_init_pull(self._pull, header, key)
        self._ready = True

    def seal(self, text: bytes) -> bytes:
        """Encrypt the next message. Raises `MalformedError` when it exceeds `MAX_CHANNEL_MESSAGE_BYTES`."""
        if len(text) > MAX_CHANNEL_MESSAGE_BYTES:
            raise MalformedError(
                "cannot send the message", why=f"{len(text)} bytes exceed {MAX_CHANNEL_MESSAGE_BYTES}"
            )
        sealed = sodium.crypto_secretstream_xchacha20poly1305_push(self._push, text)
        return self.take_header() + bytes(sealed) if self._unsent_header else bytes(sealed)

    def open(self, sealed: bytes) -> bytes:
        """Decrypt the next message. Raises `DecryptionError` for anything but exactly that."""
        ready, self._ready = self._ready, False
        if not ready:
            raise _unopened("the channel is not open, or was ended by a message before")
        if not CHANNEL_OVERHEAD_BYTES <= len(sealed) <= MAX_CHANNEL_MESSAGE_BYTES + CHANNEL_OVERHEAD_BYTES:
            raise _unopened("its size is out of bounds")
        try:
            text, tag = sodium.crypto_secretstream_xchacha20poly1305_pull(self._pull, sealed)
        except CryptoError:
            raise _unopened("it was altered, repeated or lost on the way") from None
        if tag != _MESSAGE_TAG:
            raise _unopened("it carries a tag that this version does not use")
        self._ready = True
        return bytes(text)


@final
class ClientHandshake:
    """The client's side: send `hello`, give the answer to `finish`. `ephemeral` is given by tests only."""

    __slots__ = ("_key", "_worker", "hello")

    def __init__(self, worker: WorkerName, *, ephemeral: BoxKey | None = None) -> None:
        self._worker = worker
        self._key = ephemeral or BoxKey.generate()
        self.hello = bytes([CHANNEL_VERSION]) + self._key.public_key.raw

    def finish(self, reply: bytes, operator: VerifyKey) -> Channel:
        """Check the worker's answer against its operator key on chain. Raises `HandshakeError`."""
        if len(reply) != _REPLY_BYTES or reply[0] != CHANNEL_VERSION:
            raise _refused("the worker's answer has another form", "It may run another version")
        theirs, rest = _public(reply[1 : 1 + KEY_BYTES]), reply[1 + KEY_BYTES :]
        header, signature = rest[:_HEADER_BYTES], rest[_HEADER_BYTES:]
        binding = _binding(self._worker, self._key.public_key, theirs)
        if not operator.verify(_BY_WORKER + binding, signature):
            raise _refused("the answer is not signed by the worker's operator key", "Read its stake again")
        to_worker, to_client = _stream_keys(self._key, theirs, binding)
        return Channel(binding, to_worker, to_client, header)


@final
class WorkerHandshake:
    """The worker's side: give it the client's hello, send `reply`, then `open_first` what comes."""

    __slots__ = ("_receive_key", "channel", "reply")

    def __init__(
        self, hello: bytes, worker: WorkerName, operator: SigningKey, *, ephemeral: BoxKey | None = None
    ) -> None:
        if len(hello) != _HELLO_BYTES or hello[0] != CHANNEL_VERSION:
            raise _refused("the client's first message has another form", "It may run another version")
        theirs, key = _public(hello[1:]), ephemeral or BoxKey.generate()
        binding = _binding(worker, theirs, key.public_key)
        to_worker, to_client = _stream_keys(key, theirs, binding)
        self._receive_key: bytes | None = to_worker
        self.channel = Channel(binding, to_client, to_worker, None)
        signature = operator.sign(_BY_WORKER + binding)
        self.reply = bytes([CHANNEL_VERSION]) + key.public_key.raw + self.channel.take_header() + signature

    def open_first(self, message: bytes) -> bytes:
        """Open the client's first message, in front of which its stream header stands; works once.

        Raises `DecryptionError`.
        """
        key, self._receive_key = self._receive_key, None
        header, sealed = message[:_HEADER_BYTES], message[_HEADER_BYTES:]
        # A second beginning would let the first message be played again.
        if key is None or len(header) != _HEADER_BYTES:
            raise _unopened("it is too short, or not the first")
        self.channel.begin_opening(header, key)
        return self.channel.open(sealed)


def client_proof(binding: bytes, content: bytes) -> bytes:
    """Return what a client signs inside the channel to show that it holds a key: bound to this channel."""
    return _BY_CLIENT + binding + content


def _public(raw: bytes) -> BoxPublicKey:
    try:
        return BoxPublicKey(raw)
    except KeyMaterialError as error:
        raise _refused(f"its ephemeral key is unusable ({error.why})", "Connect again") from None


def _binding(worker: WorkerName, client: BoxPublicKey, answer: BoxPublicKey) -> bytes:
    content = (
        bytes([CHANNEL_VERSION]),
        worker.global_id.to_bytes(4, "big", signed=True),
        worker.account,
        client.raw,
        answer.raw,
    )
    return hashlib.sha256(_TRANSCRIPT + b"".join(content)).digest()


def _stream_keys(mine: BoxKey, theirs: BoxPublicKey, binding: bytes) -> tuple[bytes, bytes]:
    """Return the keys towards the worker and towards the client."""
    shared = bytes(sodium.crypto_scalarmult(mine.reveal(), theirs.raw))
    both = hashlib.blake2b(
        shared + binding, digest_size=2 * _STREAM_KEY_BYTES, person=b"cocoon.channel.1"
    ).digest()
    return both[:_STREAM_KEY_BYTES], both[_STREAM_KEY_BYTES:]


def _unopened(why: str) -> DecryptionError:
    return DecryptionError("cannot open the message", why=why, hint="Connect again")


def _refused(why: str, hint: str) -> HandshakeError:
    return HandshakeError("cannot make an encrypted channel", why=why, hint=hint)
