"""What a docket holds: so many disputes and no more, and the searches that go on."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pytoniq_core import Address

from cocoon_sdk.arbiter import docket as docket_module
from cocoon_sdk.arbiter.docket import PAGES, Docket
from cocoon_sdk.arbiter.errors import TooManyDisputesError, UnfinishedError
from cocoon_sdk.arbiter.hearing import Hearing
from cocoon_sdk.arbiter.store import ArbiterStore
from cocoon_sdk.chain.base import Chain
from cocoon_sdk.contracts.disputes import Dispute
from cocoon_sdk.contracts.network import Network
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.history import HistoryNotFoundError, job_search
from cocoon_sdk.protocol.disputes import DisputeKind, ItemKind
from cocoon_sdk.types import Hash
from tests.helpers.hostile_chains import NamingChain

MOST = 8


class QuickHearing:
    """A double: nobody brought evidence for it, and each of its steps takes a moment."""

    def __init__(self, dispute: Dispute, *_: Any) -> None:
        self.dispute, self.held = dispute, list[ItemKind]()

    async def prepare(self) -> None:
        await asyncio.sleep(0)

    async def own(self) -> None:
        await asyncio.sleep(0)


class Store:
    """A double that keeps nothing."""

    async def follow(self, _: Any) -> None:
        await asyncio.sleep(0)


class ListedDocket(Docket):
    """A docket whose disputes all exist: `number` of `escrow` was disputed at second `number`."""

    kind = DisputeKind.SESSION

    def __init__(self, chain: Chain) -> None:
        key = cast(SigningKey, SimpleNamespace(verify_key=None))
        super().__init__(chain, cast(Network, None), key, cast(ArbiterStore, Store()), most=MOST)

    async def _read(self, address: Address, number: int) -> tuple[Dispute, int]:
        await asyncio.sleep(0)
        found = SimpleNamespace(
            kind=self.kind,
            escrow=address,
            number=number,
            digest=Hash(number.to_bytes(32, "big")),
            result_hash=Hash(bytes(32)),
            params=None,
            disputed_at=number,
            ends_at=0,
            index_of=lambda _: 0,
        )
        return cast(Dispute, found), 0


class JobDocket(ListedDocket):
    """A docket whose disputes are about jobs."""

    kind = DisputeKind.JOB


@pytest.fixture(autouse=True)
def doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docket_module, "Hearing", QuickHearing)
    params = SimpleNamespace(from_cell=lambda _: SimpleNamespace(max_phases=0))
    monkeypatch.setattr(docket_module, "m", SimpleNamespace(Params=params))


@pytest.fixture
def docket() -> Docket:
    return ListedDocket(cast(Chain, None))


def escrow(number: int) -> Address:
    return Address((0, number.to_bytes(32, "big")))


async def test_looks_that_end_together_cannot_have_more_disputes_followed_than_allowed(
    docket: Docket,
) -> None:
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, len(docket.hearings))
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    for begin in range(0, 120, 40):
        await asyncio.gather(*(docket.follow(escrow(number), number) for number in range(begin, begin + 40)))
    watching.cancel()
    assert most == len(docket.hearings) == MOST


async def test_looks_at_one_dispute_that_end_together_cost_no_other_its_place(docket: Docket) -> None:
    for number in range(1, MOST):
        await docket.follow(escrow(number), number)
    found = await asyncio.gather(*(docket.follow(escrow(MOST), MOST) for _ in range(5)))
    assert len({id(each) for each in found}) == 1
    assert len(docket.hearings) == MOST


async def test_dispute_that_has_evidence_by_now_makes_no_room(docket: Docket) -> None:
    for number in range(MOST):
        await docket.follow(escrow(number), number)
    for hearing in docket.hearings.values():
        bring_evidence_when_asked(hearing)
    with pytest.raises(TooManyDisputesError):
        await docket.follow(escrow(MOST), MOST)
    assert len(docket.hearings) == MOST


def bring_evidence_when_asked(hearing: Hearing) -> None:
    """Have evidence come at the very moment when it is asked whether the hearing can be spared."""

    async def own() -> None:
        await asyncio.sleep(0)
        cast(QuickHearing, hearing).held.append(ItemKind.PAYLOAD)

    hearing.own = own  # type: ignore[method-assign]


async def test_searches_of_others_cannot_have_one_that_goes_on_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(docket_module, "_MAX_SEARCHES", 3)
    monkeypatch.setattr(job_search, "FIRST_PAGE", 8)
    monkeypatch.setattr(job_search, "LARGE_PAGE", 8)
    chain = NamingChain(length=5 * PAGES * 8 + 1, size=8)
    docket = JobDocket(cast(Chain, chain))
    others = iter(range(2, 100))
    for _ in range(5):
        with pytest.raises(UnfinishedError):
            await docket.follow(escrow(1), 1)
        for number in (next(others), next(others)):
            with pytest.raises(UnfinishedError):
                await docket.follow(escrow(number), number)
    with pytest.raises(HistoryNotFoundError):  # it came to the end, however many began meanwhile
        await docket.follow(escrow(1), 1)
