"""24 words for a name: mnemonics of play wallets, the same in every run.

Owns nothing but finding words that wallets take. They are public knowledge, as the names are.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache

from pytoniq_core.crypto.keys import mnemonic_to_private_key
from pytoniq_core.crypto.keys import words as _WORD_LIST

_WORDS = 24
_CHECK_SALT = b"TON seed version"
_CHECK_ROUNDS = 390


@lru_cache(maxsize=256)
def words_of(name: str) -> tuple[str, ...]:
    """Return the mnemonic of a name. Takes about 0.1 s, once per name: one of 256 attempts is valid."""
    attempt = 0
    while True:
        digest = hashlib.sha512(f"sandbox words {attempt}: {name}".encode()).digest()
        places = (int.from_bytes(digest[2 * i : 2 * i + 2], "big") for i in range(_WORDS))
        found = tuple(_WORD_LIST[place % len(_WORD_LIST)] for place in places)
        entropy = hmac.digest(" ".join(found).encode(), b"", "sha512")
        if hashlib.pbkdf2_hmac("sha512", entropy, _CHECK_SALT, _CHECK_ROUNDS)[0] == 0:
            return found
        attempt += 1


@lru_cache(maxsize=256)
def seed_of(words: tuple[str, ...]) -> bytes:
    """Return the 32-byte Ed25519 seed of a mnemonic's key; slow by design."""
    return bytes(mnemonic_to_private_key(list(words))[1][:32])
