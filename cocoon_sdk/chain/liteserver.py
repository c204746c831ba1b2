"""`LiteserverChain`: the `Chain` protocol over TON's liteservers (ADNL), with proofs checked.

Owns what liteservers' questions and answers mean for a `Chain`. Must not know contracts, sockets
(`liteserver_pool`) or why a block is believed (`liteserver_blocks`).

What is trusted: a masterchain block, as far as `Trust` says. Against it are proven: accounts and their
absence, code, data, balances, configuration; and from an account's last transaction all older ones, by their
hashes. Not proven: results of get-methods. Liteservers send no proof of an execution, so by default two
servers must report the same result at the same block (`confirm_getters`); with one server its word is taken.
That a message was sent shows only by its effect.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pytoniq_core import Address, Cell

from cocoon_sdk.chain import proofs
from cocoon_sdk.chain.base import AccountState, ChainHead, Link, StackValue, TransactionRecord
from cocoon_sdk.chain.boc import decode_boc, decode_boc_roots, encode_boc, transaction_record
from cocoon_sdk.chain.history_pages import HistoryPages
from cocoon_sdk.chain.liteserver_blocks import LiteserverBlocks, Trust
from cocoon_sdk.chain.liteserver_config import LiteserverConfig
from cocoon_sdk.chain.liteserver_limits import PoolLimits
from cocoon_sdk.chain.liteserver_pool import Answer, LiteserverPool, ServerRefusedError
from cocoon_sdk.chain.proofs import BlockId, ProofError, ProvenAccount
from cocoon_sdk.chain.rejections import rejection
from cocoon_sdk.chain.vm_stack import decode_vm_stack, encode_vm_stack
from cocoon_sdk.clock import Clock, SystemClock
from cocoon_sdk.errors import (
    AccountNotFoundError,
    ChainError,
    ChainStaleError,
    ChainTimeoutError,
    ChainUnavailableError,
    ConfigError,
    ExternalRejectedError,
    GetterError,
    MalformedError,
)

_PAGE: Final = 16
"""Most transactions that a liteserver sends at once."""
_GLOBAL_ID_PARAM: Final = 19
_NO_CODE: Final = -256
_RESULT_ONLY: Final = 4
_LOOK_AGAIN: Final = "The message may still take effect: look before you send again"


class LiteserverChain:
    """A `Chain` over the liteservers of a configuration: `LiteserverConfig.load("mainnet")`, or a file.

    `trust` says why the newest block is believed; under `Trust.AGREED`, `quorum` servers must name the same
    (2, or 1 where the configuration has only one server). Under `Trust.PROVEN`, `anchor` is a file that keeps
    the newest key block proven: without it every start proves all since the configuration's again.
    `confirm_getters` has two servers run every get-method. `send_to` servers get each message at once.
    `max_lag_s` is the oldest newest block that `head` accepts (None: any). Connects at the first call. Raises
    `ConfigError` for settings that make no sense.
    """

    def __init__(
        self,
        config: LiteserverConfig,
        *,
        trust: Trust = Trust.AGREED,
        quorum: int | None = None,
        anchor: Path | None = None,
        confirm_getters: bool = True,
        send_to: int = 2,
        clock: Clock | None = None,
        limits: PoolLimits | None = None,
        max_lag_s: int | None = 60,
        chance: random.Random | None = None,
    ) -> None:
        limits = limits or PoolLimits()
        count = min(len(config.servers), limits.servers)
        quorum = min(2, count) if quorum is None else quorum
        if not 1 <= quorum <= count or send_to < 1 or (max_lag_s is not None and max_lag_s <= 0):
            raise ConfigError(
                "liteserver settings make no sense",
                why=f"quorum must be within 1..{count}, the servers in use; send_to and max_lag_s positive",
            )
        self._clock = clock or SystemClock()
        self._pool = LiteserverPool(config, limits=limits, clock=self._clock, chance=chance)
        self._blocks = LiteserverBlocks(self._pool, trust=trust, quorum=quorum, anchor=anchor)
        self._getter_quorum = min(2, count) if confirm_getters else 1
        self._send_to, self._max_lag_s = send_to, max_lag_s
        self._history = HistoryPages(self._page, size=_PAGE, unknown=ServerRefusedError)
        self._global_id: int | None = None

    def __repr__(self) -> str:
        return f"LiteserverChain({self._pool.config.origin})"

    async def close(self) -> None:
        """End the connections; further calls raise `ChainUnavailableError`."""
        await self._pool.close()

    # -- blocks ---------------------------------------------------------------------------------------------

    async def global_id(self) -> int:
        """Return the signed network id; asked once, then remembered."""
        if self._global_id is None:
            cell = await self.config_param(_GLOBAL_ID_PARAM)
            if cell is None or len(cell.bits) < 32:
                raise ChainError("the network names no global id", why="ConfigParam 19 is not set")
            self._global_id = int(cell.begin_parse().load_int(32))
        return self._global_id

    async def head(self) -> ChainHead:
        """Return the newest masterchain block. Raises `ChainStaleError` when it is older than `max_lag_s`."""
        block = await self._blocks.newest()
        head = ChainHead(block.seqno, (await self._blocks.header(block)).gen_utime)
        lag = self._clock.now() - head.now
        if self._max_lag_s is not None and lag > self._max_lag_s:
            raise ChainStaleError(
                f"{self!r} lags behind",
                why=f"its newest block {head.seqno} is {lag} s old, at most {self._max_lag_s} s are accepted",
                hint="Use other servers, or check this machine's clock",
            )
        return head

    async def wait_head(self, after_seqno: int, timeout_s: float) -> ChainHead:
        """Wait until a block is above `after_seqno` or `timeout_s` real seconds are over; return the newest.

        Servers are not polled: each answers a standing question when it has the next block.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        head = await self.head()
        while head.seqno <= after_seqno and (remaining := deadline - loop.time()) > 0:
            if self._pool.newest_seqno <= after_seqno:
                await self._pool.wait_for_change(remaining)
            if self._pool.newest_seqno > after_seqno:
                head = await self.head()
        return head

    async def config_param(self, index: int) -> Cell | None:
        """Return one configuration parameter, proven; None, proven too, when it is not set."""
        block = await self._blocks.newest()
        return await self._pool.ask(
            "getConfigParams",
            {"mode": 0, "id": block.to_tl(), "param_list": [index]},
            lambda answer: proofs.config_param(
                block, answer.get("state_proof"), answer.get("config_proof"), index
            ),
            wait_seqno=block.seqno,
        )

    # -- accounts -------------------------------------------------------------------------------------------

    async def account(self, address: Address) -> AccountState:
        """Return an account's state at the newest block, proven; absence is proven too."""
        return proofs.read_account(address, await self._account(address))

    async def _account(self, address: Address) -> ProvenAccount:
        block = await self._blocks.newest()

        def read(answer: Answer) -> ProvenAccount:
            if BlockId.from_tl(answer.get("id")) != block:
                raise ProofError(f"account {address.to_str()}", why="the answer is about another block")
            shard = BlockId.from_tl(answer.get("shardblk"))
            parts = (answer.get(name) for name in ("shard_proof", "proof", "state"))
            return proofs.account(block, address, shard, *parts)

        question = {"id": block.to_tl(), "account": _account_id(address)}
        return await self._pool.ask("getAccountState", question, read, wait_seqno=block.seqno)

    async def run_getter(
        self, address: Address, method: str | int, stack: Sequence[StackValue] = ()
    ) -> list[StackValue]:
        """Run a get-method at the newest block, on two servers where there are (`confirm_getters`).

        Raises `GetterError` with the exit code, `AccountNotFoundError` when there is no code to run, and
        `ServersDisagreeError` when servers report different results.
        """
        what = f"get-method {method} of {address.to_str()}"
        block = await self._blocks.newest()
        question = {
            "mode": _RESULT_ONLY,
            "id": block.to_tl(),
            "account": _account_id(address),
            "method_id": method if isinstance(method, int) else method_id(method),
            "params": encode_boc(encode_vm_stack(stack)),
        }
        exit_code, result = await self._pool.ask(
            "runSmcMethod", question, _outcome, wait_seqno=block.seqno, quorum=self._getter_quorum
        )
        if exit_code == _NO_CODE:
            raise AccountNotFoundError(
                what, why="the account holds no code", hint="Deploy the contract first"
            )
        if exit_code not in (0, 1):
            raise GetterError(what, exit_code=exit_code, why=f"exit code {exit_code}")
        try:
            return decode_vm_stack(decode_boc(result))
        except MalformedError as error:
            raise ProofError(what, why=str(error)) from error

    # -- transactions ---------------------------------------------------------------------------------------

    async def transactions(
        self,
        address: Address,
        *,
        limit: int = 16,
        before_lt: int | None = None,
        after_lt: int = 0,
        start: Link | None = None,
    ) -> list[TransactionRecord]:
        """Return transactions newest first, `after_lt < lt < before_lt`; fewer than `limit` only at the end.

        The newest is named by the proven account, every other one by its successor. Ordinary liteservers
        forget what is older than some weeks: then `ServerRefusedError`, and archive nodes are needed.
        """
        return await self._history.transactions(
            address, limit=limit, before_lt=before_lt, after_lt=after_lt, start=start
        )

    async def _page(
        self, address: Address, link: Link | None, count: int, after_lt: int
    ) -> list[TransactionRecord]:
        if link is None:
            found = await self._account(address)
            link = (found.last_lt, found.last_hash)
        if link[0] <= after_lt:
            return []
        start = link

        def read(answer: Answer) -> list[TransactionRecord]:
            return proofs.checked(
                f"transactions of {address.to_str()}",
                lambda: _linked(address, start, answer.get("transactions"), count),
            )

        question = {"count": count, "account": _account_id(address), "lt": link[0], "hash": link[1].hex()}
        records = await self._pool.ask("getTransactions", question, read)
        return [record for record in records if record.lt > after_lt]

    # -- sending --------------------------------------------------------------------------------------------

    async def send(self, message: Cell) -> bytes:
        """Send an external message to `send_to` servers; return its hash once one of them has accepted it.

        Raises `ExternalRejectedError` (with the exit code if a server names it) when none accepts. After a
        `ChainTimeoutError` the message may still take effect: look at the account before sending again.
        """
        answers = await self._pool.tell("sendMessage", {"body": encode_boc(message)}, self._send_to)
        failures: list[Exception] = []
        for answer in answers:
            if isinstance(answer, dict) and answer.get("status") == 1:
                return bytes(message.hash)
            failures.append(_send_failure(answer))
        for kind in (ChainTimeoutError, ExternalRejectedError):
            for failure in failures:
                if isinstance(failure, kind):
                    raise failure
        raise failures[0]


