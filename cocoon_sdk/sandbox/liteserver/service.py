"""`NodeService`: one query in, one answer out.

Owns the envelope of queries, waiting for a block in front of one, the table of what can be asked, and how
failures become `liteServer.error`. The answers themselves are the `queries` modules' business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from cocoon_sdk.errors import CocoonError
from cocoon_sdk.sandbox.liteserver.connection import Connection
from cocoon_sdk.sandbox.liteserver.errors import MAX_TEXT_BYTES, QueryError, TlError
from cocoon_sdk.sandbox.liteserver.ids import MASTERCHAIN, Answer
from cocoon_sdk.sandbox.liteserver.limits import Limits
from cocoon_sdk.sandbox.liteserver.messages import send_message
from cocoon_sdk.sandbox.liteserver.queries import HANDLERS
from cocoon_sdk.sandbox.liteserver.tl import Record, Source, lite_schema
from cocoon_sdk.sandbox.node import Node

Handler = Callable[[Node, Record], Answer]

_log = logging.getLogger(__name__)
_PREFIX = "liteServer."
_WAIT = "liteServer.waitMasterchainSeqno"
_SEND = "liteServer.sendMessage"
_MAX_AHEAD = 100
_ABOUT_NOW = {"liteServer.getMasterchainInfo", "liteServer.getMasterchainInfoExt"}
_SHOWS_KNOWLEDGE = "liteServer.getAllShardsInfo"


class NodeService:
    """Answers queries from a node's blocks. `handlers` can be replaced one by one (for tests of clients)."""

    def __init__(self, node: Node, limits: Limits) -> None:
        self.node = node
        self.handlers: dict[str, Handler] = dict(HANDLERS)
        self._limits = limits
        self._schema = lite_schema()
        self._functions = {_PREFIX + name for name in HANDLERS} | {_SEND}

    def answer(self, peer: Connection, query: bytes) -> bytes | Coroutine[Any, Any, bytes]:
        """Answer a `liteServer.query`, now or (where the chain has to do something first) later."""
        try:
            source = Source(self._unwrap(query))
            wait: Record | None = None
            if self._schema.starts_with(source.rest(), _WAIT):
                wait = self._schema.decode(source, (_WAIT,))[1]
            name, fields = self._read(source)
            self._observe(peer, wait, name, fields)
            if name == _SEND or (wait is not None and wait["seqno"] > self.node.head.id.seqno):
                return self._later(peer, wait, name, fields)
            return self._now(name, fields)
        except Exception as error:
            return self._failure(error)

    async def _later(self, peer: Connection, wait: Record | None, name: str, fields: Record) -> bytes:
        try:
            if wait is not None:
                await self._wait(peer, wait, lenient=name in _ABOUT_NOW)
            if name != _SEND:
                return self._now(name, fields)
            kind, answer = await send_message(self.node, fields["body"])
            await peer.catch_up(self.node.head.id.seqno)
            return self._schema.encode(_PREFIX + kind, **answer)
        except Exception as error:
            return self._failure(error)

    def _now(self, name: str, fields: Record) -> bytes:
        kind, answer = self.handlers[name.removeprefix(_PREFIX)](self.node, fields)
        return self._schema.encode(_PREFIX + kind, **answer)

    def _failure(self, error: Exception) -> bytes:
        if isinstance(error, QueryError):
            return self._error(error.code, error.text)
        if isinstance(error, TlError):
            return self._error(QueryError.FAILED, str(error))
        if not isinstance(error, CocoonError):
            _log.error("a liteserver query failed", exc_info=error)
        return self._error(QueryError.INTERNAL, f"internal error: {error}")

    def _error(self, code: int, text: str) -> bytes:
        short = text.encode()[:MAX_TEXT_BYTES].decode(errors="ignore")
        return self._schema.encode("liteServer.error", code=code, message=short)

    def _unwrap(self, query: bytes) -> bytes:
        schema = self._schema
        if schema.starts_with(query, "liteServer.query"):
            inner: bytes = schema.decode_whole(query, "liteServer.query")["data"]
            return inner
        source = Source(query)
        schema.decode(source, ("liteServer.queryPrefix",))
        return source.rest()

    def _observe(self, peer: Connection, wait: Record | None, name: str, fields: Record) -> None:
        """Learn from a question which block the client knows; see `Connection.catch_up`."""
        if wait is not None and name in _ABOUT_NOW:
            peer.follows(wait["seqno"] - 1)
        elif name == _SHOWS_KNOWLEDGE and fields["id"]["workchain"] == MASTERCHAIN:
            peer.learned(fields["id"]["seqno"])

    def _read(self, source: Source) -> tuple[str, Record]:
        codec = self._schema.by_id.get(source.data[source.at : source.at + 4])
        if codec is None or codec.name not in self._functions:
            raise QueryError("unknown query", QueryError.UNKNOWN_QUERY)
        name, query = self._schema.decode(source, (codec.name,))
        if source.left:
            raise TlError("Too much data to fetch")
        return name, query

    async def _wait(self, peer: Connection, wait: Record, *, lenient: bool) -> None:
        """Wait for a block, bounded by the client's patience and ours.

        A question about the newest block is answered in any case: TON's own servers answer with error 652
        when no block came, which ends the task by which pytoniq follows the chain.
        """
        node, seqno = self.node, wait["seqno"]
        if seqno > node.head.id.seqno + _MAX_AHEAD and not lenient:
            raise QueryError("too big masterchain block seqno", QueryError.NOT_READY)
        if not peer.may_wait:
            raise QueryError("too many queries of one connection wait for a block", QueryError.NOT_READY)
        timeout_s = min(wait["timeout_ms"] / 1000, self._limits.max_wait_s)
        if timeout_s > 0:
            with peer.waiting():
                await node.wait_seqno(seqno, timeout_s)
        if node.head.id.seqno < seqno and not lenient:
            raise QueryError("timeout", QueryError.TIMEOUT)


def supported() -> frozenset[str]:
    """Return the names of all queries that are answered, without their prefix."""
    return frozenset(HANDLERS) | {_SEND.removeprefix(_PREFIX)}
