"""The toncenter adapter against scripted answers in toncenter's own shapes and words."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.chain.base import AccountStatus, Chain, ChainHead, TransactionRecord
from cocoon_sdk.chain.boc import encode_boc_base64
from cocoon_sdk.chain.http_transport import (
    EndpointFailedError,
    MalformedResponseError,
    RequestRefusedError,
    TransportLimits,
)
from cocoon_sdk.chain.toncenter import ToncenterChain
from cocoon_sdk.clock import ManualClock
from cocoon_sdk.errors import (
    AccountNotFoundError,
    ChainError,
    ChainStaleError,
    ChainTimeoutError,
    ConfigError,
    ExternalRejectedError,
    GetterError,
)
from tests.unit.chain.flaky import FlakyEndpoint

ADDRESS = Address((0, b"\x33" * 32))
CELL = begin_cell().store_uint(5, 32).end_cell()
Reply = Callable[[dict[str, Any]], Any]


class Failure(Exception):
    """Makes the scripted endpoint answer with an error."""

    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text


@asynccontextmanager
async def toncenter(
    clock: ManualClock | None = None, max_lag_s: int | None = 60, **methods: Reply
) -> AsyncIterator[tuple[ToncenterChain, FlakyEndpoint]]:
    """Serve the given methods (unknown ones refuse as toncenter does) and return an adapter on them."""

    async def dispatch(_: web.Request) -> web.StreamResponse:
        call = endpoint.calls[-1]
        try:
            if call["method"] not in methods:
                raise Failure(422, "Unknown method")
            result = methods[call["method"]](call["params"])
        except Failure as error:
            body = {"ok": False, "error": error.text, "code": error.status}
            return web.json_response(body, status=error.status)
        return web.json_response({"ok": True, "result": result, "jsonrpc": "2.0", "id": "1"})

    endpoint = FlakyEndpoint(dispatch)
    async with endpoint:
        limits = TransportLimits(timeout_s=5.0, attempts=2)
        chain = ToncenterChain(
            endpoint.url, clock=clock or ManualClock(5000), limits=limits, max_lag_s=max_lag_s
        )
        try:
            yield chain, endpoint
        finally:
            await chain.close()


def fail(status: int, text: str) -> Reply:
    def reply(_: dict[str, Any]) -> Any:
        raise Failure(status, text)

    return reply


def always(result: Any) -> Reply:
    return lambda _: result


def info(seqno: int) -> dict[str, Any]:
    last = {
        "workchain": -1,
        "shard": "-9223372036854775808",
        "seqno": seqno,
        "root_hash": "r",
        "file_hash": "f",
    }
    return {"@type": "blocks.masterchainInfo", "last": {"@type": "ton.blockIdExt", **last}}


def account(**changes: Any) -> dict[str, Any]:
    last = {"@type": "internal.transactionId", "lt": "0", "hash": base64.b64encode(bytes(32)).decode()}
    base = {"balance": "0", "code": "", "data": "", "state": "uninitialized", "last_transaction_id": last}
    return {"@type": "raw.fullAccountState", "extra_currencies": [], "frozen_hash": "", **base, **changes}


def run_result(stack: list[Any], exit_code: int = 0) -> dict[str, Any]:
    return {"@type": "smc.runResult", "gas_used": 10, "stack": stack, "exit_code": exit_code}


class History:
    """Test double of getTransactions with toncenter's inclusive cursor."""

    def __init__(self, count: int, offset: int = 0) -> None:
        self.cells: list[tuple[int, Cell]] = []
        self.archival_only_below = 0
        prev_lt, prev_hash = 0, bytes(32)
        for number in range(1, count + 1):
            lt = number * 10 + offset
            builder = begin_cell().store_uint(7, 4).store_bytes(ADDRESS.hash_part).store_uint(lt, 64)
            builder.store_bytes(prev_hash).store_uint(prev_lt, 64).store_uint(1000 + number, 32)
            cell = builder.store_uint(0, 15).end_cell()
            self.cells.append((lt, cell))
            prev_lt, prev_hash = lt, cell.hash

    def __call__(self, params: dict[str, Any]) -> Any:
        newest = self.cells[-1] if self.cells else (0, CELL)
        lt = int(params.get("lt", newest[0]))
        if "hash" in params and params["hash"] not in {
            cell.hash.hex() for at, cell in self.cells if at == lt
        }:
            raise Failure(500, "LITE_SERVER_UNKNOWN: transaction hash mismatch")
        if lt < self.archival_only_below and not params.get("archival"):
            raise Failure(500, "LITE_SERVER_UNKNOWN: cannot find block (0,33) lt=20: lt not in db")
        found = [
            {"@type": "raw.transaction", "utime": 0, "data": encode_boc_base64(cell)}
            for at, cell in reversed(self.cells)
            if int(params.get("to_lt", 0)) < at <= lt
        ]
        return found[: int(params.get("limit", 10))]


