"""Signatures that strangers have an arbiter check: few, and never at the cost of those who are honest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from pytoniq_core import Address

from cocoon_sdk.arbiter.errors import EvidenceError, OpinionError
from cocoon_sdk.arbiter.evidence import OnChain
from cocoon_sdk.arbiter.hearing import Hearing
from cocoon_sdk.arbiter.store import ArbiterStore
from cocoon_sdk.contracts.disputes import Dispute, Member
from cocoon_sdk.crypto.keys import SigningKey, VerifyKey
from cocoon_sdk.protocol.disputes import (
    MAX_ARBITERS,
    DisputeKind,
    Evidence,
    Item,
    ItemKind,
    Opinions,
    Receipt,
    SignedVerdict,
    VoteCommitment,
    commitment_digest,
    receipt_digest,
)
from cocoon_sdk.protocol.session_evidence import evidence_digest
from cocoon_sdk.storage import SqliteDatabase
from cocoon_sdk.types import Hash, Nano

KEYS = [SigningKey(bytes([number + 1]) * 32) for number in range(MAX_ARBITERS)]
DIGEST = Hash(b"\7" * 32)
SHOWN = Item(ItemKind.SESSION, b"what the client shows")
IN_TIME, LATE = 1000, 1000 + 100 + 150
"""Two periods after the end of the time for evidence: two arbiters must have had it before."""
OURS = 0
DELIVERIES = 20


def verdict_digest(pay: int, slash: int) -> Hash:
    return Hash(bytes([pay, slash]) * 16)


DISPUTE = cast(
    Dispute,
    SimpleNamespace(
        kind=DisputeKind.SESSION,
        digest=DIGEST,
        result_hash=evidence_digest(SHOWN.data),
        amount=Nano(0),
        collateral=Nano(100),
        slash_bps=10_000,
        disputed_at=IN_TIME,
        evidence_s=100,
        arbitration_s=48 * 100,
        threshold=5,
        members={
            index: Member(index, key.verify_key, Address((0, bytes(32)))) for index, key in enumerate(KEYS)
        },
        index_of=lambda key: OURS,
        verdict_digest=verdict_digest,
    ),
)


@pytest.fixture
async def hearing(tmp_path: Path) -> AsyncIterator[Hearing]:
    store = ArbiterStore(SqliteDatabase(tmp_path / "arbiter.sqlite"))
    await store.prepare()
    made = Hearing(DISPUTE, OnChain(None, None), KEYS[OURS], store)
    await made.prepare()
    yield made
    await store.close()


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What each signature that was checked came to."""
    found: list[bool] = []
    verify = VerifyKey.verify

    def counted(self: VerifyKey, message: bytes, signature: bytes) -> bool:
        found.append(verify(self, message, signature))
        return found[-1]

    monkeypatch.setattr(VerifyKey, "verify", counted)
    return found


def receipt(index: int) -> Receipt:
    return Receipt(index, KEYS[index].sign(receipt_digest(DIGEST, SHOWN)))


def forged(number: int) -> tuple[Receipt, ...]:
    """Return a receipt in the name of every arbiter, other ones each time."""
    return tuple(Receipt(index, bytes([number, index]) * 32) for index in range(MAX_ARBITERS))


def evidence(*receipts: Receipt, data: bytes = SHOWN.data) -> Evidence:
    return Evidence(DIGEST, (Item(SHOWN.kind, data, receipts),))


# -- evidence ------------------------------------------------------------------------------------------------


async def test_stranger_cannot_have_signatures_checked_with_what_is_no_evidence(
    hearing: Hearing, checks: list[bool]
) -> None:
    for now in (IN_TIME, LATE):
        for number in range(DELIVERIES):
            with pytest.raises(EvidenceError):
                await hearing.take(evidence(*forged(number), data=b"%d" % number), now)
    assert checks == []
    # Too few receipts are too few whatever they are worth.
    with pytest.raises(EvidenceError, match="late"):
        await hearing.take(evidence(receipt(1), receipt(1), receipt(OURS)), LATE)
    assert checks == []


async def test_party_cannot_have_many_signatures_checked_over_all_its_deliveries(
    hearing: Hearing, checks: list[bool]
) -> None:
    for number in range(DELIVERIES):
        with pytest.raises(EvidenceError, match="late"):
            await hearing.take(evidence(*forged(number)), LATE)
    await hearing.take(evidence(), IN_TIME)
    for number in range(DELIVERIES):
        await hearing.take(evidence(*forged(number)), LATE)
    assert checks == [False] * 2 * DELIVERIES, "one in vain for each delivery"
    # What is good is checked once, however often it comes.
    checks.clear()
    for _ in range(DELIVERIES):
        await hearing.take(evidence(receipt(1), receipt(2)), LATE)
    assert checks == [True] * 2


async def test_forged_receipts_cannot_keep_late_evidence_out_that_others_signed_for(
    hearing: Hearing,
) -> None:
    for number in range(DELIVERIES):
        with pytest.raises(EvidenceError, match="late"):
            await hearing.take(evidence(*forged(number)), LATE)
    await hearing.take(evidence(receipt(4), receipt(8)), LATE)
    await hearing.take(evidence(*forged(0)), LATE)
    await hearing.take(evidence(receipt(4), receipt(1), receipt(8)), LATE)
    held = (await hearing.items())[ItemKind.SESSION]
    assert [each.index for each in held.receipts] == [OURS, 1, 4, 8]
    assert (await hearing.receipts(evidence())).keys() == {ItemKind.SESSION}
    assert await hearing.receipts(evidence(data=b"something else")) == {}


# -- opinions ------------------------------------------------------------------------------------------------


def committed(index: int, number: int, *, is_forged: bool = False) -> VoteCommitment:
    vote = Hash(number.to_bytes(32, "big"))
    signature = bytes(64) if is_forged else KEYS[index].sign(commitment_digest(DIGEST, index, vote))
    return VoteCommitment(index=index, vote=vote, signature=signature)


def ruled(index: int, slash: int, *, is_forged: bool = False) -> SignedVerdict:
    signature = bytes(64) if is_forged else KEYS[index].sign(verdict_digest(0, slash))
    return SignedVerdict(index=index, pay=Nano(0), slash=Nano(slash), signature=signature)


async def test_stranger_cannot_have_many_opinions_checked(hearing: Hearing, checks: list[bool]) -> None:
    for number in range(DELIVERIES):
        with pytest.raises(OpinionError):
            await hearing.hear(
                Opinions(
                    dispute=DIGEST,
                    commitments=tuple(committed(index, number, is_forged=True) for index in range(9)),
                    verdicts=tuple(ruled(index, number, is_forged=True) for index in range(9)),
                )
            )
    assert checks == [False] * 2 * DELIVERIES


async def test_arbiter_that_signs_whatever_it_can_is_heard_twice(
    hearing: Hearing, checks: list[bool]
) -> None:
    for number in range(DELIVERIES):
        await hearing.hear(
            Opinions(dispute=DIGEST, commitments=(committed(1, number),), verdicts=(ruled(1, number),))
        )
    assert checks == [True] * 4
    assert (await hearing.panel()).honest == frozenset()
    # Others are heard all the same.
    await hearing.hear(
        Opinions(dispute=DIGEST, commitments=(committed(1, 99), committed(2, 1)), verdicts=(ruled(2, 1),))
    )
    panel = await hearing.panel()
    assert (set(panel.honest), set(panel.verdicts)) == ({2}, {1, 2})
