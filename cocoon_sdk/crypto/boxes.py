"""Sealed boxes: NaCl box (X25519, XSalsa20-Poly1305) with the length hidden in buckets.

Owns encryption, authentication and padding of one message. Must not know what is inside, who pays for
it, or how keys are announced.

A box is `nonce (24) | authenticator (16) | ciphertext`. The text is padded before sealing with one 0x80
byte and zeros (ISO/IEC 7816-4) up to the next bucket: at least 256 bytes, above that the Padme rule, which
keeps only the leading bits of a length and wastes at most 12 percent. An observer learns the bucket only.
"""

from __future__ import annotations

from typing import Final

from nacl import bindings as sodium
from nacl.exceptions import CryptoError

from cocoon_sdk.crypto.keys import BoxKey, BoxPublicKey
from cocoon_sdk.errors import DecryptionError, MalformedError

NONCE_BYTES: Final = int(sodium.crypto_box_NONCEBYTES)
BOX_OVERHEAD_BYTES: Final = NONCE_BYTES + int(sodium.crypto_secretbox_MACBYTES)
MIN_BUCKET_BYTES: Final = 256
MAX_BOX_TEXT_BYTES: Final = 32 * 1024 * 1024
"""Largest text one box takes; more is sent as several items or by reference."""


def bucket_bytes(text_bytes: int) -> int:
    """Return the padded size, in bytes, of a text of `text_bytes`: always larger, since the end is marked."""
    size = text_bytes + 1
    if size <= MIN_BUCKET_BYTES:
        return MIN_BUCKET_BYTES
    exponent = size.bit_length() - 1
    step = 1 << (exponent - exponent.bit_length())
    return -(-size // step) * step


def sealed_bytes(text_bytes: int) -> int:
    """Return the size, in bytes, of the box that holds a text of `text_bytes`."""
    return BOX_OVERHEAD_BYTES + bucket_bytes(text_bytes)


MAX_BOX_BYTES: Final = sealed_bytes(MAX_BOX_TEXT_BYTES)


def seal(text: bytes, sender: BoxKey, recipient: BoxPublicKey) -> bytes:
    """Encrypt and authenticate `text` from `sender` to `recipient`, with a fresh random nonce.

    Raises `MalformedError` when the text exceeds `MAX_BOX_TEXT_BYTES`.
    """
    if len(text) > MAX_BOX_TEXT_BYTES:
        raise MalformedError(
            "cannot seal the text",
            why=f"{len(text)} bytes exceed the limit of {MAX_BOX_TEXT_BYTES}",
            hint="Split it into several jobs",
        )
    padded = (bytes(text) + b"\x80").ljust(bucket_bytes(len(text)), b"\0")
    nonce = bytes(sodium.randombytes(NONCE_BYTES))
    return nonce + bytes(sodium.crypto_box(padded, nonce, recipient.raw, sender.reveal()))


def open_box(box: bytes, recipient: BoxKey, sender: BoxPublicKey) -> bytes:
    """Decrypt what `seal` made and return the text.

    Raises `DecryptionError` for a wrong key, altered or truncated bytes, or padding that `seal` never makes.
    """
    what = "cannot open the sealed box"
    if not BOX_OVERHEAD_BYTES + MIN_BUCKET_BYTES <= len(box) <= MAX_BOX_BYTES:
        raise DecryptionError(what, why=f"no box has {len(box)} bytes")
    nonce, sealed = bytes(box[:NONCE_BYTES]), bytes(box[NONCE_BYTES:])
    try:
        padded = bytes(sodium.crypto_box_open(sealed, nonce, sender.raw, recipient.reveal()))
    except CryptoError:
        hint = "Check that both sides use the announced keys; otherwise the bytes were altered on the way"
        raise DecryptionError(what, why="it does not authenticate", hint=hint) from None
    text = padded.rstrip(b"\0")
    # One text has exactly one padded form: a second one would let a sender hide data in the padding.
    if text[-1:] != b"\x80" or bucket_bytes(len(text) - 1) != len(padded):
        raise DecryptionError(what, why="the padding is wrong")
    return text[:-1]
