"""What an arbiter keeps: one vote and one verdict for a dispute, and no evidence when it is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pytoniq_core import Address

from cocoon_sdk.arbiter.errors import SecondVerdictError
from cocoon_sdk.arbiter.store import ArbiterStore, Followed
from cocoon_sdk.chain.watcher import Cursor
from cocoon_sdk.protocol.disputes import (
    Ground,
    Item,
    ItemKind,
    Receipt,
    SignedVerdict,
    Vote,
    VoteCommitment,
)
from cocoon_sdk.storage import SqliteDatabase
from cocoon_sdk.types import Hash, Nano

DISPUTE = Hash(bytes(range(32)))
OTHER = Hash(bytes(32))
ESCROW = Address((0, bytes(31) + b"\1"))
SECRET = b"the secret of a prompt " * 50


def path(folder: Path) -> Path:
    return folder / "arbiter.sqlite"


async def opened(folder: Path) -> ArbiterStore:
    store = ArbiterStore(SqliteDatabase(path(folder)))
    await store.prepare()
    return store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ArbiterStore]:
    made = await opened(tmp_path)
    yield made
    await made.close()


def vote(pay: int = 5, index: int = 1, salt: int = 0) -> Vote:
    return Vote(
        dispute=DISPUTE,
        index=index,
        pay=Nano(pay),
        slash=Nano(0),
        ground=Ground.HONEST,
        late=False,
        salt=bytes([salt]) * 16,
    )


def commitment(of: Vote) -> VoteCommitment:
    return VoteCommitment(index=of.index, vote=of.digest(), signature=bytes(64))


def signed(pay: int, index: int = 1) -> SignedVerdict:
    return SignedVerdict(index=index, pay=Nano(pay), slash=Nano(0), signature=bytes([pay]) * 64)


async def test_arbiter_cannot_vote_twice(store: ArbiterStore) -> None:
    await store.votes.put_vote(vote(5), commitment(vote(5)))
    with pytest.raises(SecondVerdictError):
        await store.votes.put_vote(vote(6), commitment(vote(6)))
    own = await store.votes.own(DISPUTE)
    assert own is not None
    assert (own.vote, own.shown, own.signed) == (vote(5), False, None)
    # The refused commitment is not there either.
    assert await store.votes.commitments(DISPUTE) == [commitment(vote(5))]
    assert not (await store.votes.panel(DISPUTE, 3)).votes


async def test_arbiter_cannot_sign_a_second_verdict(store: ArbiterStore) -> None:
    with pytest.raises(SecondVerdictError):
        await store.votes.put_verdict(DISPUTE, signed(5))  # it never voted
    await store.votes.put_vote(vote(5), commitment(vote(5)))
    await store.votes.put_verdict(DISPUTE, signed(5))
    await store.votes.put_verdict(DISPUTE, signed(5))
    with pytest.raises(SecondVerdictError):
        await store.votes.put_verdict(DISPUTE, signed(6))
    assert (await store.votes.panel(DISPUTE, 3)).verdicts == {1: {(5, 0): bytes([5]) * 64}}


async def test_arbiter_finds_everything_again_after_a_crash(tmp_path: Path) -> None:
    # Closed by nobody, as after SIGKILL: what was committed is in the file.
    store = await opened(tmp_path)
    await store.follow(Followed(DISPUTE, ESCROW, 1, 7, 1000, 0, ""))
    await store.votes.put_vote(vote(), commitment(vote()))
    await store.votes.show_vote(vote())
    await store.votes.put_verdict(DISPUTE, signed(5))
    await store.add_item(DISPUTE, Item(ItemKind.RESULT, b"text", (Receipt(2, bytes(64)),)))
    await store.finding.put_cursor(ESCROW, Cursor(9, bytes(32)))
    again = await opened(tmp_path)
    own = await again.votes.own(DISPUTE)
    assert own is not None
    assert (own.vote, own.shown, own.signed) == (vote(), True, (5, 0))
    assert [each.number for each in await again.disputes(ended=False)] == [7]
    assert (await again.items(DISPUTE))[ItemKind.RESULT].receipts == (Receipt(2, bytes(64)),)
    assert await again.finding.cursor(ESCROW) == Cursor(9, bytes(32))
    await again.close()
    await store.close()


async def test_nothing_is_left_of_evidence_when_a_dispute_is_over(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.follow(Followed(DISPUTE, ESCROW, 1, 7, 1000, 0, ""))
    await store.add_item(DISPUTE, Item(ItemKind.RESULT, SECRET))
    await store.votes.put_vote(vote(), commitment(vote()))
    await store.end(DISPUTE, 2000, "ended on chain")
    assert await store.items(DISPUTE) == {}
    assert await store.votes.own(DISPUTE) is not None
    await store.close()
    assert SECRET[:40] not in path(tmp_path).read_bytes()
    assert path(tmp_path).stat().st_mode & 0o777 == 0o600


async def test_old_disputes_are_forgotten(store: ArbiterStore) -> None:
    await store.follow(Followed(DISPUTE, ESCROW, 1, 7, 1000, 0, ""))
    await store.follow(Followed(OTHER, ESCROW, 1, 8, 1001, 0, ""))
    await store.votes.put_vote(vote(), commitment(vote()))
    await store.end(DISPUTE, 2000, "ended on chain")
    await store.forget(2000)
    assert await store.votes.own(DISPUTE) is not None
    await store.forget(2001)
    assert await store.votes.own(DISPUTE) is None
    assert await store.votes.commitments(DISPUTE) == []
    assert [each.digest for each in await store.disputes(ended=False)] == [OTHER]
    assert await store.disputes(ended=True) == []


async def test_dishonest_arbiter_cannot_fill_the_store(store: ArbiterStore) -> None:
    many = [vote(salt=number, index=2) for number in range(6)]
    for each in many:
        await store.votes.add_opinions(
            DISPUTE, [commitment(each)], [each], [signed(each.salt[0], index=2)], late=False
        )
    panel = await store.votes.panel(DISPUTE, 3)
    assert {len(panel.commitments[2]), len(panel.verdicts[2])} == {2}
    assert list(panel.votes) == [2]
    assert panel.honest == frozenset()


async def test_commitments_after_our_own_vote_was_shown_are_late(store: ArbiterStore) -> None:
    first, second = vote(index=2), vote(index=3)
    await store.votes.add_opinions(DISPUTE, [commitment(first)], [], [], late=False)
    await store.votes.add_opinions(DISPUTE, [commitment(first), commitment(second)], [], [], late=True)
    assert (await store.votes.panel(DISPUTE, 3)).late == {3}