# -- blocks -------------------------------------------------------------------------------------------


async def test_adapter_can_serve_as_a_chain() -> None:
    async with toncenter() as (chain, _):
        assert isinstance(chain, Chain)
        assert repr(chain).startswith("ToncenterChain(127.0.0.1:")


async def test_caller_can_read_the_head_and_the_header_is_asked_once_a_block() -> None:
    header = always({"@type": "blocks.header", "gen_utime": 4990})
    async with toncenter(getMasterchainInfo=always(info(77)), getBlockHeader=header) as (chain, endpoint):
        assert await chain.head() == await chain.head() == ChainHead(77, 4990)
    assert [call["method"] for call in endpoint.calls].count("getBlockHeader") == 1
    assert endpoint.calls[1]["params"]["shard"] == "-9223372036854775808"


async def test_caller_cannot_use_the_head_when_it_is_too_old() -> None:
    clock = ManualClock(5000)
    methods: dict[str, Any] = {
        "getMasterchainInfo": always(info(77)),
        "getBlockHeader": always({"gen_utime": 4940}),
    }
    async with toncenter(clock, **methods) as (chain, _):
        assert (await chain.head()).now == 4940
        clock.advance(1)
        with pytest.raises(ChainStaleError, match="61 s old, at most 60"):
            await chain.head()
    async with toncenter(clock, None, **methods) as (chain, _):
        assert (await chain.head()).now == 4940


async def test_caller_can_wait_for_a_block_and_give_up_at_the_time_limit() -> None:
    clock = ManualClock(5000)
    seqnos = [5, 5, 5, 6, 6, 6, 6]
    methods: dict[str, Any] = {
        "getMasterchainInfo": lambda _: info(seqnos.pop(0)),
        "getBlockHeader": always({"gen_utime": 5000}),
    }
    async with toncenter(clock, **methods) as (chain, _):
        assert (await chain.wait_head(5, 60)).seqno == 6
        assert clock.now() == 5003
        assert (await chain.wait_head(6, 2)).seqno == 6
        assert clock.now() == 5005


async def test_caller_can_read_the_network_id_once() -> None:
    cell = begin_cell().store_int(-239, 32).end_cell()
    param = always({"@type": "configInfo", "config": {"@type": "tvm.cell", "bytes": encode_boc_base64(cell)}})
    async with toncenter(getConfigParam=param) as (chain, endpoint):
        assert await chain.global_id() == await chain.global_id() == -239
    assert [call["params"] for call in endpoint.calls] == [{"config_id": 19}]


async def test_caller_can_learn_that_a_parameter_is_not_set() -> None:
    async with toncenter(getConfigParam=always({"config": {"bytes": ""}})) as (chain, _):
        assert await chain.config_param(4242) is None
        with pytest.raises(ChainError, match="ConfigParam 19"):
            await chain.global_id()


# -- accounts -----------------------------------------------------------------------------------------


