"""`ToncenterServer`: a toncenter v2 HTTP API on loopback over any `Chain`.

Owns routing, parameter checks, bounds and error statuses. Must not know which chain it serves: what only a
sandbox can do (`/sandbox/...`) comes in through `SandboxControl`.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, Self

from aiohttp import web
from pytoniq_core import Address

from cocoon_sdk.chain.base import Chain, ChainHead
from cocoon_sdk.chain.boc import encode_boc_base64
from cocoon_sdk.chain.stack import decode_legacy, decode_typed, encode_legacy, encode_typed
from cocoon_sdk.errors import (
    AccountNotFoundError,
    ChainTimeoutError,
    ChainUnavailableError,
    CocoonError,
    ConfigError,
    ExternalRejectedError,
    GetterError,
    MalformedError,
)
from cocoon_sdk.sandbox import toncenter_json as shapes
from cocoon_sdk.sandbox.http_params import Params, Refused
from cocoon_sdk.types import Nano

MAX_BODY_BYTES = 1 << 20
MAX_FAUCET = Nano.ton(1_000_000_000)
MAX_WARP_S = 10 * 365 * 86400
_KNOWN_HEADS = 1024
_NO_CODE = -13

_log = logging.getLogger(__name__)
Handler = Callable[[Params], Awaitable[Any]]


class SandboxControl(Protocol):
    """What a sandbox can do and a network cannot; `cocoon_sdk.sandbox.blockchain.Blockchain` fits."""

    def faucet(self, address: Address, amount: int) -> object:
        """Mint `amount` nanoTON to an address."""
        ...

    def warp(self, seconds: int) -> None:
        """Let `seconds` of chain time pass."""
        ...


class ToncenterServer:
    """Serves `/api/v2/<method>` and `/api/v2/jsonRPC` over `chain`, and `/sandbox/...` over `control`.

    Listens on loopback unless `host` says otherwise; `port` 0 picks a free one, see `url`. There is no
    authentication: anyone who reaches the port may use the faucet. Does not close `chain`.
    """

    def __init__(
        self, chain: Chain, *, control: SandboxControl | None = None, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._chain, self._control = chain, control
        self._host, self._port = host, port
        self._runner: web.AppRunner | None = None
        self._url: str | None = None
        self._heads: OrderedDict[int, ChainHead] = OrderedDict()
        self._methods: dict[str, Handler] = {
            "getMasterchainInfo": self._masterchain_info,
            "getBlockHeader": self._block_header,
            "lookupBlock": self._lookup_block,
            "getAddressInformation": self._address_information,
            "getExtendedAddressInformation": self._extended_information,
            "getWalletInformation": self._wallet_information,
            "getAddressBalance": self._address_balance,
            "getAddressState": self._address_state,
            "getTransactions": self._transactions,
            "runGetMethod": self._run_get_method,
            "runGetMethodStd": self._run_get_method_std,
            "sendBoc": self._send_boc,
            "sendBocReturnHash": self._send_boc_return_hash,
            "getConfigParam": self._config_param,
        }
        self._sandbox: dict[str, Handler] = {
            "faucet": self._faucet,
            "warp": self._warp,
            "info": self._info,
        }

    @property
    def url(self) -> str:
        """Base URL without a trailing slash, such as `http://127.0.0.1:34567`; the API is below `/api/v2`."""
        if self._url is None:
            raise ConfigError("the server has no URL", why="it is not running", hint="Await start() first")
        return self._url

    async def start(self) -> Self:
        """Bind and serve. Raises `ConfigError` when already running, `OSError` when the port is taken."""
        if self._runner is not None:
            raise ConfigError("the server cannot start", why="it is already running")
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post("/api/v2/jsonRPC", self._json_rpc)
        app.router.add_get("/api/v2/{method}", self._rest)
        app.router.add_post("/api/v2/{method}", self._rest)
        app.router.add_get("/sandbox/info", self._rest_sandbox)
        app.router.add_post("/sandbox/{method}", self._rest_sandbox)
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._host, self._port, shutdown_timeout=1.0)
            await site.start()
        except BaseException:
            await runner.cleanup()
            raise
        port = runner.addresses[0][1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._runner, self._url = runner, f"http://{host}:{port}"
        return self

    async def stop(self) -> None:
        """Close the socket and all connections; a stopped server may start again."""
        runner, self._runner, self._url = self._runner, None, None
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # -- HTTP -----------------------------------------------------------------------------------------

    async def _rest(self, request: web.Request) -> web.Response:
        name = request.match_info["method"]
        return await self._answer(self._methods.get(name), await self._read(request), {})

    async def _rest_sandbox(self, request: web.Request) -> web.Response:
        name = request.match_info.get("method", "info")
        return await self._answer(self._sandbox.get(name), await self._read(request), {})

    async def _json_rpc(self, request: web.Request) -> web.Response:
        call = await self._read(request)
        if isinstance(call, Refused):
            return _error(call.status, call.words, {"jsonrpc": "2.0"})
        values = call if isinstance(call, dict) else {}
        identity = values.get("id")
        extra = {"jsonrpc": "2.0", "id": identity if isinstance(identity, str | int) else None}
        name = values.get("method")
        handler = self._methods.get(name) if isinstance(name, str) else None
        return await self._answer(handler, values.get("params", {}), extra)

    async def _read(self, request: web.Request) -> Any:
        """Return the parameters of a request, or the refusal to answer with."""
        if request.method == "GET":
            return dict(request.query)
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return Refused(413, f"request body exceeds {MAX_BODY_BYTES} bytes")
        if not body:
            return {}
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            return Refused(422, "Validation error: body is not JSON")

    async def _answer(self, handler: Handler | None, values: Any, extra: dict[str, Any]) -> web.Response:
        try:
            if isinstance(values, Refused):
                raise values
            if handler is None:
                raise Refused(422 if extra else 404, "Unknown method")
            result = await handler(Params(values))
        except Refused as error:
            return _error(error.status, error.words, extra)
        except CocoonError as error:
            return _error(_status(error), _words(error), extra)
        except Exception as error:
            _log.exception("a request to the toncenter API failed")
            return _error(500, f"{type(error).__name__}: {error}"[:300], extra)
        return web.json_response({"ok": True, "result": result, **extra})

    # -- blocks ---------------------------------------------------------------------------------------

    async def _head(self) -> ChainHead:
        """Return the newest block and remember its time: `Chain` cannot be asked for an older block."""
        head = await self._chain.head()
        self._heads[head.seqno] = head
        self._heads.move_to_end(head.seqno)
        if len(self._heads) > _KNOWN_HEADS:
            self._heads.popitem(last=False)
        return head

    async def _masterchain_info(self, _: Params) -> Any:
        return shapes.masterchain_info(await self._head())

    async def _block_header(self, params: Params) -> Any:
        return shapes.block_header(await self._known(params), await self._chain.global_id())

    async def _lookup_block(self, params: Params) -> Any:
        return shapes.block_id((await self._known(params)).seqno)

    async def _known(self, params: Params) -> ChainHead:
        params.integer("workchain", shapes.MASTERCHAIN, shapes.MASTERCHAIN)
        params.integer("shard", shapes.WHOLE_SHARD, shapes.WHOLE_SHARD)
        seqno = params.integer("seqno", 0, (1 << 32) - 1)
        newest = await self._head()
        head = newest if newest.seqno == seqno else self._heads.get(seqno)
        if head is None or seqno > newest.seqno:
            raise Refused(500, "LITE_SERVER_UNKNOWN: block is not in db")
        return head

    async def _config_param(self, params: Params) -> Any:
        name = "config_id" if params.has("config_id") else "param"
        cell = await self._chain.config_param(params.integer(name, -(1 << 31), (1 << 31) - 1))
        text = "" if cell is None else encode_boc_base64(cell)
        return {"@type": "configInfo", "config": {"@type": "tvm.cell", "bytes": text}}

    # -- accounts -------------------------------------------------------------------------------------

    async def _address_information(self, params: Params) -> Any:
        return shapes.address_information(await self._chain.account(params.address()), await self._head())

    async def _extended_information(self, params: Params) -> Any:
        state = await self._chain.account(params.address())
        return shapes.extended_address_information(state, await self._head())

    async def _wallet_information(self, params: Params) -> Any:
        return shapes.wallet_information(await self._chain.account(params.address()))

    async def _address_balance(self, params: Params) -> Any:
        return str(int((await self._chain.account(params.address())).balance))

    async def _address_state(self, params: Params) -> Any:
        return shapes.account_state(await self._chain.account(params.address()))

    async def _transactions(self, params: Params) -> Any:
        address = params.address()
        limit = params.integer("limit", 1, 100, 10)
        to_lt = params.integer("to_lt", 0, (1 << 64) - 1, 0)
        if not params.has("lt", "hash"):
            records = await self._chain.transactions(address, limit=limit, after_lt=to_lt)
            return [shapes.transaction(record) for record in records]
        lt, hash_ = params.integer("lt", 0, (1 << 64) - 1), params.hash("hash")
        if lt <= to_lt:
            return []
        # The cursor is inclusive here: the transaction that it names comes first.
        records = await self._chain.transactions(address, limit=limit, before_lt=lt + 1, after_lt=to_lt)
        if not records or (records[0].lt, records[0].hash) != (lt, hash_):
            raise Refused(500, f"LITE_SERVER_UNKNOWN: cannot locate transaction with logical time {lt}")
        return [shapes.transaction(record) for record in records]

    async def _run_get_method(self, params: Params) -> Any:
        return await self._run(params, decode_legacy, lambda values: encode_legacy(values, answer=True))

    async def _run_get_method_std(self, params: Params) -> Any:
        return await self._run(params, decode_typed, encode_typed)

    async def _run(self, params: Params, decode: Callable[..., Any], encode: Callable[..., Any]) -> Any:
        address, method, stack = params.address(), params.method(), decode(params.raw("stack"))
        try:
            values, exit_code = await self._chain.run_getter(address, method, stack), 0
        except GetterError as error:
            values, exit_code = [], error.exit_code
        except AccountNotFoundError:
            values, exit_code = [], _NO_CODE
        state, head = await self._chain.account(address), await self._head()
        return {
            "@type": "smc.runResult",
            "gas_used": 0,
            "stack": encode(values),
            "exit_code": exit_code,
            "block_id": shapes.block_id(head.seqno),
            "last_transaction_id": shapes.transaction_id(state.last_lt, state.last_hash),
        }

    # -- sending --------------------------------------------------------------------------------------

    async def _send_boc(self, params: Params) -> Any:
        await self._send(params)
        return {"@type": "ok"}

    async def _send_boc_return_hash(self, params: Params) -> Any:
        return {"@type": "raw.extMessageInfo", "hash": shapes.b64(await self._send(params))}

    async def _send(self, params: Params) -> bytes:
        message = params.boc("boc")
        try:
            return await self._chain.send(message)
        except MalformedError as error:
            # The bag itself is sound, so a liteserver would have taken it and refused the message.
            raise ExternalRejectedError("external message was not accepted", why=str(error)) from error

    # -- sandbox --------------------------------------------------------------------------------------

    def _offered(self) -> SandboxControl:
        if self._control is None:
            raise Refused(404, "this server offers no sandbox controls")
        return self._control

    async def _faucet(self, params: Params) -> Any:
        control, address = self._offered(), params.address()
        amount = params.integer("amount", 1, MAX_FAUCET)
        control.faucet(address, Nano(amount))
        return {"balance": str(int((await self._chain.account(address)).balance))}

    async def _warp(self, params: Params) -> Any:
        self._offered().warp(params.integer("seconds", 0, MAX_WARP_S))
        return await self._info(params)

    async def _info(self, _: Params) -> Any:
        head = await self._head()
        return {"global_id": await self._chain.global_id(), "seqno": head.seqno, "now": head.now}


def _error(status: int, words: str, extra: dict[str, Any]) -> web.Response:
    return web.json_response({"ok": False, "error": words, "code": status, **extra}, status=status)


def _status(error: CocoonError) -> int:
    if isinstance(error, MalformedError):
        return 422
    if isinstance(error, ChainTimeoutError):
        return 504
    return 503 if isinstance(error, ChainUnavailableError) else 500


def _words(error: CocoonError) -> str:
    """Say it as a liteserver would where clients read the text: the exit code of a rejected message."""
    if not isinstance(error, ExternalRejectedError):
        return str(error)[:1000]
    head = "LITE_SERVER_UNKNOWN: cannot apply external message to current state : "
    if error.exit_code is None:
        return f"{head}{str(error)[:1000]}"
    return f"{head}External message was not accepted\nexitcode={error.exit_code}\n{str(error)[:1000]}"
