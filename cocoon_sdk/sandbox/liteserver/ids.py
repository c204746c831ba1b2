"""Block ids and accounts between TL and the archive, and looking blocks up as a liteserver does.

Owns the translation and the errors for what does not exist, in the words of TON's liteservers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from cocoon_sdk.sandbox.blocks import Block, BlockArchive, BlockId, BlockNotFoundError, MasterBlock
from cocoon_sdk.sandbox.liteserver.errors import QueryError
from cocoon_sdk.sandbox.liteserver.tl import Record

Answer: TypeAlias = tuple[str, Record]
"""Constructor and fields of what goes back to the client."""

MASTERCHAIN, BASECHAIN = -1, 0
WHOLE_SHARD = -(1 << 63)
NEWEST = -1
"""As a seqno (all ones) it stands for the newest block, in queries for accounts."""
NO_BLOCK = BlockId(0, 0, 0, bytes(32), bytes(32))
"""How answers say that there is no such block."""
_HASH_BITS = 256
_SHARD_MASK = (1 << 64) - 1


def tl_id(block: BlockId) -> Record:
    """Return a block's id as `tonNode.blockIdExt`."""
    return {
        "workchain": block.workchain,
        "shard": block.shard,
        "seqno": block.seqno,
        "root_hash": block.root_hash,
        "file_hash": block.file_hash,
    }


def block_id(record: Record) -> BlockId:
    """Read a `tonNode.blockIdExt`. Raises `QueryError` for what cannot be a block's id."""
    if record["seqno"] < 0 or not record["shard"]:
        raise QueryError("invalid BlockIdExt")
    return BlockId(
        record["workchain"], record["shard"], record["seqno"], record["root_hash"], record["file_hash"]
    )


def account_key(account: Record) -> int:
    """Read a `liteServer.accountId` as the key of an account."""
    workchain: int = account["workchain"] & 0xFF
    return workchain << _HASH_BITS | int.from_bytes(account["id"], "big")


def find(archive: BlockArchive, record: Record) -> Block:
    """Return the block with exactly that id. Raises `QueryError`."""
    wanted = block_id(record)
    try:
        return archive.find(wanted)
    except BlockNotFoundError:
        raise QueryError(
            f"block {_short(wanted)} is not in db{_suffix(archive, wanted.workchain, wanted.seqno)}",
            QueryError.NOT_READY,
        ) from None


def find_master(archive: BlockArchive, record: Record, refusal: str) -> MasterBlock:
    """Return the masterchain block with exactly that id; `refusal` is the error for other chains."""
    if record["workchain"] != MASTERCHAIN:
        raise QueryError(refusal)
    block = find(archive, record)
    if not isinstance(block, MasterBlock):  # the zero state is no block
        raise QueryError(refusal)
    return block


def look_up(archive: BlockArchive, query: Record) -> Block:
    """Return the block that `lookupBlock` asks for, by seqno, logical time or unix time.

    By time it is, as on TON's own servers, the first block that is not older. Raises `QueryError`.
    """
    mode, wanted = query["mode"], query["id"]
    workchain = wanted["workchain"]
    if mode & 7 not in (1, 2, 4):
        raise QueryError("exactly one of mode.0, mode.1 and mode.2 bits must be set")
    if mode & 1:
        name, value = "seqno", wanted["seqno"] & 0xFFFF_FFFF
    elif mode & 2:
        name, value = "lt", query["lt"] & _SHARD_MASK
    else:
        name, value = "utime", query["utime"] & 0xFFFF_FFFF
    search: dict[str, Callable[[int, int], Block]]
    search = {"seqno": archive.by_seqno, "lt": archive.by_lt, "utime": partial(_not_older, archive)}
    try:
        return search[name](workchain, value)
    except BlockNotFoundError:
        known = value <= archive.head.id.seqno if name == "seqno" else False
        suffix = "" if known else _suffix(archive, workchain, archive.head.id.seqno + 1)
        prefix = f"({workchain},{wanted['shard'] & _SHARD_MASK:016x})"
        raise QueryError(
            f"cannot find block {prefix} {name}={value}: ltdb: block not found{suffix}",
            QueryError.NOT_READY,
        ) from None


def _not_older(archive: BlockArchive, workchain: int, utime: int) -> Block:
    """Return the first block that was made at `utime` or later."""
    try:
        older = archive.by_utime(workchain, utime - 1).seqno
    except BlockNotFoundError:
        older = 0
    return archive.by_seqno(workchain, older + 1)


def _short(block: BlockId) -> str:
    return f"({block.workchain},{block.shard & _SHARD_MASK:016x},{block.seqno})"


def long_text(block: BlockId) -> str:
    """Return a block's id as liteservers write it into texts."""
    return f"{_short(block)}:{block.root_hash.hex().upper()}:{block.file_hash.hex().upper()}"


def _suffix(archive: BlockArchive, workchain: int, seqno: int) -> str:
    """Tell a client that is ahead of the chain how far the chain is."""
    head = archive.head.id.seqno
    if workchain == MASTERCHAIN:
        return f" (last known masterchain block: {head})" if seqno > head else ""
    if workchain == BASECHAIN and seqno > archive.head.shard_block.id.seqno:
        return f" (possibly out of sync: shard_client_seqno={head} ls_seqno={head})"
    return ""
