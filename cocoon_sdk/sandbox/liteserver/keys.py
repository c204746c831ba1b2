"""The server's ADNL identity and the handshake: who may open a session, and with which secrets.

Owns the Ed25519 key, the id clients address it by and the 256 bytes that open a connection. Knows nothing of
sockets or of what is said afterwards.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from nacl.bindings import crypto_scalarmult
from nacl.exceptions import CryptoError
from nacl.signing import SigningKey, VerifyKey
from pytoniq_core.crypto.ciphers import create_aes_ctr_cipher

from cocoon_sdk.sandbox.liteserver.errors import WireError

HANDSHAKE_BYTES = 256
SECRET_BYTES = 160
SEED_BYTES = 32
_ED25519_KEY_PREFIX = bytes.fromhex("c6b41348")  # the TL constructor pub.ed25519
DEFAULT_SEED = hashlib.sha256(b"sandbox liteserver").digest()
"""Seed of the key that a sandbox's server has unless told otherwise: a configuration file written once stays
valid, and what listens on loopback has nothing to hide."""


class ServerKey:
    """An Ed25519 key that clients recognise the server by, from its 32-byte seed."""

    def __init__(self, seed: bytes = DEFAULT_SEED) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a server key's seed has {SEED_BYTES} bytes, not {len(seed)}")
        key = SigningKey(seed)
        self.public = bytes(key.verify_key)
        self.short_id = hashlib.sha256(_ED25519_KEY_PREFIX + self.public).digest()
        self._x25519 = key.to_curve25519_private_key().encode()

    @property
    def public_base64(self) -> str:
        """The public key as configuration files carry it."""
        return base64.b64encode(self.public).decode()

    def open(self, packet: bytes) -> bytes:
        """Decrypt a handshake; return the 160 secret bytes of the session. Raises `WireError`."""
        if len(packet) != HANDSHAKE_BYTES or packet[:32] != self.short_id:
            raise WireError(
                "a handshake was refused",
                why="it is meant for another key",
                hint="use the public key of the global config that this server wrote",
            )
        checksum = packet[64:96]
        try:
            peer = VerifyKey(packet[32:64]).to_curve25519_public_key().encode()
            shared = crypto_scalarmult(self._x25519, peer)
        except (CryptoError, RuntimeError) as error:
            raise WireError("a handshake was refused", why="its key is not a point of the curve") from error
        cipher = create_aes_ctr_cipher(shared[:16] + checksum[16:], checksum[:4] + shared[20:])
        secret: bytes = cipher.decrypt(packet[96:])
        if not hmac.compare_digest(hashlib.sha256(secret).digest(), checksum):
            raise WireError("a handshake was refused", why="its checksum is wrong")
        return secret
