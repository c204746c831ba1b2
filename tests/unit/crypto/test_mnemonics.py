"""TON mnemonics: compatible with other libraries, and silent about the words."""

from __future__ import annotations

import pytest
from tonsdk.contract.wallet import Wallets, WalletVersionEnum

from cocoon_sdk.crypto import new_mnemonic, parse_mnemonic, signing_key_from_mnemonic
from cocoon_sdk.errors import KeyMaterialError


@pytest.fixture(scope="module")
def words() -> tuple[str, ...]:
    return new_mnemonic()


def test_owner_can_use_the_same_words_when_another_library_made_the_wallet(words: tuple[str, ...]) -> None:
    _, public, private, _ = Wallets.from_mnemonics(list(words), WalletVersionEnum.v4r2)
    key = signing_key_from_mnemonic(words)
    assert key.verify_key.raw == public
    assert key.reveal() == private[:32]


def test_owner_can_paste_words_when_case_and_blanks_differ(words: tuple[str, ...]) -> None:
    assert parse_mnemonic("  " + "\n ".join(words).upper() + " ") == words


def test_owner_cannot_use_words_when_one_is_missing(words: tuple[str, ...]) -> None:
    with pytest.raises(KeyMaterialError, match="expected 24 words, got 23"):
        parse_mnemonic(words[:-1])


def test_owner_cannot_use_words_when_one_is_misspelt(words: tuple[str, ...]) -> None:
    wrong = [*words[:4], "zzyzxqq", *words[5:]]
    with pytest.raises(KeyMaterialError, match="word number 5") as caught:
        parse_mnemonic(wrong)
    assert "zzyzxqq" not in str(caught.value)
    assert not any(word in str(caught.value).split() for word in wrong)


def test_owner_cannot_use_words_when_the_check_fails() -> None:
    with pytest.raises(KeyMaterialError, match="check of the whole"):
        parse_mnemonic(["abandon"] * 24)


@pytest.mark.parametrize("junk", ["", "x" * 2000, [None] * 24, ["é"] * 24, "abandon " * 25])
def test_garbage_raises_named_errors_only(junk: object) -> None:
    with pytest.raises(KeyMaterialError):
        parse_mnemonic(junk)  # type: ignore[arg-type]
