"""Batch roots: one hash on chain for n items, and short proofs that an item is the i-th of them.

Owns the tree's shape and its hashes. Must not know what an item is. With SHA-256:

    leaf(i, item) = H(0x00 | i as uint64 | item)
    node(l, r)    = H(0x01 | l | r)
    root          = H(0x02 | n as uint64 | top)

The left half of n > 1 items is the largest power of two below n (as in RFC 6962), so the shape follows
from n alone: n is bound into the root, the index into the leaf, and no hash of one kind is of another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import Field

from cocoon_sdk.errors import HashMismatchError, MalformedError
from cocoon_sdk.protocol.hashing import same_hash
from cocoon_sdk.protocol.models import HashHex, WireModel
from cocoon_sdk.types import Hash

MAX_BATCH_ITEMS: Final = 1 << 20
_MAX_PATH: Final = 20  # log2(MAX_BATCH_ITEMS)


class MerkleProof(WireModel):
    """The hashes beside the way from item `index` of `count` up to the top, lowest first."""

    index: Annotated[int, Field(ge=0, lt=MAX_BATCH_ITEMS)]
    count: Annotated[int, Field(ge=1, le=MAX_BATCH_ITEMS)]
    path: Annotated[tuple[HashHex, ...], Field(strict=False, max_length=_MAX_PATH)]


class MerkleTree:
    """The tree over the items of one batch, in order. Raises `MalformedError` unless 1 <= n <= 2^20."""

    def __init__(self, items: Sequence[bytes]) -> None:
        if not 1 <= len(items) <= MAX_BATCH_ITEMS:
            why = f"{len(items)} items, expected 1 to {MAX_BATCH_ITEMS}"
            raise MalformedError("cannot build a batch root", why=why, hint="Split the batch")
        # Pairing neighbours and carrying an odd last node up unchanged gives exactly the RFC 6962 shape.
        self._levels = [[_leaf(index, item) for index, item in enumerate(items)]]
        while len(below := self._levels[-1]) > 1:
            level = [_node(left, right) for left, right in zip(below[::2], below[1::2], strict=False)]
            self._levels.append(level + below[len(level) * 2 :])

    @property
    def count(self) -> int:
        """The number of items."""
        return len(self._levels[0])

    @property
    def root(self) -> Hash:
        """The hash that goes on chain."""
        return _root(self.count, self._levels[-1][0])

    def proof(self, index: int) -> MerkleProof:
        """Return the proof of item `index` (from 0). Raises `IndexError` when there is no such item."""
        if not 0 <= index < self.count:
            raise IndexError(f"item {index} of a batch of {self.count}")
        path, position = [], index
        for level in self._levels[:-1]:
            sibling = position ^ 1
            if sibling < len(level):
                path.append(level[sibling])
            position //= 2
        return MerkleProof(index=index, count=self.count, path=tuple(path))


def merkle_root(items: Sequence[bytes]) -> Hash:
    """Return the batch root of `items`. Raises `MalformedError` unless 1 <= n <= 2^20."""
    return MerkleTree(items).root


def check_merkle_proof(root: bytes, item: bytes, proof: MerkleProof) -> None:
    """Return if `item` is item `proof.index` of the `proof.count` items under `root`.

    Raises `HashMismatchError` when it is not, `MalformedError` when the path does not fit index and count.
    """
    what = f"item {proof.index} of {proof.count} is not proved"
    if proof.index >= proof.count:
        raise MalformedError(what, why="the index is beyond the count")
    current, position, width = _leaf(proof.index, item), proof.index, proof.count
    siblings = iter(proof.path)
    while width > 1:
        if position ^ 1 < width:
            sibling = next(siblings, None)
            if sibling is None:
                raise MalformedError(what, why="the path is too short")
            current = _node(sibling, current) if position & 1 else _node(current, sibling)
        position //= 2
        width = (width + 1) // 2
    if next(siblings, None) is not None:
        raise MalformedError(what, why="the path is too long")
    if not same_hash(_root(proof.count, current), root):
        raise HashMismatchError(what, why="the path does not lead to the committed root")


def _leaf(index: int, item: bytes) -> Hash:
    return Hash(hashlib.sha256(b"\x00" + index.to_bytes(8, "big") + item).digest())


def _node(left: bytes, right: bytes) -> Hash:
    return Hash(hashlib.sha256(b"\x01" + left + right).digest())


def _root(count: int, top: bytes) -> Hash:
    return Hash(hashlib.sha256(b"\x02" + count.to_bytes(8, "big") + top).digest())
