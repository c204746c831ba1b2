"""Liteservers that lie, die, hang or contradict each other: what is believed, and who is asked next."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.chain.base import AccountStatus
from cocoon_sdk.chain.boc import decode_boc, encode_boc
from cocoon_sdk.chain.liteserver import LiteserverChain
from cocoon_sdk.chain.liteserver_blocks import Trust
from cocoon_sdk.chain.liteserver_config import Liteserver, LiteserverConfig
from cocoon_sdk.chain.liteserver_limits import PoolLimits, TokenBucket
from cocoon_sdk.chain.liteserver_pool import ServersDisagreeError
from cocoon_sdk.chain.proofs import BlockId, ProofError
from cocoon_sdk.clock import ManualClock
from cocoon_sdk.errors import ChainError, ChainTimeoutError, ChainUnavailableError, ConfigError
from cocoon_sdk.sandbox.actors import Outgoing
from cocoon_sdk.sandbox.blockchain import DEFAULT_NOW
from cocoon_sdk.sandbox.liteserver.errors import QueryError
from cocoon_sdk.types import Nano
from tests.unit.chain.liteserver_world import Change, World, world

NOBODY = Address((0, b"\x44" * 32))
KEY = LiteserverConfig.load("testnet").servers[0].key
FAST = PoolLimits(wait_s=0.2)
Record = dict[str, Any]


def flipped(data: bytes, at: int = -1) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + (data[at + 1 :] if at != -1 else b"")


def with_field(name: str, change: Callable[[Any], Any]) -> Change:
    return lambda _, answer: {**answer, name: change(answer[name])}


async def gift(town: World) -> None:
    town.alice.send(NOBODY, Nano.ton("0.1"), bounce=False)
    await asyncio.sleep(0)


# -- one server that lies --------------------------------------------------------------------------------


def richer(data: bytes) -> bytes:
    """Change a bit of an account's cell: whoever reads it sees another balance or address."""
    cell = decode_boc(data)
    bits = cell.bits.copy()
    bits[-3] = not bits[-3]
    return encode_boc(Cell(bits, cell.refs))


def none_found(asked: Record, answer: Record) -> Record:
    return {**answer, "state": b""}


ACCOUNT_LIES: list[Change] = [
    none_found,
    lambda _, answer: {**answer, "state": b"", "proof": b"", "shard_proof": b""},
    with_field("state", richer),
    with_field("state", lambda data: data[:-1]),
    with_field("proof", flipped),
    with_field("shard_proof", flipped),
    with_field("shard_proof", lambda _: b""),
    with_field("proof", lambda _: encode_boc(begin_cell().end_cell())),
    with_field("shardblk", lambda block: {**block, "seqno": block["seqno"] - 1}),
    with_field("shardblk", lambda block: {**block, "workchain": 1}),
    with_field("id", lambda block: {**block, "seqno": block["seqno"] - 1}),
]


@pytest.mark.parametrize("lie", range(len(ACCOUNT_LIES)))
async def test_server_cannot_lie_about_an_account(lie: int) -> None:
    async with world() as town:
        await gift(town)
        town.lie("getAccountState", ACCOUNT_LIES[lie])
        with pytest.raises(ProofError):
            await town.connect(limits=FAST).account(NOBODY)


async def test_server_cannot_show_an_account_as_it_was_before() -> None:
    async with world() as town:
        await gift(town)
        old: list[Record] = []

        def first(_: Record, answer: Record) -> Record:
            old.append(answer)
            return old[0]

        town.lie("getAccountState", first)
        chain = town.connect(limits=FAST)
        assert (await chain.account(NOBODY)).balance == Nano.ton("0.1")
        await gift(town)
        with pytest.raises(ProofError, match="another block"):
            await chain.account(NOBODY)


async def test_server_cannot_put_another_account_in_its_place() -> None:
    async with world() as town:
        await gift(town)
        other = (await town.direct.account(town.alice.address)).address
        honest = town.servers[0].answers.handlers["getAccountState"]

        def swap(asked: Record, _: Record) -> Record:
            account = {"workchain": 0, "id": other.hash_part}
            return dict(honest(town.node, {**asked, "account": account})[1])

        town.lie("getAccountState", swap)
        with pytest.raises(ProofError):
            await town.connect(limits=FAST).account(NOBODY)


TRANSACTION_LIES: list[Change] = [
    with_field("transactions", lambda data: data[:-1]),
    with_field("transactions", lambda _: encode_boc(begin_cell().store_uint(7, 4).end_cell())),
    with_field("transactions", lambda _: b""),
]


