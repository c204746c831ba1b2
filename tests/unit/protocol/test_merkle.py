"""Batch roots: every item has a proof, and no forged proof verifies."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.errors import CocoonError, HashMismatchError, MalformedError
from cocoon_sdk.protocol.canonical import canonical_bytes, parse_canonical
from cocoon_sdk.protocol.merkle import (
    MAX_BATCH_ITEMS,
    MerkleProof,
    MerkleTree,
    check_merkle_proof,
    merkle_root,
)
from cocoon_sdk.types import Hash

batches = st.lists(st.binary(max_size=8), min_size=1, max_size=40)


def _h(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _reference_top(leaves: list[bytes]) -> bytes:
    """RFC 6962's recursive definition, written independently."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return _h(b"\x01" + _reference_top(leaves[:split]) + _reference_top(leaves[split:]))


@given(batches)
def test_root_follows_the_definition(items: list[bytes]) -> None:
    leaves = [_h(b"\0" + index.to_bytes(8, "big") + item) for index, item in enumerate(items)]
    assert merkle_root(items) == _h(b"\x02" + len(items).to_bytes(8, "big") + _reference_top(leaves))


@given(batches)
def test_every_item_can_be_proved(items: list[bytes]) -> None:
    tree = MerkleTree(items)
    for index, item in enumerate(items):
        proof = tree.proof(index)
        check_merkle_proof(tree.root, item, proof)
        assert MerkleProof.from_wire(parse_canonical(canonical_bytes(proof.to_wire()))) == proof


@given(batches, st.data())
def test_forger_cannot_prove_another_item(items: list[bytes], data: st.DataObject) -> None:
    tree = MerkleTree(items)
    proof = tree.proof(data.draw(st.integers(0, len(items) - 1)))
    other = data.draw(st.binary(max_size=8).filter(lambda item: item != items[proof.index]))
    with pytest.raises(HashMismatchError):
        check_merkle_proof(tree.root, other, proof)


@given(batches, st.data())
def test_forger_cannot_change_index_count_or_path(items: list[bytes], data: st.DataObject) -> None:
    tree = MerkleTree(items)
    proof = tree.proof(data.draw(st.integers(0, len(items) - 1)))
    index = data.draw(st.integers(0, 64))
    count = data.draw(st.integers(1, 64))
    path = list(proof.path)
    change = data.draw(st.sampled_from(["none", "drop", "add", "flip", "reverse"]))
    if change == "drop" and path:
        path.pop(data.draw(st.integers(0, len(path) - 1)))
    elif change == "add":
        path.insert(
            data.draw(st.integers(0, len(path))), Hash(data.draw(st.binary(min_size=32, max_size=32)))
        )
    elif change == "flip" and path:
        position = data.draw(st.integers(0, len(path) - 1))
        path[position] = Hash(bytes([path[position][0] ^ 1]) + path[position][1:])
    elif change == "reverse":
        path.reverse()
    forged = MerkleProof(index=index, count=count, path=tuple(path))
    if forged == proof:
        check_merkle_proof(tree.root, items[proof.index], forged)
    else:
        with pytest.raises((HashMismatchError, MalformedError)):
            check_merkle_proof(tree.root, items[proof.index], forged)


def test_forger_cannot_present_an_inner_node_as_an_item() -> None:
    items = [b"a", b"b", b"c", b"d"]
    tree = MerkleTree(items)
    proof = tree.proof(0)
    left = _h(b"\0" + bytes(8) + b"a") + proof.path[0]
    shorter = MerkleProof(index=0, count=2, path=proof.path[1:])
    for item in (left, _h(b"\x01" + left), b"\x01" + left):
        with pytest.raises(HashMismatchError):
            check_merkle_proof(tree.root, item, shorter)


def test_forger_cannot_reuse_a_root_when_the_batch_is_one_of_another_size() -> None:
    assert merkle_root([b"a"]) != merkle_root([b"a", b"a"])
    # Without n in the root, carrying the odd item up would let 2 items of one tree stand for 3 of another.
    assert merkle_root([b"a", b"b", b"c"]) != merkle_root([b"a", b"b", b"c", b"c"])


def test_forger_cannot_swap_two_equal_positions() -> None:
    items = [b"a", b"b"]
    tree = MerkleTree(items)
    swapped = MerkleProof(index=1, count=2, path=tree.proof(0).path)
    for item in items:
        with pytest.raises(HashMismatchError):
            check_merkle_proof(tree.root, item, swapped)


@given(st.binary(max_size=80), st.binary(min_size=32, max_size=32), st.data())
def test_garbage_proofs_raise_named_errors_only(item: bytes, root: bytes, data: st.DataObject) -> None:
    proof = MerkleProof(
        index=data.draw(st.integers(0, MAX_BATCH_ITEMS - 1)),
        count=data.draw(st.integers(1, MAX_BATCH_ITEMS)),
        path=tuple(Hash(bytes([each]) * 32) for each in data.draw(st.binary(max_size=20))),
    )
    with pytest.raises(CocoonError):
        check_merkle_proof(root, item, proof)


@pytest.mark.parametrize(
    "wire",
    [
        {"index": 0, "count": 0, "path": []},
        {"index": -1, "count": 1, "path": []},
        {"index": 0, "count": MAX_BATCH_ITEMS + 1, "path": []},
        {"index": 0, "count": 1, "path": ["00" * 32] * 21},
        {"index": 0, "count": 1, "path": ["00" * 31]},
        {"index": 0, "count": 1, "path": "00"},
        {"index": 0, "count": 1},
    ],
)
def test_proof_cannot_be_read_when_it_is_out_of_bounds(wire: object) -> None:
    with pytest.raises(MalformedError):
        MerkleProof.from_wire(wire)


def test_batch_cannot_be_empty() -> None:
    with pytest.raises(MalformedError):
        MerkleTree([])
    with pytest.raises(IndexError):
        MerkleTree([b"a"]).proof(1)
    with pytest.raises(IndexError):
        MerkleTree([b"a"]).proof(-1)
