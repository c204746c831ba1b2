"""TON mnemonics: 24 words that stand for one ed25519 wallet key.

Owns validation and derivation; the word list and the derivation itself are pytoniq-core's, so the same
words give the same wallet everywhere. Must not know about files. No error ever repeats a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pytoniq_core.crypto.keys import mnemonic_is_valid, mnemonic_new, mnemonic_to_private_key
from pytoniq_core.crypto.keys import words as _WORD_LIST

from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.errors import KeyMaterialError

MNEMONIC_WORDS: Final = 24
_MAX_TEXT: Final = 1024
_KNOWN: Final = frozenset(_WORD_LIST)


def new_mnemonic() -> tuple[str, ...]:
    """Make 24 fresh words from the operating system's randomness; whoever reads them owns the wallet."""
    return tuple(mnemonic_new(MNEMONIC_WORDS))


def parse_mnemonic(words: str | Sequence[str]) -> tuple[str, ...]:
    """Check a mnemonic, given as one text or as words, and return its words in lower case.

    Raises `KeyMaterialError` that says which rule failed (and at which positions), never which word.
    """
    what = "cannot use the mnemonic"
    if isinstance(words, str):
        if len(words) > _MAX_TEXT:
            raise KeyMaterialError(what, why="the text is far too long for 24 words")
        words = words.split()
    if len(words) != MNEMONIC_WORDS or not all(isinstance(word, str) for word in words):
        raise KeyMaterialError(what, why=f"expected {MNEMONIC_WORDS} words, got {len(words)}")
    clean = tuple(word.strip().lower() for word in words)
    unknown = [str(position) for position, word in enumerate(clean, 1) if word not in _KNOWN]
    if unknown:
        raise KeyMaterialError(
            what,
            why=f"not in the word list: word number {', '.join(unknown)}",
            hint="Check those words for typing mistakes",
        )
    if not mnemonic_is_valid(list(clean)):
        raise KeyMaterialError(
            what,
            why="every word exists but the check of the whole fails",
            hint="Check the order; mnemonics protected by a password are not supported",
        )
    return clean


def signing_key_from_mnemonic(words: str | Sequence[str]) -> SigningKey:
    """Derive the wallet key of a mnemonic (takes about 0.1 s by design). Raises `KeyMaterialError`."""
    _, private = mnemonic_to_private_key(list(parse_mnemonic(words)))
    return SigningKey.from_seed(bytes(private[:32]))