@pytest.mark.parametrize("lie", range(len(TRANSACTION_LIES)))
async def test_server_cannot_lie_about_history(lie: int) -> None:
    async with world() as town:
        await gift(town)
        await gift(town)
        town.lie("getTransactions", TRANSACTION_LIES[lie])
        with pytest.raises(ProofError):
            await town.connect(limits=FAST).transactions(NOBODY)


async def test_server_cannot_leave_a_transaction_out() -> None:
    async with world() as town:
        for _ in range(4):
            await gift(town)
        honest = town.servers[0].answers.handlers["getTransactions"]
        known = await town.direct.transactions(NOBODY)

        def skip(asked: Record, _: Record) -> Record:
            wanted = {**asked, "lt": known[1].lt, "hash": known[1].hash}
            return dict(honest(town.node, wanted)[1])

        town.lie("getTransactions", skip)
        with pytest.raises(ProofError, match="gap"):
            await town.connect(limits=FAST).transactions(NOBODY)


@pytest.mark.parametrize("field", ["state_proof", "config_proof"])
async def test_server_cannot_lie_about_the_configuration(field: str) -> None:
    async with world() as town:
        town.lie("getConfigParams", with_field(field, flipped))
        with pytest.raises(ProofError):
            await town.connect(limits=FAST).config_param(20)


async def test_server_cannot_leave_a_parameter_out() -> None:
    async with world() as town:
        honest = town.servers[0].answers.handlers["getConfigParams"]

        def another(asked: Record, _: Record) -> Record:
            return dict(honest(town.node, {**asked, "param_list": [32]})[1])

        town.lie("getConfigParams", another)
        with pytest.raises(ProofError, match=r"left out|leaves"):
            await town.connect(limits=FAST).config_param(20)


async def test_server_cannot_make_up_the_time_of_a_block() -> None:
    async with world() as town:
        town.lie("getBlockHeader", with_field("header_proof", flipped))
        with pytest.raises(ProofError):
            await town.connect(trust=Trust.SERVER, limits=FAST).head()


# -- signed links ----------------------------------------------------------------------------------------


def in_step(change: Callable[[Record], Record]) -> Change:
    return lambda _, answer: {**answer, "steps": [change(dict(step)) for step in answer["steps"]]}


def signed_by(change: Callable[[list[Record]], list[Record]]) -> Change:
    def apply(step: Record) -> Record:
        given = step["signatures"]
        return {**step, "signatures": {**given, "signatures": change(list(given["signatures"]))}}

    return in_step(apply)


LINK_LIES: dict[str, Change] = {
    "no steps": with_field("steps", lambda _: []),
    "twice": with_field("steps", lambda steps: steps * 2),
    "unsigned": signed_by(lambda _: []),
    "signed twice": signed_by(lambda given: given * 2),
    "wrong signature": signed_by(
        lambda given: [{**each, "signature": flipped(each["signature"])} for each in given]
    ),
    "stranger": signed_by(lambda given: [{**each, "node_id_short": bytes(32)} for each in given]),
    "other target": in_step(lambda step: {**step, "to": {**step["to"], "root_hash": bytes(32)}}),
    "other source": in_step(lambda step: {**step, "from": {**step["from"], "root_hash": bytes(32)}}),
    "no header": in_step(lambda step: {**step, "dest_proof": b""}),
    "other key block": in_step(lambda step: {**step, "config_proof": step["dest_proof"]}),
    "other file": in_step(lambda step: {**step, "to": {**step["to"], "file_hash": bytes(32)}}),
}


@pytest.mark.parametrize("lie", LINK_LIES)
async def test_server_cannot_prove_a_block_that_validators_did_not_sign(lie: str) -> None:
    async with world() as town:
        town.lie("getBlockProof", LINK_LIES[lie])
        with pytest.raises(ProofError):
            await town.connect(trust=Trust.PROVEN, limits=FAST).head()


async def test_server_cannot_bring_validators_of_its_own() -> None:
    async with world() as town, world(now=DEFAULT_NOW + 1) as forged:
        await gift(forged)  # another chain, whose key block and blocks are signed and linked properly
        await forged.node.mine(3)
        theirs = forged.servers[0].answers.handlers
        init = forged.node.archive.init_block.id
        known = {"known_block": {name: getattr(init, name) for name in init.__slots__}}
        ours = town.servers[0].answers.handlers
        ours["getMasterchainInfo"] = lambda _, asked: theirs["getMasterchainInfo"](forged.node, asked)
        ours["getBlockProof"] = lambda _, asked: theirs["getBlockProof"](forged.node, {**asked, **known})
        with pytest.raises(ProofError, match="start at the last key block"):
            await town.connect(trust=Trust.PROVEN, limits=FAST).head()