def method_id(name: str) -> int:
    """Return the number of a get-method: CRC16 (XMODEM) of its name with bit 16 set."""
    crc = 0
    for byte in name.encode():
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc | 0x10000


def _account_id(address: Address) -> dict[str, Any]:
    return {"workchain": address.wc, "id": address.hash_part.hex()}


def _outcome(answer: Answer) -> tuple[int, bytes]:
    exit_code, result = answer.get("exit_code"), answer.get("result", b"")
    if not isinstance(exit_code, int) or not isinstance(result, bytes):
        raise ProofError("result of a get-method", why="it has no known form")
    # Of a method that threw only the exit code counts: what lies on its stack is for nobody.
    return exit_code, result if exit_code in (0, 1) else b""


def _linked(address: Address, link: Link, data: object, count: int) -> list[TransactionRecord]:
    """Read transactions that must begin at `link` and follow each other without a gap."""
    if not isinstance(data, bytes):
        raise MalformedError("bytes were expected")
    records: list[TransactionRecord] = []
    for cell in decode_boc_roots(data, max_roots=count):
        record = transaction_record(address, cell)
        if record.link != link:
            raise MalformedError(f"history has a gap at lt {record.lt}")
        records.append(record)
        link = record.previous
    return records


def _send_failure(answer: Answer | Exception) -> Exception:
    if isinstance(answer, ChainTimeoutError):
        answer.hint = answer.hint or _LOOK_AGAIN
    if isinstance(answer, ServerRefusedError):
        return rejection(answer.answer) or answer
    if isinstance(answer, Exception):
        return answer
    return ChainUnavailableError("external message", why="a liteserver answered neither yes nor no")