async def test_caller_can_read_an_active_account() -> None:
    code = encode_boc_base64(CELL)
    last = {"lt": "22423546000001", "hash": base64.b64encode(b"\x07" * 32).decode()}
    reply = account(balance="1234567890123", code=code, data=code, state="active", last_transaction_id=last)
    async with toncenter(getAddressInformation=always(reply)) as (chain, endpoint):
        state = await chain.account(ADDRESS)
    assert (state.status, state.balance, state.last_lt) == (
        AccountStatus.ACTIVE,
        1234567890123,
        22423546000001,
    )
    assert state.code is not None
    assert state.code.hash == CELL.hash
    assert state.last_hash == b"\x07" * 32
    assert endpoint.calls[0]["params"] == {"address": "0:" + "33" * 32}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, AccountStatus.NONEXIST),
        ({"balance": -1}, AccountStatus.NONEXIST),
        ({"balance": "5", "last_transaction_id": {"lt": "9", "hash": "B" * 43 + "="}}, AccountStatus.UNINIT),
        ({"state": "frozen"}, AccountStatus.FROZEN),
    ],
)
async def test_caller_can_tell_states_apart(changes: dict[str, Any], status: AccountStatus) -> None:
    async with toncenter(getAddressInformation=always(account(**changes))) as (chain, _):
        state = await chain.account(ADDRESS)
    assert (state.status, state.code) == (status, None)
    assert state.balance >= 0


@pytest.mark.parametrize(
    "reply",
    [
        None,
        [],
        {},
        account(balance="many"),
        account(balance=1.5),
        account(state="strange"),
        account(code="!!"),
        account(last_transaction_id={"lt": "5", "hash": "AA=="}),
        account(last_transaction_id=None),
    ],
)
async def test_caller_cannot_get_an_account_when_the_answer_is_malformed(reply: Any) -> None:
    async with toncenter(getAddressInformation=always(reply)) as (chain, _):
        with pytest.raises(MalformedResponseError):
            await chain.account(ADDRESS)


# -- get-methods --------------------------------------------------------------------------------------


async def test_caller_can_run_a_getter_with_typed_values() -> None:
    entry = {"@type": "tvm.stackEntryNumber", "number": {"@type": "tvm.numberDecimal", "number": "-7"}}
    async with toncenter(runGetMethodStd=always(run_result([entry]))) as (chain, endpoint):
        assert await chain.run_getter(ADDRESS, "get_x", [1]) == [-7]
    assert endpoint.calls[0]["params"]["stack"][0]["number"]["number"] == "1"


async def test_caller_can_run_a_getter_when_the_endpoint_knows_the_old_method_only() -> None:
    async with toncenter(runGetMethod=always(run_result([["num", "-0x7"]]))) as (chain, endpoint):
        assert await chain.run_getter(ADDRESS, 85143, [1, CELL]) == [-7]
        assert await chain.run_getter(ADDRESS, 85143) == [-7]
    assert [call["method"] for call in endpoint.calls] == ["runGetMethodStd", "runGetMethod", "runGetMethod"]
    assert endpoint.calls[1]["params"]["stack"] == [["num", "0x1"], ["tvm.Cell", encode_boc_base64(CELL)]]
    assert endpoint.calls[1]["params"]["method"] == 85143


async def test_adapter_can_keep_the_typed_method_when_a_request_itself_was_refused() -> None:
    bad = fail(422, "failed to parse request")
    async with toncenter(runGetMethodStd=bad, runGetMethod=bad) as (chain, endpoint):
        for _ in range(2):
            with pytest.raises(RequestRefusedError):
                await chain.run_getter(ADDRESS, "m")
    assert [call["method"] for call in endpoint.calls] == ["runGetMethodStd", "runGetMethod"] * 2


async def test_caller_can_learn_the_exit_code_when_a_getter_throws() -> None:
    async with toncenter(runGetMethodStd=always(run_result([], 11))) as (chain, _):
        with pytest.raises(GetterError, match="exit code 11") as caught:
            await chain.run_getter(ADDRESS, "get_x")
    assert caught.value.exit_code == 11


async def test_caller_cannot_run_a_getter_when_there_is_no_code() -> None:
    result = run_result([["num", "0x14c97"]], -13)  # toncenter leaves the method id on the stack
    async with toncenter(runGetMethod=always(result)) as (chain, _):
        with pytest.raises(AccountNotFoundError):
            await chain.run_getter(ADDRESS, "seqno")


async def test_caller_cannot_get_a_stack_when_it_is_malformed() -> None:
    async with toncenter(runGetMethodStd=always(run_result([["num", "0x1"]]))) as (chain, _):
        with pytest.raises(MalformedResponseError):
            await chain.run_getter(ADDRESS, "m")