# -- several servers -------------------------------------------------------------------------------------


async def test_liar_is_left_alone_and_another_server_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    async with world(servers=2) as town:
        await gift(town)
        for server in (0, 1):  # whichever is asked first
            asked: list[int] = []

            def lie(_: Record, answer: Record, asked: list[int] = asked) -> Record:
                asked.append(1)
                return {**answer, "state": b""}

            town.lie("getAccountState", lie, server)
            chain = town.connect(trust=Trust.SERVER)
            for _ in range(6):
                assert (await chain.account(NOBODY)).status is AccountStatus.UNINIT
            assert len(asked) <= 1
            town.servers[server].answers.handlers["getAccountState"] = town.servers[
                1 - server
            ].answers.handlers["getAccountState"]


async def test_liar_is_asked_again_when_its_time_is_over() -> None:
    async with world() as town:
        await gift(town)
        honest = town.servers[0].answers.handlers["getAccountState"]
        town.lie("getAccountState", none_found)
        chain = town.connect(limits=FAST)
        with pytest.raises(ProofError):
            await chain.account(NOBODY)
        with pytest.raises(ChainUnavailableError, match="1 of them gave answers that do not hold"):
            await chain.account(NOBODY)
        town.servers[0].answers.handlers["getAccountState"] = honest
        town.clock.advance(FAST.distrust_s)
        assert (await chain.account(NOBODY)).balance == Nano.ton("0.1")


def forged_newest(_: Record, answer: Record) -> Record:
    return {**answer, "last": {**answer["last"], "root_hash": bytes(32)}}


async def test_block_cannot_be_made_up_when_two_servers_must_agree() -> None:
    async with world(servers=3) as town:
        await gift(town)
        for liar in range(3):
            town.lie("getMasterchainInfo", forged_newest, liar)
        chain = town.connect(limits=FAST)
        # All three name a block that does not exist; looking it up by its height shows the true one.
        assert (await chain.account(NOBODY)).balance == Nano.ton("0.1")


async def test_block_cannot_be_agreed_on_when_servers_contradict_each_other() -> None:
    async with world(servers=2) as town:

        def elsewhere(_: Record, answer: Record) -> Record:
            return {**answer, "id": {**answer["id"], "file_hash": bytes(32)}}

        town.lie("lookupBlock", elsewhere)
        with pytest.raises(ServersDisagreeError, match="contradict each other"):
            await town.connect(limits=FAST).head()
    async with world(servers=3) as town:
        town.lie("lookupBlock", elsewhere)
        chain = town.connect(limits=FAST)
        assert (await chain.head()).seqno == town.node.head.id.seqno


async def test_getter_cannot_be_lied_about_by_one_of_three() -> None:
    async with world(servers=3) as town:
        town.alice.send(NOBODY, Nano(1), bounce=False)
        for liar in range(3):
            honest = town.servers[liar].answers.handlers["runSmcMethod"]
            town.lie("runSmcMethod", lambda _, answer: {**answer, "exit_code": 77}, liar)
            assert await town.connect().run_getter(town.alice.address, "seqno") == [town.alice.seqno]
            town.servers[liar].answers.handlers["runSmcMethod"] = honest


async def test_getter_cannot_be_decided_when_two_servers_differ() -> None:
    async with world(servers=2) as town:
        town.lie("runSmcMethod", lambda _, answer: {**answer, "exit_code": 77})
        with pytest.raises(ServersDisagreeError):
            await town.connect().run_getter(town.alice.address, "seqno")


async def test_answers_go_on_when_a_server_dies_and_when_it_is_back() -> None:
    async with world(servers=2) as town:
        await gift(town)
        chain = town.connect(trust=Trust.SERVER, confirm_getters=False)
        await chain.account(NOBODY)
        for server in town.servers:
            await server.close()
            for _ in range(3):
                assert (await chain.account(NOBODY)).balance == Nano.ton("0.1")
                assert await chain.run_getter(town.alice.address, "seqno") == [town.alice.seqno]
            await server.start()


