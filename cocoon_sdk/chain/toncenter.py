"""`ToncenterChain`: the `Chain` protocol over a toncenter v2 HTTP API.

Owns the meaning of toncenter's methods and answers: block times, cursors, account states, rejections.
Must not know contracts. The endpoint is believed about state (it gives no proofs), but everything it says
about transactions is checked against the transaction cells and the links between them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.base import (
    AccountState,
    AccountStatus,
    ChainHead,
    Link,
    StackValue,
    TransactionRecord,
)
from cocoon_sdk.chain.boc import decode_base64, decode_boc_base64, encode_boc_base64, transaction_record
from cocoon_sdk.chain.history_pages import HistoryPages
from cocoon_sdk.chain.http_transport import (
    EndpointFailedError,
    JsonRpcTransport,
    MalformedResponseError,
    RequestRefusedError,
    TransportLimits,
)
from cocoon_sdk.chain.rejections import rejection
from cocoon_sdk.chain.stack import decode_legacy, decode_typed, encode_legacy, encode_typed
from cocoon_sdk.clock import Clock, SystemClock
from cocoon_sdk.errors import (
    AccountNotFoundError,
    ChainError,
    ChainStaleError,
    ChainTimeoutError,
    ConfigError,
    GetterError,
    MalformedError,
)
from cocoon_sdk.types import Nano

_PAGE = 100
_GLOBAL_ID_PARAM = 19
_NO_CODE = -13
"""What a get-method "exits" with on an account without code."""

_STATES = {
    "uninitialized": AccountStatus.UNINIT,
    "active": AccountStatus.ACTIVE,
    "frozen": AccountStatus.FROZEN,
}
_PRUNED = re.compile(r"not in db|cannot (?:find|compute|load|locate) ", re.I)


class ToncenterChain:
    """A `Chain` over one toncenter v2 endpoint, such as `https://toncenter.com/api/v2`.

    `max_lag_s` is the oldest newest block that `head` accepts (None: any), `poll_s` the pause between
    looks in `wait_head`. Raises `ConfigError` for an endpoint that makes no sense.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        api_key: str | None = None,
        clock: Clock | None = None,
        limits: TransportLimits | None = None,
        max_lag_s: int | None = 60,
        poll_s: float = 1.0,
        jitter: random.Random | None = None,
    ) -> None:
        if poll_s <= 0 or (max_lag_s is not None and max_lag_s <= 0):
            raise ConfigError("toncenter settings make no sense", why="poll_s and max_lag_s must be positive")
        self._clock = clock or SystemClock()
        self._transport = JsonRpcTransport(
            endpoint, api_key=api_key, clock=self._clock, limits=limits or TransportLimits(), jitter=jitter
        )
        self._max_lag_s, self._poll_s = max_lag_s, poll_s
        self._head: ChainHead | None = None
        self._global_id: int | None = None
        self._typed_getters = True
        self._history = HistoryPages(self._page, size=_PAGE, unknown=EndpointFailedError)

    def __repr__(self) -> str:
        return f"ToncenterChain({self._transport.host})"

    async def close(self) -> None:
        """Release the sockets; further calls raise `ChainUnavailableError`."""
        await self._transport.close()

    # -- blocks ---------------------------------------------------------------------------------------

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
        info = await self._transport.call("getMasterchainInfo", {})
        last = _object(info, "last")
        seqno = _integer(last, "seqno")
        head = self._head
        if head is None or head.seqno != seqno:
            names = ("workchain", "shard", "seqno", "root_hash", "file_hash")
            params = {name: last[name] for name in names if name in last}
            header = await self._transport.call("getBlockHeader", params)
            head = self._head = ChainHead(seqno, _integer(header, "gen_utime"))
        lag = self._clock.now() - head.now
        if self._max_lag_s is not None and lag > self._max_lag_s:
            raise ChainStaleError(
                f"{self!r} lags behind",
                why=f"its newest block {head.seqno} is {lag} s old, at most {self._max_lag_s} s are accepted",
                hint="Use another endpoint, or check this machine's clock",
            )
        return head

    async def wait_head(self, after_seqno: int, timeout_s: float) -> ChainHead:
        """Poll until the newest block is above `after_seqno` or `timeout_s` is over; return the newest."""
        waited = 0.0
        while True:
            head = await self.head()
            if head.seqno > after_seqno or waited >= timeout_s:
                return head
            pause = min(self._poll_s, timeout_s - waited)
            waited += pause
            await self._clock.sleep(pause)

    async def config_param(self, index: int) -> Cell | None:
        """Return one configuration parameter, or None when it is not set."""
        result = await self._transport.call("getConfigParam", {"config_id": index})
        text = _object(result, "config").get("bytes")
        return _cell(text) if text else None

    # -- accounts -------------------------------------------------------------------------------------

    async def account(self, address: Address) -> AccountState:
        """Return an account's state; "uninitialized" without any transaction means that it does not exist."""
        result = await self._transport.call("getAddressInformation", {"address": _raw(address)})
        last = _object(result, "last_transaction_id")
        last_lt = _integer(last, "lt")
        status = _STATES.get(str(result.get("state")))
        if status is None:
            raise MalformedResponseError("getAddressInformation", why="unknown account state")
        if status is AccountStatus.UNINIT and last_lt == 0:
            status = AccountStatus.NONEXIST
        code, data = result.get("code"), result.get("data")
        return AccountState(
            address=address,
            status=status,
            balance=Nano(max(0, _integer(result, "balance"))),  # -1 stands for a missing account
            code=_cell(code) if code else None,
            data=_cell(data) if data else None,
            last_lt=last_lt,
            last_hash=_hash(last) if last_lt else bytes(32),
        )

    async def run_getter(
        self, address: Address, method: str | int, stack: Sequence[StackValue] = ()
    ) -> list[StackValue]:
        """Run a get-method at the endpoint's newest block.

        Raises `GetterError` with the exit code, or `AccountNotFoundError` when there is no code to run.
        Old endpoints report slices as cells: read them with `cocoon_sdk.chain.stack.as_slice`.
        """
        params = {"address": _raw(address), "method": method}
        result, typed = await self._run(params, stack)
        exit_code = _integer(result, "exit_code")
        what = f"get-method {method} of {address.to_str()}"
        if exit_code == _NO_CODE:
            raise AccountNotFoundError(
                what, why="the account holds no code", hint="Deploy the contract first"
            )
        if exit_code not in (0, 1):
            raise GetterError(what, exit_code=exit_code, why=f"exit code {exit_code}")
        try:
            return decode_typed(result.get("stack")) if typed else decode_legacy(result.get("stack"))
        except MalformedError as error:
            raise MalformedResponseError(what, why=str(error)) from error

    async def _run(self, params: dict[str, Any], stack: Sequence[StackValue]) -> tuple[Any, bool]:
        if self._typed_getters:
            try:
                arguments = {**params, "stack": encode_typed(stack)}
                return await self._transport.call("runGetMethodStd", arguments), True
            except RequestRefusedError as error:
                if error.status not in (404, 405, 422):
                    raise
        result = await self._transport.call("runGetMethod", {**params, "stack": encode_legacy(stack)})
        # Reached only if the endpoint knows the old method alone, not if the request itself was refused.
        self._typed_getters = False
        return result, False

    # -- transactions ---------------------------------------------------------------------------------

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

        toncenter pages by (lt, hash) of a known transaction: see `history_pages`.
        """
        return await self._history.transactions(
            address, limit=limit, before_lt=before_lt, after_lt=after_lt, start=start
        )

    async def _page(
        self, address: Address, link: Link | None, count: int, after_lt: int
    ) -> list[TransactionRecord]:
        # lt goes as text: it exceeds what some JSON readers hold exactly.
        params: dict[str, Any] = {"address": _raw(address), "limit": count, "to_lt": str(after_lt)}
        if link is not None:
            params |= {"lt": str(link[0]), "hash": link[1].hex()}
        try:
            result = await self._transport.call("getTransactions", params)
        except EndpointFailedError as error:
            if not _PRUNED.search(error.answer):
                raise
            # Ordinary liteservers forget after some weeks; archive nodes do not.
            result = await self._transport.call("getTransactions", {**params, "archival": True})
        if not isinstance(result, list) or len(result) > count:
            raise MalformedResponseError("getTransactions", why="not an array within the asked limit")
        if not result and link is not None:
            raise MalformedResponseError("getTransactions", why=f"nothing at lt {link[0]}")
        page: list[TransactionRecord] = []
        for item in result:
            try:
                record = transaction_record(address, _cell(_object(item).get("data")))
            except MalformedError as error:
                raise MalformedResponseError("getTransactions", why=str(error)) from error
            if link is not None and record.link != link:
                raise MalformedResponseError("getTransactions", why=f"history has a gap at lt {record.lt}")
            if record.lt <= after_lt:
                break
            page.append(record)
            link = record.previous
        return page

    # -- sending --------------------------------------------------------------------------------------

    async def send(self, message: Cell) -> bytes:
        """Send an external message; return its hash.

        Raises `ExternalRejectedError` (with the exit code if the endpoint names it) when not accepted. After
        a `ChainTimeoutError` the message may still take effect: look at the account before sending again.
        """
        try:
            await self._transport.call(
                "sendBocReturnHash", {"boc": encode_boc_base64(message)}, repeatable=False
            )
        except ChainTimeoutError as error:
            error.hint = error.hint or "The message may still take effect: look before you send again"
            raise
        except (EndpointFailedError, RequestRefusedError) as error:
            refused = rejection(error.answer)
            if refused is None:
                raise
            raise refused from error
        return bytes(message.hash)


def _raw(address: Address) -> str:
    return str(address.to_str(is_user_friendly=False))


def _object(holder: Any, name: str | None = None) -> dict[str, Any]:
    value = holder if name is None else _object(holder).get(name)
    if not isinstance(value, dict):
        raise MalformedResponseError("toncenter answer", why=f"{name or 'item'} is not an object")
    return value


def _integer(holder: Any, name: str) -> int:
    value = _object(holder).get(name)
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,40}", value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise MalformedResponseError("toncenter answer", why=f"{name} is not an integer")


def _hash(holder: dict[str, Any]) -> bytes:
    value = holder.get("hash")
    raw = decode_base64(value) if isinstance(value, str) and len(value) <= 64 else b""
    if len(raw) != 32:
        raise MalformedResponseError("toncenter answer", why="hash is not 32 bytes of base64")
    return raw


def _cell(text: Any) -> Cell:
    try:
        return decode_boc_base64(text)
    except MalformedError as error:
        raise MalformedResponseError("toncenter answer", why=str(error)) from error