# -- transactions -------------------------------------------------------------------------------------


async def test_caller_can_page_back_with_one_request_a_page_and_no_repetition() -> None:
    async with toncenter(getTransactions=History(57)) as (chain, endpoint):
        found: list[int] = []
        before: int | None = None
        while page := await chain.transactions(ADDRESS, limit=10, before_lt=before):
            found += [record.lt for record in page]
            before = page[-1].lt
    assert found == [number * 10 for number in range(57, 0, -1)]
    assert len(endpoint.calls) == 6


@pytest.mark.parametrize(
    ("limit", "before", "after", "expected"),
    [
        (5, None, 0, [3000, 2990, 2980, 2970, 2960]),
        (5, 100, 0, [90, 80, 70, 60, 50]),
        (5, 105, 70, [100, 90, 80]),
        (5, 3001, 2990, [3000]),
        (5, 20, 10, []),
        (5, 10, 0, []),
        (5, None, 3000, []),
        (250, None, 0, list(range(3000, 500, -10))),
        (1000, None, 2500, list(range(3000, 2500, -10))),
    ],
)
async def test_caller_can_ask_for_any_range(
    limit: int, before: int | None, after: int, expected: list[int]
) -> None:
    async with toncenter(getTransactions=History(300)) as (chain, _):
        page = await chain.transactions(ADDRESS, limit=limit, before_lt=before, after_lt=after)
        assert [record.lt for record in page] == expected
        again = await chain.transactions(ADDRESS, limit=limit, before_lt=before, after_lt=after)
        assert again == page


async def test_caller_can_ask_an_account_without_transactions() -> None:
    async with toncenter(getTransactions=History(0)) as (chain, _):
        assert await chain.transactions(ADDRESS) == []


async def test_caller_can_read_old_history_when_only_archive_nodes_hold_it() -> None:
    history = History(30)
    history.archival_only_below = 150
    async with toncenter(getTransactions=history) as (chain, endpoint):
        first = await chain.transactions(ADDRESS, limit=20)
        second = await chain.transactions(ADDRESS, limit=20, before_lt=first[-1].lt)
    assert [record.lt for record in second] == [100, 90, 80, 70, 60, 50, 40, 30, 20, 10]
    assert endpoint.calls[-1]["params"]["archival"] is True


async def test_caller_can_go_on_from_a_named_transaction_with_one_request_whatever_is_remembered() -> None:
    names = [record.link for record in await _whole(History(300))]
    async with toncenter(getTransactions=History(300)) as (chain, endpoint):
        for lt, digest in reversed(names):
            page = await chain.transactions(ADDRESS, limit=100, start=(lt, digest), after_lt=2000)
            assert [record.lt for record in page] == list(range(lt, max(2000, lt - 1000), -10))
        assert len(endpoint.calls) == 100  # none for those below the bound
        # A name that the endpoint does not know is not looked for among newer ones, unless one says so.
        with pytest.raises(EndpointFailedError):
            await chain.transactions(ADDRESS, start=(2500, bytes(32)))
        assert {call["params"]["lt"] for call in endpoint.calls[100:]} == {"2500"}
        page = await chain.transactions(ADDRESS, limit=2, before_lt=2600, start=(2500, bytes(32)))
        assert [record.lt for record in page] == [2500, 2490]


async def _whole(history: History) -> list[TransactionRecord]:
    async with toncenter(getTransactions=history) as (chain, _):
        return await chain.transactions(ADDRESS, limit=1000)


async def test_caller_can_go_on_when_a_remembered_link_is_no_longer_valid() -> None:
    history, refuse = History(30), False

    def reply(params: dict[str, Any]) -> Any:
        if refuse and params.get("lt") == "250":
            raise Failure(500, "LITE_SERVER_UNKNOWN: transaction hash mismatch")
        return history(params)

    async with toncenter(getTransactions=reply) as (chain, _):
        first = await chain.transactions(ADDRESS, limit=5)
        refuse = True
        page = await chain.transactions(ADDRESS, limit=2, before_lt=first[-1].lt)
        assert [record.lt for record in page] == [250, 240]


