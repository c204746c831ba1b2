"""Who is told what, and that an arbiter that stalls keeps nobody else waiting."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from pytoniq_core import Address

from cocoon_sdk.arbiter.gossip import Gossip
from cocoon_sdk.client.arbiter_endpoints import ArbiterUnreachableError
from cocoon_sdk.client.arbiters import Delivered
from cocoon_sdk.contracts.disputes import Member
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.protocol.disputes import Item, ItemKind, Opinions, VoteCommitment
from cocoon_sdk.types import Hash

EVERY_S = 60
MEMBERS = [
    Member(index, SigningKey.from_seed(bytes([index + 1]) * 32).verify_key, Address((0, bytes(32))))
    for index in range(3)
]


@dataclass
class Told:
    """A double of a hearing: we are arbiter 0, and hold a payload and a commitment."""

    number: int
    held: list[ItemKind] = field(default_factory=lambda: [ItemKind.PAYLOAD])
    heard: int = 0
    index: int = 0

    @property
    def dispute(self) -> Any:
        return SimpleNamespace(digest=Hash(bytes([self.number]) * 32))

    async def opinions(self) -> Opinions:
        commitment = VoteCommitment(index=0, vote=Hash(bytes(32)), signature=bytes(64))
        return Opinions(dispute=self.dispute.digest, commitments=(commitment,))

    async def items(self) -> dict[ItemKind, Item]:
        return {kind: Item(kind, b"data") for kind in self.held}

    async def hear(self, _: Opinions) -> None:
        self.heard += 1


class Peers:
    """A double of the other arbiters: `gates` hold those back that stall, `away` do not answer."""

    def __init__(self) -> None:
        self.urls = {member.key: f"http://{member.index}" for member in MEMBERS}
        self.endpoints = self
        self.gates: dict[str, asyncio.Event] = {}
        self.away: set[str] = set()
        self.calls: list[tuple[str, str, int]] = []

    def known(self, _: Any) -> list[tuple[Member, str]]:
        return [(member, self.urls[member.key]) for member in MEMBERS]

    async def deliver(self, dispute: Any, items: list[Item], member: Member) -> Delivered:
        url = self.urls[member.key]
        self.calls.append(("deliver", url, dispute.digest[0]))
        if url in self.gates:
            await self.gates[url].wait()
        if url in self.away:
            return Delivered(member.index, frozenset(), "no answer", reached=False, away=True)
        return Delivered(member.index, frozenset(item.kind for item in items))

    async def exchange(self, url: str, digest: bytes, opinions: Opinions) -> Opinions:
        self.calls.append(("exchange", url, digest[0]))
        if url in self.away:
            raise ArbiterUnreachableError("away")
        return opinions


@pytest.fixture
def peers() -> Peers:
    return Peers()


def gossip_of(peers: Peers, news: list[int]) -> Gossip:
    return Gossip(peers, EVERY_S, lambda: news.append(1))  # type: ignore[arg-type]


async def quiet(gossip: Gossip) -> None:
    """Wait until nobody is talked to any more."""
    while gossip.tasks:
        await asyncio.wait(gossip.tasks)


async def test_arbiter_that_stalls_cannot_keep_others_from_being_told(peers: Peers) -> None:
    news: list[int] = []
    gossip, first, second = gossip_of(peers, news), Told(1), Told(2)
    peers.gates["http://1"] = asyncio.Event()
    for hearing in (first, second):
        await gossip.exchange(hearing, 100, asyncio.Lock())  # type: ignore[arg-type]
    (stalled,) = [task for task in gossip.tasks if MEMBERS[1].key.hex[:8] in task.get_name()]
    while others := [task for task in gossip.tasks if task is not stalled]:
        await asyncio.wait(others)
    assert not stalled.done()
    assert (first.heard, second.heard) == (1, 1)
    # It is told of one dispute at a time, and of all when it wakes up.
    assert [call for call in peers.calls if call[1] == "http://1"] == [("deliver", "http://1", 1)]
    peers.gates["http://1"].set()
    await quiet(gossip)
    assert (first.heard, second.heard) == (2, 2)
    await gossip.close()


async def test_arbiter_that_is_away_is_left_alone_for_a_while(peers: Peers) -> None:
    gossip = gossip_of(peers, [])
    peers.away.add("http://1")
    hearings = [Told(number) for number in range(1, 6)]
    for now in (100, 101, 100 + EVERY_S - 1):
        for hearing in hearings:
            await gossip.exchange(hearing, now, asyncio.Lock())  # type: ignore[arg-type]
        await quiet(gossip)
    assert len([call for call in peers.calls if call[1] == "http://1"]) == 1
    peers.away.clear()
    for hearing in hearings:
        await gossip.exchange(hearing, 101 + EVERY_S, asyncio.Lock())  # type: ignore[arg-type]
    await quiet(gossip)
    assert [hearing.heard for hearing in hearings] == [3, 3, 3, 3, 3]
    await gossip.close()


async def test_nobody_is_told_twice_what_is_not_new(peers: Peers) -> None:
    news: list[int] = []
    gossip, hearing = gossip_of(peers, news), Told(1)
    for now in (100, 101, 102):
        await gossip.exchange(hearing, now, asyncio.Lock())  # type: ignore[arg-type]
        await quiet(gossip)
    assert sorted(peers.calls) == [
        (what, f"http://{index}", 1) for what in ("deliver", "exchange") for index in (1, 2)
    ]
    assert len(news) == 2
    hearing.held.append(ItemKind.RESULT)
    await gossip.exchange(hearing, 103, asyncio.Lock())  # type: ignore[arg-type]
    await quiet(gossip)
    assert len([call for call in peers.calls if call[0] == "deliver"]) == 4
    await gossip.close()
