"""What the rooms of this API share: how a method is declared, and how blocks are found and missed.

Must not know HTTP. Words of errors are those of a liteserver behind the service, since clients read them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from cocoon_sdk.sandbox.blocks import Block, BlockId, BlockNotFoundError, MasterBlock
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.toncenter.params import INT64, Params, Refused, invalid

MASTERCHAIN = -1
WHOLE_SHARD = -(1 << 63)
_TIMES = {"seqno": "seqno", "lt": "lt", "unixtime": "utime"}


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the API with its parameters' names; `get` tells whether a query string may carry them."""

    handler: Callable[[Params], Awaitable[Any]]
    names: frozenset[str]
    get: bool = True


def method(handler: Callable[[Params], Awaitable[Any]], names: str = "", *, get: bool = True) -> Method:
    """Declare a method with its parameters' names in one line."""
    return Method(handler, frozenset(names.split()), get)


class Blocks:
    """Finds the blocks that requests name. Raises `Refused` with a liteserver's words for unknown ones."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def master(self, params: Params) -> MasterBlock:
        """Return the masterchain block that the optional `seqno` names; the newest without it."""
        seqno = params.positive("seqno")
        return self._node.head if seqno is None else self.master_at(seqno)

    def master_at(self, seqno: int) -> MasterBlock:
        """Return a masterchain block by its number."""
        block = self._find(MASTERCHAIN, "seqno", seqno)
        assert isinstance(block, MasterBlock)
        return block

    def by_one_of(self, params: Params) -> Block:
        """Return the block that exactly one of `seqno`, `lt` and `unixtime` names."""
        workchain = params.integer("workchain")
        params.integer("shard", INT64)  # one shard holds everything
        found: dict[str, int | None] = {
            "seqno": params.positive("seqno"),
            "lt": params.non_negative("lt"),
            "unixtime": params.non_negative("unixtime", (-(1 << 31), (1 << 32) - 1)),
        }
        given = [(name, value) for name, value in found.items() if value is not None]
        if len(given) != 1:
            raise invalid("exactly one of seqno, lt, unixtime should be specified")
        return self._find(workchain, *given[0])

    def exactly(self, params: Params) -> Block:
        """Return the block that workchain and number name, and its hashes where they are given."""
        workchain = params.integer("workchain")
        shard = params.integer("shard", INT64)
        params.raw("seqno")
        seqno = params.positive("seqno") or 0
        root_hash, file_hash = params.optional_hash("root_hash"), params.optional_hash("file_hash")
        if root_hash is None or file_hash is None:
            return self._find(workchain, "seqno", seqno)
        try:
            return self._node.archive.find(BlockId(workchain, shard, seqno, root_hash, file_hash))
        except BlockNotFoundError as error:
            name = f"({workchain},{shard & (1 << 64) - 1:016x},{seqno})"
            raise Refused(500, f"LITE_SERVER_NOTREADY: block {name} is not in db") from error

    def _find(self, workchain: int, what: str, value: int) -> Block:
        archive = self._node.archive
        look = {"seqno": archive.by_seqno, "lt": archive.by_lt, "unixtime": archive.by_utime}[what]
        try:
            return look(workchain, value)
        except BlockNotFoundError as error:
            name = _TIMES[what]
            words = f"cannot find block ({workchain},8000000000000000) {name}={value}: {name} not in db"
            if workchain == MASTERCHAIN:
                words += f" (last known masterchain block: {self._node.head.id.seqno})"
            raise Refused(500, f"LITE_SERVER_NOTREADY: {words}") from error
