"""Methods that run code: get-methods, sending messages, and estimating what they would cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytoniq_core import Cell

from cocoon_sdk.errors import AccountNotFoundError, ExternalRejectedError, MalformedError
from cocoon_sdk.sandbox.blocks.cells import make_cell
from cocoon_sdk.sandbox.cells import NativeCell, native_from_boc, native_hash, to_native
from cocoon_sdk.sandbox.messages import Message
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.toncenter import stacks
from cocoon_sdk.sandbox.toncenter.addresses import address_of_key
from cocoon_sdk.sandbox.toncenter.fees import build_message, estimate
from cocoon_sdk.sandbox.toncenter.methods import Blocks, Method, method
from cocoon_sdk.sandbox.toncenter.params import Params, Refused
from cocoon_sdk.sandbox.toncenter.shapes import AccountView, b64, block_id

_NO_CODE = -13
"""What a get-method "exits" with on an account without code."""
_MAX_LOG = 4000
_VM_LOG = "last steps of the VM:\n"
_QUERY = "address body init_code init_data"


class ContractMethods:
    """Runs contracts."""

    def __init__(self, node: Node) -> None:
        self._node, self._blocks = node, Blocks(node)

    def table(self) -> dict[str, Method]:
        """Return the methods by name."""
        run = "address method stack seqno"
        return {
            "runGetMethod": method(self._run_get_method, run, get=False),
            "runGetMethodStd": method(self._run_get_method_std, run, get=False),
            "sendBoc": method(self._send_boc, "boc", get=False),
            "sendBocReturnHash": method(self._send_boc_return_hash, "boc", get=False),
            "sendQuery": method(self._send_query, _QUERY, get=False),
            "estimateFee": method(self._estimate_fee, f"{_QUERY} ignore_chksig", get=False),
        }

    # -- get-methods --------------------------------------------------------------------------------------

    async def _run_get_method(self, params: Params) -> Any:
        answer, view = self._run(params, stacks.read_legacy, stacks.legacy_stack)
        last = view.last_transaction_id
        return {**answer, "block_id": block_id(view.block.id), "last_transaction_id": last}

    async def _run_get_method_std(self, params: Params) -> Any:
        return self._run(params, stacks.read_typed, stacks.typed_stack)[0]

    def _run(
        self, params: Params, read: Callable[[list[Any]], Any], write: Callable[[Any], list[Any]]
    ) -> tuple[dict[str, Any], AccountView]:
        address, name, arguments = params.address(), params.method(), read(params.array("stack"))
        view = AccountView(address.key, self._blocks.master(params))
        try:
            run = self._node.run_getter(address.key, name, arguments, block=view.block)
        except AccountNotFoundError:
            gas_used, stack, exit_code = 0, [], _NO_CODE
        else:
            gas_used, stack, exit_code = run.gas_used, write(run.native_stack), run.exit_code
        answer = {"@type": "smc.runResult", "gas_used": gas_used, "stack": stack, "exit_code": exit_code}
        return answer, view

    # -- sending ------------------------------------------------------------------------------------------

    async def _send_boc(self, params: Params) -> Any:
        await self._send(_message(params))
        return {"@type": "ok"}

    async def _send_boc_return_hash(self, params: Params) -> Any:
        message = _message(params)
        await self._send(message)
        hashes = {"hash": b64(native_hash(message)), "hash_norm": b64(native_hash(_normalised(message)))}
        return {"@type": "raw.extMessageInfo", **hashes}

    async def _send_query(self, params: Params) -> Any:
        key, body, code, data = _query(params)
        await self._send(to_native(build_message(self._node.blockchain, key, body, code, data)))
        return {"@type": "ok"}

    async def _send(self, message: NativeCell) -> None:
        try:
            await self._node.send(message)
        except ExternalRejectedError as error:
            raise Refused(500, _rejection(message, error)) from error

    async def _estimate_fee(self, params: Params) -> Any:
        key, body, code, data = _query(params)
        check = not params.boolean("ignore_chksig", True)
        message = build_message(self._node.blockchain, key, body, code, data)
        fees = estimate(self._node.blockchain, key, message, check_signatures=check)
        return {"@type": "query.fees", "source_fees": fees.json(), "destination_fees": []}


def _query(params: Params) -> tuple[int, Cell, Cell | None, Cell | None]:
    key, body = params.address().key, params.cell("body")
    code = params.optional_cell("init_code")
    return key, body, code, None if code is None else params.cell("init_data")


def _message(params: Params) -> NativeCell:
    try:
        return native_from_boc(params.bag("boc"))
    except MalformedError as error:
        raise Refused(400, f"INVALID_BAG_OF_CELLS: body: {error}") from error


def _normalised(message: NativeCell) -> NativeCell:
    """Build the form that senders can compare: no source, no import fee, no StateInit, the body in a cell."""
    view = Message(message)
    key = view.dst_key or 0
    return make_cell(f"1000100{key:0264b}000001", view.native_body)


def _rejection(message: NativeCell, error: ExternalRejectedError) -> str:
    """Say it as a liteserver does, since clients read exit codes from these words."""
    head = "LITE_SERVER_UNKNOWN: cannot apply external message to current state : "
    try:
        receiver = Message(message).dst_key
    except MalformedError:
        receiver = None
    if receiver is None:
        return f"{head}{error}"
    account = address_of_key(receiver).account.hex().upper()
    words = (
        f"{head}External message was not accepted: cannot run message on account: inbound external message"
    )
    if error.exit_code is None:
        return f"{words} rejected by account {account} before smart-contract execution: {error.why}"
    words = f"{words} rejected by transaction {account}:\nexitcode={error.exit_code}"
    _, found, log = error.why.partition(_VM_LOG)
    return f"{words}\nVM Log (truncated):\n...{log[-_MAX_LOG:]}" if found else words
