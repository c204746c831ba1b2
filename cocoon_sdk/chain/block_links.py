"""Signed links between masterchain blocks: from a key block that is trusted to a newer block.

Owns reading a key block's validators and weighing their signatures. Pure: no sockets. pytoniq's own check
neither compares the key block's proof with the block that is trusted nor counts a signature once, so a server
could bring validators of its own; this one does both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from pytoniq_core import Cell

from cocoon_sdk.chain.boc import decode_boc
from cocoon_sdk.chain.proofs import (
    MASTERCHAIN,
    BlockId,
    ProofError,
    checked,
    header,
    lookup,
    open_proof,
    param_of,
    skip_currencies,
)
from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.errors import KeyMaterialError, MalformedError
from cocoon_sdk.protocol.abi_cells import Reader

MAX_STEPS: Final = 64
"""Most links that one answer may hold; liteservers send 16."""

_SIGNED: Final = b"\x70\x6e\x0b\xc5"
_NODE_ID: Final = b"\xc6\xb4\x13\x48"
_VALIDATORS: Final = 34
_MAX_VALIDATORS: Final = 1000


def follow(known: BlockId, steps: object) -> tuple[BlockId, BlockId]:
    """Follow the links of a liteserver's `partialBlockProof` from a trusted key block.

    Returns the last block reached and the last key block on the way. Raises `ProofError`: for a bad link, a
    link back (there is nothing older to prove) and signatures of less than two thirds of the weight.
    """
    if not isinstance(steps, list) or not 1 <= len(steps) <= MAX_STEPS:
        raise ProofError("links between blocks", why=f"1 to {MAX_STEPS} were expected")
    key = known
    reached = known
    for step in steps:
        if not isinstance(step, Mapping) or "config_proof" not in step:
            raise ProofError("links between blocks", why="not a link forward")
        if reached != key or BlockId.from_tl(step.get("from")) != key:
            raise ProofError("links between blocks", why="a link does not start at the last key block")
        reached = BlockId.from_tl(step.get("to"))
        if _forward(key, reached, step):
            key = reached
    return reached, key


def _forward(known: BlockId, to: BlockId, step: Mapping[str, Any]) -> bool:
    """Check one link; tell whether it leads to a key block."""
    what = f"link from block {known} to {to}"
    if to.workchain != MASTERCHAIN or to.seqno <= known.seqno:
        raise ProofError(what, why="it does not lead forward")
    found = header(open_proof(_bag(step.get("dest_proof"), what)), to)
    key_block = open_proof(_bag(step.get("config_proof"), what), known.root_hash)
    if not header(key_block, known).is_key:
        raise ProofError(what, why="it does not start at a key block")
    nodes = checked(what, lambda: _validators(key_block))
    _weigh(nodes, step.get("signatures"), to, what)
    return found.is_key


def _validators(block: Cell) -> dict[bytes, tuple[VerifyKey, int]]:
    """Return the masterchain validators that a key block appoints, by node id, with their weights."""
    reader = Reader.of_cell(block)
    for _ in range(3):
        reader.ref()
    extra = Reader.of_cell(reader.ref())
    if extra.uint(32) != 0x4A33F6FD:
        raise MalformedError("not a block's extra")
    for _ in range(3):
        extra.ref()
    extra.uint(256)  # rand_seed
    extra.uint(256)  # created_by
    if not extra.uint(1):
        raise MalformedError("a masterchain block has no extra")
    custom = Reader.of_cell(extra.ref())
    if custom.uint(16) != 0xCCA5 or not custom.uint(1):
        raise MalformedError("a key block has no configuration")
    for _ in range(2):  # shard hashes, shard fees
        if custom.uint(1):
            custom.ref()
    for _ in range(2):  # the fees' sums
        skip_currencies(custom)
    custom.ref()
    custom.uint(256)  # address of the configuration contract
    return _main_validators(param_of(custom.ref(), _VALIDATORS))


def _main_validators(param: Cell | None) -> dict[bytes, tuple[VerifyKey, int]]:
    if param is None:
        raise MalformedError("a key block appoints no validators")
    reader = Reader.of_cell(param)
    tag = reader.uint(8)
    reader.uint(32 + 32 + 16)  # since, until, total
    main = reader.uint(16)
    if tag == 0x12:
        reader.uint(64)  # total weight, of all and not of the main ones
        root = reader.ref() if reader.uint(1) else None
    else:
        root = reader.rest() if tag == 0x11 else None
    if root is None or not 1 <= main <= _MAX_VALIDATORS:
        raise MalformedError("not a set of validators")
    nodes: dict[bytes, tuple[VerifyKey, int]] = {}
    for index in range(main):
        leaf = lookup(root, index, 16)
        if leaf is None:
            break  # fewer validators than places
        if leaf.uint(8) not in (0x53, 0x73) or leaf.uint(32) != 0x8E81278A:
            raise MalformedError("not a validator")
        raw = leaf.uint(256).to_bytes(32, "big")
        try:
            key = VerifyKey(raw)
        except KeyMaterialError as error:
            raise MalformedError("a validator's key cannot be used", why=error.why) from None
        nodes[hashlib.sha256(_NODE_ID + raw).digest()] = (key, leaf.uint(64))
    return nodes


def _weigh(nodes: dict[bytes, tuple[VerifyKey, int]], given: object, block: BlockId, what: str) -> None:
    signatures = given.get("signatures") if isinstance(given, Mapping) else None
    if not isinstance(signatures, list) or len(signatures) > _MAX_VALIDATORS:
        raise ProofError(what, why="no signatures of a kind that is known")
    message = _SIGNED + block.root_hash + block.file_hash
    weight = 0
    seen: set[bytes] = set()
    for item in signatures:
        node, signature = _signature(item, what)
        if node in seen or node not in nodes:
            raise ProofError(what, why="a signature of no validator, or one that came twice")
        seen.add(node)
        key, own = nodes[node]
        if not key.verify(message, signature):
            raise ProofError(what, why="a signature is wrong")
        weight += own
    if weight * 3 <= sum(own for _, own in nodes.values()) * 2:
        raise ProofError(what, why="validators of two thirds of the weight or less have signed it")


def _signature(item: object, what: str) -> tuple[bytes, bytes]:
    if isinstance(item, Mapping):
        node, signature = item.get("node_id_short"), item.get("signature")
        if isinstance(node, str) and len(node) == 64 and isinstance(signature, bytes):
            try:
                return bytes.fromhex(node), signature
            except ValueError:
                pass
    raise ProofError(what, why="not a signature")


def _bag(value: object, what: str) -> Cell:
    if not isinstance(value, bytes):
        raise ProofError(what, why="a proof is missing")
    return checked(what, lambda: decode_boc(value))