async def test_caller_can_go_on_when_the_chain_was_reset_behind_all_remembered_links() -> None:
    history = History(30)
    async with toncenter(getTransactions=history) as (chain, endpoint):
        await chain.transactions(ADDRESS, limit=5)
        history.cells = History(40, offset=5).cells
        page = await chain.transactions(ADDRESS, limit=2, before_lt=260)
        assert [record.lt for record in page] == [255, 245]
        before = len(endpoint.calls)
        page = await chain.transactions(ADDRESS, limit=1, before_lt=268)
        assert [record.lt for record in page] == [265]
        assert len(endpoint.calls) == before + 1


@pytest.mark.parametrize("damage", ["gap", "foreign", "surplus", "empty", "shape"])
async def test_caller_cannot_get_a_history_when_the_endpoint_falsifies_it(damage: str) -> None:
    history = History(300)

    def reply(params: dict[str, Any]) -> Any:
        page: list[Any] = history(params)
        if damage == "gap":
            del page[2]
        elif damage == "foreign":
            page[1] = {"data": encode_boc_base64(CELL)}
        elif damage == "surplus":
            page = history({**params, "limit": int(params["limit"]) + 1})
        elif damage == "empty" and "lt" in params:
            page = []
        elif damage == "shape":
            return {"transactions": page}
        return page

    async with toncenter(getTransactions=reply) as (chain, _):
        with pytest.raises(MalformedResponseError):
            await chain.transactions(ADDRESS, limit=150)


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_caller_cannot_ask_for_a_senseless_number_of_transactions(limit: int) -> None:
    async with toncenter() as (chain, endpoint):
        with pytest.raises(ValueError, match="limit"):
            await chain.transactions(ADDRESS, limit=limit)
    assert endpoint.calls == []


# -- sending ------------------------------------------------------------------------------------------


async def test_caller_can_send_and_gets_the_messages_own_hash() -> None:
    async with toncenter(sendBocReturnHash=always({"hash": "whatever"})) as (chain, endpoint):
        assert await chain.send(CELL) == CELL.hash
    assert endpoint.calls[0]["params"] == {"boc": encode_boc_base64(CELL)}


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        (
            "LITE_SERVER_UNKNOWN: cannot apply external message to current state : External message was not "
            "accepted\nCannot run message on account: inbound external message rejected by transaction 8:\n"
            "exitcode=33, steps=23, gas_used=0\nVM Log (truncated):\n...execute THROWIFNOT 33",
            33,
        ),
        ("External message was not accepted, terminating vm with exit code 133", 133),
        ("cannot apply external message to current state : exitcode=-14, steps=9", -14),
        (
            "LITE_SERVER_UNKNOWN: cannot apply external message to current state : "
            "Failed to unpack account state",
            None,
        ),
    ],
)
async def test_caller_can_learn_why_a_message_was_rejected(words: str, exit_code: int | None) -> None:
    async with toncenter(sendBocReturnHash=fail(500, words)) as (chain, endpoint):
        with pytest.raises(ExternalRejectedError) as caught:
            await chain.send(CELL)
    assert caught.value.exit_code == exit_code
    assert len(endpoint.calls) == 1


async def test_caller_cannot_mistake_a_broken_endpoint_for_a_rejection() -> None:
    async with toncenter(sendBocReturnHash=fail(500, "LITE_SERVER_NETWORK")) as (chain, endpoint):
        with pytest.raises(EndpointFailedError):
            await chain.send(CELL)
    assert len(endpoint.calls) == 1


async def test_caller_can_learn_that_a_message_may_still_take_effect() -> None:
    async with toncenter(sendBocReturnHash=fail(504, "Liteserver timeout")) as (chain, endpoint):
        with pytest.raises(ChainTimeoutError, match="may still take effect"):
            await chain.send(CELL)
    assert len(endpoint.calls) == 1


@pytest.mark.parametrize("settings", [{"poll_s": 0}, {"max_lag_s": 0}])
def test_adapter_cannot_be_made_when_settings_make_no_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ToncenterChain("https://toncenter.com/api/v2", **settings)


def test_adapter_cannot_show_its_key() -> None:
    chain = ToncenterChain("https://toncenter.com/api/v2", api_key="sekret")
    assert "sekret" not in repr(chain) + json.dumps(repr(vars(chain)))
