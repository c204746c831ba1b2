"""Vouchers and closings against thieves, liars and the confused: refused by name, and nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.session_states import settles_at
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.helpers.audit import (
    World,
    flipped,
    gas_fee,
    refused,
)
from tests.helpers.suite import GAS, Client, Worker, hash_of, key_of

DEPOSIT = Nano.ton(1)
HALF = Nano.ton("0.5")


def voucher_of(signature: bytes) -> Cell:
    return begin_cell().store_bytes(signature).end_cell()


def redeem(number: int, amount: int, signature: bytes, *, close: bool = False) -> Cell:
    return m.Redeem(id=number, amount=amount, close=close, signature=voucher_of(signature)).to_cell()


def redeem_part(number: int, amount: int, cell: Cell) -> Cell:
    return m.Redeem(id=number, amount=amount, close=False, signature=cell).to_cell()


@pytest.fixture
def number(client: Client, worker: Worker) -> int:
    return client.open_session(worker, DEPOSIT)[0]


def cannot_redeem(
    world: World, client: Client, body: Cell, code: ExitCode, *, source: Actor | None = None
) -> None:
    sender = source or world.chain.actor("stranger")
    refused(world.chain, client.address, lambda: sender.send(client.address, GAS, body), code)


# -- vouchers ------------------------------------------------------------------------------------------


def wrong_signatures(
    world: World, client: Client, worker: Worker, number: int
) -> dict[str, Callable[[], bytes]]:
    """Every way in which a voucher over half of the deposit can be for something else."""
    other_client, other_worker = world.client("other client"), world.worker("other worker")
    second, _ = client.open_session(worker, DEPOSIT)
    domain, key = client.domain(), client.voucher_key

    def signed(where: signing.Domain, who: Address, which: int, amount: int) -> bytes:
        return key.sign(signing.voucher_digest(where, who, which, amount))

    mine = worker.address
    return {
        "another key": lambda: client.voucher(worker, number, HALF, key=key_of("somebody")),
        "the hot key": lambda: client.voucher(worker, number, HALF, key=client.key),
        "the worker's key": lambda: client.voucher(worker, number, HALF, key=worker.key),
        "another session": lambda: signed(domain, mine, second, HALF),
        "another worker": lambda: signed(domain, other_worker.address, number, HALF),
        "another amount": lambda: signed(domain, mine, number, HALF - 1),
        "another escrow": lambda: signed(other_client.domain(), mine, number, HALF),
        "another chain": lambda: signed(replace(domain, global_id=domain.global_id + 1), mine, number, HALF),
        "another epoch": lambda: signed(replace(domain, epoch=domain.epoch + 1), mine, number, HALF),
        "a result": lambda: key.sign(signing.result_digest(domain, mine, number, bytes(32), HALF)),
        "nothing": lambda: bytes(64),
    }


@pytest.mark.parametrize(
    "wrong",
    [
        "another key",
        "the hot key",
        "the worker's key",
        "another session",
        "another worker",
        "another amount",
        "another escrow",
        "another chain",
        "another epoch",
        "a result",
        "nothing",
    ],
)
@pytest.mark.parametrize("close", [False, True])
def test_nobody_can_redeem_a_voucher_for_something_else(
    world: World, client: Client, worker: Worker, number: int, wrong: str, close: bool
) -> None:
    signature = wrong_signatures(world, client, worker, number)[wrong]()
    cannot_redeem(world, client, redeem(number, HALF, signature, close=close), ExitCode.BAD_VOUCHER)
    stake = worker.get_state()
    body = redeem(number, HALF, signature, close=close)
    (failed, *_) = world.chain.send_internal(client.address, GAS, body, src=worker.address)
    assert failed.exit_code == ExitCode.BAD_VOUCHER
    assert worker.get_state().earned == stake.earned
    session = client.session(number)
    assert session is not None
    assert session.redeemed == 0


def test_every_bit_of_a_signature_counts(world: World, client: Client, worker: Worker, number: int) -> None:
    good = voucher_of(client.voucher(worker, number, HALF))
    for position in (0, 255, 256, 511):
        body = m.Redeem(id=number, amount=HALF, close=False, signature=flipped(good, position)).to_cell()
        cannot_redeem(world, client, body, ExitCode.BAD_VOUCHER)


def test_voucher_pays_once_and_a_lower_one_nothing(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    worker.redeem(client, number, HALF)
    for amount in (HALF, HALF - 1, 1, 0):
        body = redeem(number, amount, client.voucher(worker, number, amount))
        cannot_redeem(world, client, body, ExitCode.NOTHING_DUE)
    state = worker.get_state()
    assert state.earned + state.fee_due == HALF


def test_voucher_of_a_session_that_ended_pays_nothing(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    body = redeem(number, HALF, client.voucher(worker, number, HALF))
    session = client.session(number)
    assert session is not None
    world.chain.set_now(settles_at(session))
    client.act(signing.settle_session(number))
    cannot_redeem(world, client, body, ExitCode.NO_SESSION)


def test_worker_can_redeem_after_everything_is_over_until_somebody_settles(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    client.act(signing.close_session(number))
    world.chain.warp(40 * 86_400)
    worker.redeem(client, number, HALF)
    assert worker.get_state().earned + worker.get_state().fee_due == HALF


def test_redemption_and_settlement_that_cross_lose_nothing(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    """The last second: whichever comes first is done, and what comes second is refused."""
    client.act(signing.close_session(number))
    session = client.session(number)
    assert session is not None
    world.chain.set_now(session.deadline)
    world.chain.hold()
    worker.redeem(client, number, HALF)
    client.act(signing.settle_session(number))
    gas = worker.get_state().gas
    world.chain.release()
    assert (client.get_state().reserved, worker.get_state().earned) == (0, 0)
    assert worker.get_state().gas > gas, "what the redemption carried comes back"


# -- closing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["stranger", "owner", "another worker", "the worker's owner"])
def test_only_the_worker_can_end_a_session_at_once(
    world: World, client: Client, worker: Worker, number: int, who: str
) -> None:
    others = {
        "stranger": world.chain.actor("stranger"),
        "owner": client.owner,
        "another worker": world.worker("another").owner,
        "the worker's owner": worker.owner,
    }
    nothing = redeem(number, 0, bytes(64), close=True)
    cannot_redeem(world, client, nothing, ExitCode.NOTHING_DUE, source=others[who])
    # With a good voucher it pays, and the session goes on.
    body = redeem(number, HALF, client.voucher(worker, number, HALF), close=True)
    others[who].send(client.address, GAS, body)
    session = client.session(number)
    assert session is not None
    assert (session.redeemed, session.status) == (HALF, 8)
    assert worker.get_state().earned + worker.get_state().fee_due == HALF


def test_another_workers_operator_cannot_end_a_session(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    rival = world.worker("rival")
    rival.act(signing.redeem(number, client.address, Nano(0), close=True))
    assert client.session(number) is not None


@pytest.mark.parametrize("who", ["stranger", "worker"])
def test_only_the_owner_can_close_without_the_hot_key(
    world: World, client: Client, worker: Worker, number: int, who: str
) -> None:
    source = world.chain.actor("stranger") if who == "stranger" else worker.owner
    body = m.CloseSession(query_id=0, id=number).to_cell()
    refused(world.chain, client.address, lambda: source.send(client.address, GAS, body), ExitCode.NOT_OWNER)


def test_stranger_pays_for_a_settlement(world: World, client: Client, worker: Worker, number: int) -> None:
    session = client.session(number)
    assert session is not None
    world.chain.set_now(settles_at(session))
    stranger, body = world.chain.actor("stranger"), m.SettleSession(id=number).to_cell()
    low = gas_fee(c.GAS_ESCROW_ANYONE) - 1
    refused(world.chain, client.address, lambda: stranger.send(client.address, low, body), ExitCode.LOW_VALUE)
    free = client.get_state().free
    stranger.send(client.address, GAS, body)
    assert client.get_state().free >= free + DEPOSIT


def test_new_hot_key_changes_no_voucher(world: World, client: Client, worker: Worker, number: int) -> None:
    """Who steals the hot key, or loses it, changes nothing for the worker: vouchers have their own."""
    client.from_owner(m.SetKey(query_id=0, key=key_of("new").verify_key.to_int()))
    worker.redeem(client, number, HALF)
    assert worker.get_state().earned + worker.get_state().fee_due == HALF


def test_random_keys_sign_nothing(world: World, client: Client, worker: Worker, number: int) -> None:
    for seed in range(4):
        key = SigningKey.from_seed(hash_of(f"seed {seed}"))
        signature = client.voucher(worker, number, HALF, key=key)
        cannot_redeem(world, client, redeem(number, HALF, signature), ExitCode.BAD_VOUCHER)


# -- giving up what was signed ahead -------------------------------------------------------------------


def earned(worker: Worker) -> int:
    state = worker.get_state()
    return int(state.earned + state.fee_due)


@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize("guarded", [False, True])
def test_worker_can_claim_less_than_its_voucher_states(
    world: World, client: Client, worker: Worker, number: int, close: bool, guarded: bool
) -> None:
    if guarded:
        worker.accept_session(client, number)
    worker.redeem(client, number, HALF, forgo=Nano.ton("0.3"), close=close)
    assert earned(worker) == HALF
    if not close:
        # A later voucher pays on from there; the one before still pays what was given up for a while.
        worker.redeem(client, number, Nano.ton("0.6"), forgo=1)
        worker.redeem(client, number, Nano.ton("0.8"))
        assert earned(worker) == Nano.ton("0.8")


@pytest.mark.parametrize("forgo", [1, 2**53 - 1, 2**56 - 1])
def test_voucher_may_state_more_than_the_deposit(
    world: World, client: Client, worker: Worker, number: int, forgo: int
) -> None:
    worker.redeem(client, number, HALF, forgo=forgo)
    assert earned(worker) == HALF


def test_nobody_can_claim_more_by_stating_another_part(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    """What is paid and what is given up is together what was signed, to the nanoTON."""
    signature = client.voucher(worker, number, HALF)
    for amount, forgo in ((HALF + 1, 0), (HALF, 1), (HALF - 1, 0), (HALF - 1, 2), (DEPOSIT, 2**56 - 1)):
        body = redeem_part(number, amount, signing.voucher_cell(signature, Nano(forgo)))
        cannot_redeem(world, client, body, ExitCode.BAD_VOUCHER)
    world.chain.actor("anyone").send(
        client.address, GAS, redeem_part(number, HALF - 7, signing.voucher_cell(signature, Nano(7)))
    )
    assert earned(worker) == HALF - 7


@pytest.mark.parametrize(
    ("bits", "value", "code"),
    [
        # A number that wraps around would let anybody claim what was never signed.
        (256, 2**256 - 1, ExitCode.INTEGER_OVERFLOW),
        (256, 2**255, ExitCode.INTEGER_OUT_OF_RANGE),
        (64, 2**64 - 1, ExitCode.INTEGER_OUT_OF_RANGE),
        (257, 1, ExitCode.INTEGER_OUT_OF_RANGE),
        (511, 1, ExitCode.INTEGER_OUT_OF_RANGE),
    ],
)
def test_part_that_is_too_large_is_refused(
    world: World, client: Client, worker: Worker, number: int, bits: int, value: int, code: ExitCode
) -> None:
    signature = client.voucher(worker, number, HALF)
    cell = begin_cell().store_bytes(signature).store_uint(value, bits).end_cell()
    cannot_redeem(world, client, redeem_part(number, HALF + 1, cell), code)
    assert earned(worker) == 0


@pytest.mark.parametrize("bits", [0, 511])
def test_signature_that_is_too_short_is_refused(
    world: World, client: Client, worker: Worker, number: int, bits: int
) -> None:
    cell = begin_cell().store_uint(0, bits).end_cell() if bits else begin_cell().end_cell()
    cannot_redeem(world, client, redeem_part(number, HALF, cell), ExitCode.CELL_UNDERFLOW)


@pytest.mark.parametrize("bits", [1, 53, 64, 256])
def test_nothing_given_up_may_be_said_in_any_width(
    world: World, client: Client, worker: Worker, number: int, bits: int
) -> None:
    cell = begin_cell().store_bytes(client.voucher(worker, number, HALF)).store_uint(0, bits).end_cell()
    world.chain.actor("anyone").send(client.address, GAS, redeem_part(number, HALF, cell))
    assert earned(worker) == HALF
