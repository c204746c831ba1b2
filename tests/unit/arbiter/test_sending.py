"""Bringing evidence to several arbiters: one that stalls delays no other one."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from pytoniq_core import Address

from cocoon_sdk.client import arbiters as room
from cocoon_sdk.client.arbiters import Arbiters, Delivered
from cocoon_sdk.contracts.disputes import Member
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.protocol.disputes import Item, ItemKind

MEMBERS = [
    Member(index, SigningKey.from_seed(bytes([index + 1]) * 32).verify_key, Address((0, bytes(32))))
    for index in range(6)
]


async def test_arbiter_that_stalls_cannot_delay_evidence_for_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = Arbiters({member.key.hex: f"http://arbiter{member.index}" for member in MEMBERS})
    dispute: Any = SimpleNamespace(members={member.index: member for member in MEMBERS})
    gate, others = asyncio.Event(), asyncio.Event()
    reached: list[int] = []
    at_once: list[int] = []

    async def deliver(_: Any, items: tuple[Item, ...], member: Member) -> Delivered:
        at_once.append(member.index)
        assert len(at_once) <= room.AT_A_TIME
        if member.index == 0:
            await gate.wait()
        else:
            await asyncio.sleep(0)
        at_once.remove(member.index)
        reached.append(member.index)
        if len(reached) == len(MEMBERS) - 1:
            others.set()
        return Delivered(member.index, frozenset(item.kind for item in items))

    monkeypatch.setattr(known, "deliver", deliver)
    sending = asyncio.create_task(known.send_evidence(dispute, [Item(ItemKind.RESULT, b"text")]))
    await others.wait()
    assert not sending.done()
    assert 0 not in reached
    gate.set()
    assert [each.index for each in await sending] == list(range(6))
    await known.close()
