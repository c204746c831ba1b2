"""Ed25519 keys that sign and X25519 keys that seal, as frozen values that never show a secret.

Owns parsing, equality, printing and the refusal of unusable public keys. Must not know about files
(`cocoon_sdk.crypto.keyfiles`), mnemonics, chains or messages.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, NoReturn, TypeAlias, final

from nacl import bindings as sodium
from nacl.exceptions import CryptoError

from cocoon_sdk.errors import KeyMaterialError

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
BOX_KEY_ID_BYTES: Final = 8

_FIELD: Final = 2**255 - 19
_ORDER_EIGHT_Y: Final = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")


def _small_order_encodings() -> frozenset[bytes]:
    """Build all 14 encodings of the eight points whose order divides 8, non-canonical ones included.

    Their y coordinates are 0 (order 4), 1 (neutral), -1 (order 2) and +-y8 (order 8); 0 and 1 also fit
    in 255 bits after adding the field prime. Each comes with both values of the sign bit.
    """
    y8 = int.from_bytes(_ORDER_EIGHT_Y, "little")
    heights = (0, 1, _FIELD - 1, y8, _FIELD - y8, _FIELD, _FIELD + 1)
    return frozenset((y | sign << 255).to_bytes(KEY_BYTES, "little") for y in heights for sign in (0, 1))


SMALL_ORDER_POINTS: Final = _small_order_encodings()
"""Ed25519 public keys under which anybody can make "valid" signatures; TVM accepts them, we never do."""


class WeakPublicKeyError(KeyMaterialError):
    """A public key is all-zero, of small order, or no proper point of the curve: it protects nothing."""


def _exact(raw: bytes, size: int, what: str) -> bytes:
    if not isinstance(raw, bytes | bytearray | memoryview) or len(raw) != size:
        size_text = f"{len(raw)} bytes" if hasattr(raw, "__len__") else type(raw).__name__
        raise KeyMaterialError(what, why=f"expected {size} bytes, got {size_text}")
    return bytes(raw)


def _from_hex(text: str, what: str) -> bytes:
    # Not bytes.fromhex alone: it skips blanks, and its message quotes the text, which may be a secret.
    if not isinstance(text, str) or len(text) != 2 * KEY_BYTES or not text.isascii() or not text.isalnum():
        raise KeyMaterialError(what, why="expected 64 hexadecimal digits")
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise KeyMaterialError(what, why="expected 64 hexadecimal digits") from None


class _PublicBytes:
    """Shared behaviour of public keys: immutable, hashable, compared in constant time."""

    __slots__ = ("_raw",)
    _raw: bytes

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    @property
    def raw(self) -> bytes:
        """The 32 public bytes."""
        return self._raw

    @property
    def hex(self) -> str:
        """The public bytes as 64 lower-case hexadecimal digits."""
        return self._raw.hex()

    def __bytes__(self) -> bytes:
        return self._raw

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _PublicBytes) or type(other) is not type(self):
            return NotImplemented
        return hmac.compare_digest(self._raw, other._raw)

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._raw))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._raw.hex()})"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._raw,)


@final
class VerifyKey(_PublicBytes):
    """An ed25519 public key that is safe to trust: canonical, in the prime-order subgroup, not weak.

    Raises `WeakPublicKeyError` for a key that is all-zero, of small order or no such point, and
    `KeyMaterialError` for a wrong length.
    """

    __slots__ = ()

    def __init__(self, raw: bytes) -> None:
        raw = _exact(raw, KEY_BYTES, "cannot read an ed25519 public key")
        hint = "Ask the sender for a key made by a normal key generator"
        if raw in SMALL_ORDER_POINTS:
            raise WeakPublicKeyError("refused an ed25519 public key", why="it has small order", hint=hint)
        if not sodium.crypto_core_ed25519_is_valid_point(raw):
            why = "it is not a canonical point of the prime-order subgroup"
            raise WeakPublicKeyError("refused an ed25519 public key", why=why, hint=hint)
        object.__setattr__(self, "_raw", raw)

    @classmethod
    def from_hex(cls, text: str) -> VerifyKey:
        """Parse 64 hexadecimal digits. Raises `KeyMaterialError`."""
        return cls(_from_hex(text, "cannot read an ed25519 public key"))

    @classmethod
    def from_int(cls, number: int) -> VerifyKey:
        """Read a key from the unsigned 256-bit integer that contracts store. Raises `KeyMaterialError`."""
        if not 0 <= number < 1 << 256:
            raise KeyMaterialError("cannot read an ed25519 public key", why="not an unsigned 256-bit integer")
        return cls(number.to_bytes(KEY_BYTES, "big"))

    def to_int(self) -> int:
        """Return the big-endian integer that contracts store as `uint256`."""
        return int.from_bytes(self._raw, "big")

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Tell whether `signature` (64 bytes) over `message` was made by this key."""
        if len(signature) != SIGNATURE_BYTES:
            return False
        try:
            sodium.crypto_sign_open(bytes(signature) + bytes(message), self._raw)
        except CryptoError:
            return False
        return True


