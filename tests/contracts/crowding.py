"""Escrows whose account ids share ever longer prefixes: they make one path of a stake's lock table deep.

An account id is a hash that anybody can grind: k + 1 more bits in common with a given escrow take 2^k
tries, and each such escrow with a lock makes the way to the given one a fork longer. Owns the grinding
only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

from pytoniq_core import Address

from cocoon_sdk.contracts.network import Network

_BITS = 256


@dataclass(frozen=True, slots=True)
class Crowd:
    """Indices of one owner's escrows."""

    victim: int
    around: tuple[int, ...]
    """One per fork on the victim's path."""


@cache
def crowd(network: Network, owner: Address, tries: int = 1 << 18) -> Crowd:
    """Derive many escrows and return the one that others crowd the most, and those others."""
    indices = {account: index for index, account in enumerate(_account_ids(network, owner, tries))}
    victim, *around = _deepest(list(indices), 0)
    assert network.escrow(owner, indices[victim]).address == Address((0, victim.to_bytes(32, "big")))
    return Crowd(indices[victim], tuple(indices[account] for account in around))


def _account_ids(network: Network, owner: Address, count: int) -> list[int]:
    """Hash what `Network.escrow` would, without making cells: owner and index end the identity."""
    first = network.escrow(owner, 0)
    code = b"\x02\x01\x34" + first.code.get_depth().to_bytes(2, "big") + bytes(2) + first.code.hash
    identity = int(first.data.bits.to01(), 2) << 2 | 0b10
    prefix, found = hashlib.sha256(code), []
    for index in range(count):
        account = prefix.copy()
        account.update(hashlib.sha256(b"\x00\x8d" + (identity | index << 2).to_bytes(71, "big")).digest())
        found.append(int.from_bytes(account.digest(), "big"))
    return found


def _deepest(ids: list[int], bit: int) -> list[int]:
    """Return the id with the most forks on its way, and one id from the other side of each."""
    if len(ids) == 1:
        return ids
    sides: tuple[list[int], list[int]] = ([], [])
    for account in ids:
        sides[account >> (_BITS - 1 - bit) & 1].append(account)
    if not sides[0] or not sides[1]:
        return _deepest(ids, bit + 1)
    paths = [_deepest(side, bit + 1) for side in sides]
    longer = int(len(paths[1]) > len(paths[0]))
    return [*paths[longer], sides[1 - longer][0]]
