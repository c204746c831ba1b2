"""`ControlServer`: what a tester does to a running sandbox, over HTTP on loopback.

Owns the methods, their bounds, and the secret of this run, which it writes into the sandbox's folder. Must
not know any contract, nor who serves the chain to clients: what else `status` tells is handed in.
"""

from __future__ import annotations

import base64
import hmac
import json
import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from aiohttp import web
from pytoniq_core import Address

from cocoon_sdk.chain.boc import encode_boc_base64
from cocoon_sdk.errors import CocoonError, MalformedError
from cocoon_sdk.sandbox.blocks import MasterBlock, TransactionNotFoundError
from cocoon_sdk.sandbox.cells import address_key
from cocoon_sdk.sandbox.control.client import CONTROL_FILE
from cocoon_sdk.sandbox.control.traces import related, whole_trace
from cocoon_sdk.sandbox.node import MAX_MINED, Node
from cocoon_sdk.sandbox.storage.account_set import CARRIED_PARAMS
from cocoon_sdk.sandbox.storage.folder import write_document
from cocoon_sdk.sandbox.transactions import Transaction
from cocoon_sdk.types import Nano

MAX_GIFT = Nano.ton(1_000_000_000)
MAX_WARP_S = 100 * 366 * 86_400
MAX_LISTED = 1000
MAX_WAIT_S = 30.0
_MAX_BODY_BYTES = 1 << 18
_log = logging.getLogger(__name__)


class BadCallError(MalformedError):
    """A call of the control API has parameters that make no sense."""