async def test_message_can_be_sent_when_one_server_drops_the_connection() -> None:
    async with world(servers=2) as town:
        chain = town.connect(trust=Trust.SERVER, limits=FAST)
        await chain.head()
        await town.servers[0].close()
        before = town.alice.seqno
        message = town.alice.request([Outgoing(NOBODY, Nano.ton("0.1"), bounce=False)])
        assert await chain.send(message) == message.hash
        assert town.alice.seqno == before + 1


# -- silence ---------------------------------------------------------------------------------------------


async def test_chain_cannot_be_used_when_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    init = BlockId(-1, -(1 << 63), 1, bytes(32), bytes(32))
    config = LiteserverConfig((Liteserver("127.0.0.1", port, KEY),), init, "a list of mine")
    limits = PoolLimits(connect_timeout_s=0.1)
    chain = LiteserverChain(config, limits=limits, clock=ManualClock(0))
    with pytest.raises(ChainUnavailableError, match=r"none of 1 liteservers.*a list of mine"):
        await chain.head()
    await chain.close()


async def test_chain_can_tell_when_a_server_does_not_answer() -> None:
    async with world() as town:
        limits = PoolLimits(timeout_s=0.5)
        chain, other = (town.connect(trust=Trust.SERVER, limits=limits) for _ in range(2))
        await chain.head()
        await other.head()
        server = town.servers[0].answers
        honest = server.answer

        async def silence() -> bytes:
            await asyncio.sleep(60)
            return b""

        server.answer = lambda peer, query: silence()  # type: ignore[method-assign]
        with pytest.raises(ChainTimeoutError, match="did not answer"):
            await chain.head()
        with pytest.raises(ChainTimeoutError) as lost:
            await other.send(town.alice.request([]))
        assert "may still take effect" in lost.value.hint
        server.answer = honest  # type: ignore[method-assign]


async def test_chain_can_follow_blocks_when_the_server_gave_up_waiting_once() -> None:
    async with world() as town:
        chain = town.connect(trust=Trust.SERVER)
        head = await chain.head()
        handlers = town.servers[0].answers.handlers
        honest = handlers["getMasterchainInfo"]
        gave_up = asyncio.Event()

        def give_up(_: Any, asked: Any) -> Any:
            gave_up.set()
            raise QueryError("timeout", QueryError.TIMEOUT)

        handlers["getMasterchainInfo"] = give_up
        await town.node.mine()
        await gave_up.wait()
        handlers["getMasterchainInfo"] = honest
        await town.node.mine()
        assert (await chain.wait_head(head.seqno + 1, 30)).seqno == head.seqno + 2
        assert town.servers[0].connections == 1


async def test_server_cannot_send_more_than_the_bound() -> None:
    async with world() as town:
        chain = town.connect(
            trust=Trust.SERVER, limits=PoolLimits(connect_timeout_s=3, max_answer_bytes=4096)
        )
        await chain.head()
        town.lie("getConfigParams", lambda _, answer: {**answer, "state_proof": bytes(5000)})
        with pytest.raises(ChainUnavailableError):
            await chain.config_param(20)


async def test_error_of_a_server_can_be_seen_when_all_give_one() -> None:
    async with world() as town:
        await gift(town)
        chain = town.connect(limits=FAST)
        (newest,) = await chain.transactions(NOBODY)
        del town.servers[0].answers.handlers["getTransactions"]
        with pytest.raises(ChainError, match="getTransactions"):
            await chain.transactions(NOBODY, before_lt=newest.lt + 1)


# -- limits ----------------------------------------------------------------------------------------------


@given(st.lists(st.floats(min_value=0, max_value=2), max_size=60), st.integers(1, 5))
def test_bucket_never_lets_more_through_than_rate_and_burst(pauses: list[float], burst: int) -> None:
    bucket, rate, now = TokenBucket(4.0, burst), 4.0, 0.0
    times: list[float] = []
    for pause in pauses:
        now += pause
        times.append(now + bucket.reserve(now))
    for first, start in enumerate(times):
        for last in range(first, len(times)):
            assert last - first + 1 <= burst + (times[last] - start) * rate + 1e-6


def test_bucket_lets_through_at_once_what_it_may() -> None:
    bucket = TokenBucket(2.0, 3)
    assert [bucket.reserve(10.0) for _ in range(5)] == [0, 0, 0, 0.5, 1.0]
    assert bucket.reserve(100.0) == 0


@pytest.mark.parametrize("name", ["timeout_s", "requests_per_s", "concurrency", "servers", "distrust_s"])
def test_limits_cannot_be_used_when_they_make_no_sense(name: str) -> None:
    with pytest.raises(ConfigError, match="positive"):
        PoolLimits(**{name: 0})