@final
class BoxPublicKey(_PublicBytes):
    """An X25519 public key to which something can be sealed.

    Raises `WeakPublicKeyError` for low-order keys (the shared secret would be known to everybody) and
    `KeyMaterialError` for a wrong length.
    """

    __slots__ = ()

    def __init__(self, raw: bytes) -> None:
        raw = _exact(raw, KEY_BYTES, "cannot read an X25519 public key")
        try:
            # Every clamped scalar is a multiple of 8, so exactly the low-order keys give the zero secret,
            # and libsodium refuses that; this also covers non-canonical encodings.
            sodium.crypto_scalarmult(b"\x01" * KEY_BYTES, raw)
        except CryptoError:
            raise WeakPublicKeyError(
                "refused an X25519 public key",
                why="it has low order",
                hint="Ask the sender for a key made by a normal key generator",
            ) from None
        object.__setattr__(self, "_raw", raw)

    @classmethod
    def from_hex(cls, text: str) -> BoxPublicKey:
        """Parse 64 hexadecimal digits. Raises `KeyMaterialError`."""
        return cls(_from_hex(text, "cannot read an X25519 public key"))

    @property
    def key_id(self) -> bytes:
        """The first 8 bytes of the key's SHA-256: says which prekey a sealed payload is for."""
        return hashlib.sha256(self._raw).digest()[:BOX_KEY_ID_BYTES]


class _SecretBytes:
    """Shared behaviour of secret keys: immutable, redacted, not picklable, compared in constant time."""

    __slots__ = ("_public", "_secret")
    _secret: bytes

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _SecretBytes) or type(other) is not type(self):
            return NotImplemented
        return hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        raise TypeError(f"{type(self).__name__} is secret: use its public key as the dictionary key")

    def __copy__(self) -> _SecretBytes:
        return self

    def __deepcopy__(self, memo: object) -> _SecretBytes:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise KeyMaterialError(
            f"refused to pickle a {type(self).__name__}",
            why="secrets must not travel in pickles",
            hint="Store it with cocoon_sdk.crypto.write_key_file",
        )

    def reveal(self) -> bytes:
        """Return the 32 secret bytes, for storage or for a wallet library; never log them."""
        return self._secret


@final
class SigningKey(_SecretBytes):
    """An ed25519 signing key from its 32-byte seed. Raises `KeyMaterialError` for a wrong length."""

    __slots__ = ()
    _public: VerifyKey

    def __init__(self, seed: bytes) -> None:
        seed = _exact(seed, KEY_BYTES, "cannot read an ed25519 seed")
        public, _ = sodium.crypto_sign_seed_keypair(seed)
        object.__setattr__(self, "_secret", seed)
        object.__setattr__(self, "_public", VerifyKey(public))

    @classmethod
    def from_seed(cls, seed: bytes) -> SigningKey:
        """Make the key of a 32-byte seed. Raises `KeyMaterialError` for a wrong length."""
        return cls(seed)

    @classmethod
    def from_hex(cls, text: str) -> SigningKey:
        """Parse a seed of 64 hexadecimal digits. Raises `KeyMaterialError`, which never shows the text."""
        return cls(_from_hex(text, "cannot read an ed25519 seed"))

    @classmethod
    def generate(cls) -> SigningKey:
        """Make a fresh key from the operating system's randomness."""
        return cls(sodium.randombytes(KEY_BYTES))

    @property
    def verify_key(self) -> VerifyKey:
        """The public half."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte ed25519 signature over `message` (for cells: over the 32-byte cell hash)."""
        signed = sodium.crypto_sign(bytes(message), self._secret + self._public.raw)
        return bytes(signed[:SIGNATURE_BYTES])

    def __repr__(self) -> str:
        return f"SigningKey(<secret>, public={self._public.hex})"


@final
class BoxKey(_SecretBytes):
    """An X25519 key pair from its 32 secret bytes: a worker's prekey or a client's key for one job.

    Raises `KeyMaterialError` for a wrong length.
    """

    __slots__ = ()
    _public: BoxPublicKey

    def __init__(self, secret: bytes) -> None:
        secret = _exact(secret, KEY_BYTES, "cannot read an X25519 secret key")
        object.__setattr__(self, "_secret", secret)
        object.__setattr__(self, "_public", BoxPublicKey(bytes(sodium.crypto_scalarmult_base(secret))))

    @classmethod
    def from_hex(cls, text: str) -> BoxKey:
        """Parse 64 hexadecimal digits. Raises `KeyMaterialError`, which never shows the text."""
        return cls(_from_hex(text, "cannot read an X25519 secret key"))

    @classmethod
    def generate(cls) -> BoxKey:
        """Make a fresh key pair from the operating system's randomness."""
        return cls(sodium.randombytes(KEY_BYTES))

    @property
    def public_key(self) -> BoxPublicKey:
        """The public half."""
        return self._public

    @property
    def key_id(self) -> bytes:
        """The 8-byte id of the public half."""
        return self._public.key_id

    def __repr__(self) -> str:
        return f"BoxKey(<secret>, public={self._public.hex})"


SecretKey: TypeAlias = SigningKey | BoxKey
"""Whatever a key file may hold."""