class ControlServer:
    """Serves `POST /<method>` with a JSON object to whoever knows the secret.

    `about` is what `status` tells besides the chain's own facts, `kept` whether the chain outlives the
    process; `rewound` is called after the chain went back. Entering writes `control.json` (mode 0600)
    into `folder`, leaving removes it.
    """

    def __init__(
        self,
        node: Node,
        folder: Path,
        about: Mapping[str, Any],
        *,
        kept: bool,
        rewound: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._node, self._folder, self._about, self._kept = node, folder, about, kept
        self._rewound = rewound
        self._secret = secrets.token_urlsafe(32)
        self._runner: web.AppRunner | None = None
        self._methods: dict[str, Callable[[_Call], Awaitable[Any]]] = {
            "status": self._status,
            "faucet": self._faucet,
            "mine": self._mine,
            "warp": self._warp,
            "snapshot": self._snapshot,
            "restore": self._restore,
            "reset": self._reset,
            "transactions": self._transactions,
            "trace": self._trace,
            "accounts": self._accounts,
        }

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_post("/{method}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.2)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, "127.0.0.1", 0).start()
            port = self._runner.addresses[0][1]
            document = {"url": f"http://127.0.0.1:{port}", "secret": self._secret, "pid": os.getpid()}
            write_document(self._folder / CONTROL_FILE, document)
        except BaseException:
            await self._runner.cleanup()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        (self._folder / CONTROL_FILE).unlink(missing_ok=True)
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._secret}".encode()):
            return _refused(401, BadCallError("the sandbox refuses", why="the secret is not this run's"))
        method = self._methods.get(request.match_info["method"])
        if method is None:
            return _refused(404, BadCallError("the sandbox refuses", why="it knows no such method"))
        try:
            values = json.loads(await request.read() or b"{}")
            if not isinstance(values, dict):
                raise BadCallError("the sandbox refuses", why="parameters must be an object")
            return web.json_response({"result": await method(_Call(values))})
        except CocoonError as error:
            return _refused(400, error)
        except (ValueError, RecursionError):
            return _refused(400, BadCallError("the sandbox refuses", why="the body is not JSON"))

    # -- methods ------------------------------------------------------------------------------------------

    def _block(self, block: MasterBlock) -> dict[str, Any]:
        return {"seqno": block.id.seqno, "now": block.gen_utime}

    async def _status(self, _: _Call) -> Any:
        node = self._node
        return {
            **self._about,
            "pid": os.getpid(),
            "folder": str(self._folder),
            "persistent": self._kept,
            "seqno": node.head.id.seqno,
            "now": node.now,
            "ahead_s": node.offset,
            "follows_clock": node.clock is not None,
            "block_time_s": node.block_time_s,
            "global_id": node.blockchain.global_id,
            "accounts": len(node.blockchain.raw_accounts()),
            "transactions": node.blockchain.transaction_count,
            "waiting": node.waiting,
            "snapshots": node.snapshots(),
        }

    async def _faucet(self, call: _Call) -> Any:
        address = call.address("address")
        amount = call.integer("amount", 1, int(MAX_GIFT))
        hash_ = await self._node.faucet(address, amount)
        balance = self._node.shard_account(address_key(address)).balance
        return {"hash": hash_.hex(), "balance": str(int(balance)), **self._block(self._node.head)}

    async def _mine(self, call: _Call) -> Any:
        return self._block(await self._node.mine(call.integer("blocks", 1, MAX_MINED)))

    async def _warp(self, call: _Call) -> Any:
        return self._block(await self._node.warp(call.integer("seconds", 0, MAX_WARP_S)))

    async def _snapshot(self, call: _Call) -> Any:
        name = call.text("name")
        return {"name": name, "seqno": await self._node.snapshot(name)}

    async def _restore(self, call: _Call) -> Any:
        return await self._went_back(await self._node.restore(call.text("name")))

    async def _reset(self, _: _Call) -> Any:
        return await self._went_back(await self._node.reset())

    async def _went_back(self, block: MasterBlock) -> Any:
        if self._rewound is not None:
            await self._rewound()
        return self._block(block)

    async def _transactions(self, call: _Call) -> Any:
        """List transactions with all that caused them and all they caused, oldest first.

        With `after_lt` it waits up to `wait_s` for newer ones, for those who follow.
        """
        node = self._node
        address = call.address("address") if call.has("address") else None
        limit = call.integer("limit", 1, MAX_LISTED)
        after_lt = call.integer("after_lt", 0, (1 << 63) - 1) if call.has("after_lt") else None
        if after_lt is not None and node.blockchain.lt <= after_lt:
            # A chain that was restored is behind the reader: its next block tells so.
            await node.wait_seqno(node.head.id.seqno + 1, min(call.integer("wait_s", 0, 30), MAX_WAIT_S))
        newest_lt = node.blockchain.lt
        found = node.blockchain.transactions(address, limit=limit, after_lt=min(after_lt or 0, newest_lt))
        chosen = related(found[::-1]) if after_lt is None else found[::-1]
        return {
            "transactions": [_packed(transaction) for transaction in chosen],
            "last_lt": newest_lt,
            **self._block(node.head),
        }

    async def _trace(self, call: _Call) -> Any:
        """Return everything that belongs to a transaction, named by its hash or that of its message."""
        wanted, chain = call.hash("hash"), self._node.blockchain
        history = chain.transactions(limit=chain.transaction_count or 1)[::-1]
        try:
            found = self._node.archive.transaction(wanted)[0]
        except TransactionNotFoundError:
            found = _caused_by(wanted, history)
        return {"transactions": [_packed(one) for one in whole_trace(found, history)]}

    async def _accounts(self, call: _Call) -> Any:
        """Return raw states of accounts, and all public libraries, for a saved set."""
        chain = self._node.blockchain
        found = {}
        for address in call.addresses("addresses"):
            native = chain.raw_account(address_key(address))
            if native is not None:
                found[address.to_str(is_user_friendly=False)] = native.to_boc()
        return {
            "accounts": found,
            "libraries": [encode_boc_base64(cell) for cell in chain.libraries],
            "now": chain.now,
            "config": {
                str(index): encode_boc_base64(cell)
                for index in CARRIED_PARAMS
                if (cell := chain.config.param(index)) is not None
            },
        }


class _Call:
    """The parameters of one call, checked as they are read. Raises `BadCallError`."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def has(self, name: str) -> bool:
        return self._values.get(name) is not None

    def integer(self, name: str, low: int, high: int) -> int:
        value = self._values.get(name)
        if isinstance(value, str) and len(value) <= 40 and value.isdecimal():
            value = int(value)  # large numbers travel as text
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise BadCallError("the sandbox refuses", why=f"{name} must be an integer within {low}..{high}")
        return value

    def text(self, name: str) -> str:
        value = self._values.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= 200:
            raise BadCallError("the sandbox refuses", why=f"{name} must be a short text")
        return value

    def address(self, name: str) -> Address:
        return self._address(name, self.text(name))

    def addresses(self, name: str) -> list[Address]:
        values = self._values.get(name)
        if not isinstance(values, list) or len(values) > MAX_LISTED:
            raise BadCallError("the sandbox refuses", why=f"{name} must be a list of at most {MAX_LISTED}")
        return [self._address(name, value) for value in values]

    def _address(self, name: str, value: Any) -> Address:
        try:
            address = Address(value)
        except Exception as error:  # the library signals a bad address with unrelated exception types
            raise BadCallError("the sandbox refuses", why=f"{name} is not an address") from error
        if address.wc not in (0, -1):
            raise BadCallError("the sandbox refuses", why=f"there is no workchain {address.wc} here")
        return address

    def hash(self, name: str) -> bytes:
        text = self.text(name)
        try:
            data = (
                bytes.fromhex(text) if len(text) == 64 else base64.b64decode(_standard(text), validate=True)
            )
        except ValueError:
            data = b""
        if len(data) != 32:
            raise BadCallError("the sandbox refuses", why=f"{name} is neither 64 hex digits nor base64")
        return data


def _caused_by(message: bytes, history: Sequence[Transaction]) -> Transaction:
    """Return the newest transaction that a message caused. Raises `BadCallError`."""
    for transaction in reversed(history):
        if transaction.in_msg.hash == message:
            return transaction
    raise BadCallError(
        f"there is no transaction {message.hex()}",
        why="neither a transaction nor an incoming message has that hash",
        hint="after a restore, later transactions are gone",
    )


def _standard(text: str) -> str:
    return text.replace("-", "+").replace("_", "/")


def _packed(transaction: Transaction) -> dict[str, Any]:
    return {"key": f"{transaction.key:066x}", "seqno": transaction.seqno, "boc": transaction.native.to_boc()}


def _refused(status: int, error: CocoonError) -> web.Response:
    parts = {"type": type(error).__name__, "what": error.what, "why": error.why, "hint": error.hint}
    return web.json_response({"error": parts}, status=status)
