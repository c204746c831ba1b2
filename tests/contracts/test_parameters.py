"""The registry, and what a change of parameters or code does to those who live under it."""

from __future__ import annotations

import dataclasses

import pytest
from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.contracts.code import code_cell
from cocoon_sdk.contracts.parameters import ArbiterIdentity, NetworkParameters
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.getters import RegistryGetters
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.helpers.audit import World, at, locked_for, locks, refused, state_of
from tests.helpers.suite import GAS, Client, Worker, hash_of, key_of

DAY = 86_400
TIMELOCK = 14 * DAY
REGISTRY_RESERVE = Nano.ton("0.2")


def changed(world: World, **changes: object) -> NetworkParameters:
    return dataclasses.replace(world.suite.parameters, **changes)  # type: ignore[arg-type]


def propose(world: World, content: Cell, kind: int = 0, model_id: int = 0) -> m.Propose:
    return m.Propose(query_id=0, kind=kind, model_id=model_id, content=content)


def govern(world: World, body: object) -> list:  # type: ignore[type-arg]
    return world.suite.governor.send(world.suite.network.registry, GAS, body.to_cell())  # type: ignore[attr-defined]


def enact(world: World, **changes: object) -> None:
    """Let a change of parameters take effect at the registry."""
    govern(world, propose(world, changed(world, **changes).to_cell()))
    world.chain.warp(TIMELOCK)
    govern(world, m.Execute(query_id=0))


def sync(world: World, *accounts: Client | Worker) -> None:
    for account in accounts:
        world.suite.governor.send(account.address, Nano.ton("0.1"), m.SyncParams(query_id=0).to_cell())


# -- the registry --------------------------------------------------------------------------------------


def test_only_the_owner_can_govern(world: World, stranger: Actor) -> None:
    registry = world.suite.network.registry
    content = changed(world).to_cell()
    for body in (
        propose(world, content),
        m.CancelProposal(query_id=0),
        m.TransferOwnership(query_id=0, new_owner=stranger.address),
        m.WithdrawTreasury(query_id=0, amount=Nano(1), to=stranger.address),
    ):
        refused(
            world.chain,
            registry,
            lambda body=body: stranger.send(registry, GAS, body.to_cell()),
            ExitCode.NOT_OWNER,
        )
    refused(
        world.chain,
        registry,
        lambda: stranger.send(registry, GAS, m.AcceptOwnership(query_id=0).to_cell()),
        ExitCode.NOT_PENDING_OWNER,
    )
    refused(
        world.chain,
        registry,
        lambda: stranger.send(registry, GAS, m.Execute(query_id=0).to_cell()),
        ExitCode.NO_PROPOSAL,
    )


def test_ownership_passes_in_two_steps(world: World, stranger: Actor) -> None:
    registry = world.suite.network.registry
    heir = world.chain.actor("heir")
    govern(world, m.TransferOwnership(query_id=0, new_owner=heir.address))
    accept = m.AcceptOwnership(query_id=0).to_cell()
    for wrong in (stranger, world.suite.governor):
        refused(
            world.chain,
            registry,
            lambda wrong=wrong: wrong.send(registry, GAS, accept),
            ExitCode.NOT_PENDING_OWNER,
        )
    assert world.suite.get(registry, RegistryGetters.owner()) == world.suite.governor.address
    heir.send(registry, GAS, accept)
    assert world.suite.get(registry, RegistryGetters.owner()) == heir.address
    assert world.suite.get(registry, RegistryGetters.pending_owner()) is None
    refused(
        world.chain,
        registry,
        lambda: govern(world, m.CancelProposal(query_id=0)),
        ExitCode.NOT_OWNER,
    )


def test_owner_can_withdraw_the_treasury_down_to_the_reserve(world: World) -> None:
    registry = world.suite.network.registry
    heir = world.chain.actor("heir")
    treasury = world.chain.balance(registry) - REGISTRY_RESERVE
    for amount in (0, treasury + 1):
        body = m.WithdrawTreasury(query_id=0, amount=Nano(amount), to=heir.address)
        refused(world.chain, registry, lambda body=body: govern(world, body), ExitCode.INSUFFICIENT_FREE)
    govern(world, m.WithdrawTreasury(query_id=0, amount=Nano(treasury), to=heir.address))
    assert world.chain.balance(registry) == REGISTRY_RESERVE
    assert heir.balance > Nano.ton(1000) + treasury


@pytest.mark.parametrize(
    "changes",
    [
        {"min_collateral": Nano.ton("0.099999999")},
        {"min_collateral": Nano.ton("0.500000001")},
        {"collateral_bps": 9_999},
        {"collateral_bps": 100_001},
        {"batch_collateral_bps": 9_999},
        {"batch_collateral_bps": 100_001},
        {"dispute_bond": Nano.ton("0.169999999")},
        {"dispute_bond": Nano.ton("0.500000001")},
        {"fee_bps": 9},
        {"fee_bps": 501},
        {"min_window_s": 299},
        {"min_window_s": 3_601},
        {"max_window_s": 6 * 3600 - 1},
        {"max_window_s": 72 * 3600 + 1},
        {"evidence_deadline_s": 2 * 3600 - 1},
        {"evidence_deadline_s": 48 * 3600 + 1},
        {"arbitration_timeout_s": 12 * 3600 - 1},
        {"arbitration_timeout_s": 7 * DAY + 1, "max_job_life_s": 30 * DAY, "timelock_s": 60 * DAY},
        {"max_job_life_s": 2 * DAY - 1, "evidence_deadline_s": 7200, "arbitration_timeout_s": 43_200},
        {"max_job_life_s": 30 * DAY + 1},
        {"announce_fee": Nano.ton("0.000999999")},
        {"announce_fee": Nano.ton("0.100000001")},
        {"slash_bps": 8_999},
        {"slash_bps": 10_001},
        {"late_penalty_bps": 99},
        {"late_penalty_bps": 1_001},
        {"compensation_bps": 501},
        {"compensation_floor": Nano.ton("0.050000001")},
        {"arbiter_fee": Nano.ton("0.049999999")},
        {"arbiter_fee": Nano.ton("0.180000001")},
        {"unbond_delay_s": 3_599},
        {"unbond_delay_s": 14 * DAY + 1},
        {"session_close_delay_s": 3_599},
        {"session_close_delay_s": 72 * 3600 + 1},
        {"timelock_s": 3 * DAY - 1},
        {"timelock_s": 10 * DAY},  # not longer than unbonding and the longest job
        {"timelock_s": 60 * DAY + 1},
    ],
    ids=str,
)
def test_owner_cannot_propose_parameters_beyond_their_bounds(
    world: World, client: Client, changes: dict[str, int]
) -> None:
    content = changed(world, **changes).to_cell()
    refused(
        world.chain,
        world.suite.network.registry,
        lambda: govern(world, propose(world, content)),
        ExitCode.PARAMS_OUT_OF_BOUNDS,
    )
    # Nor would an account take them, should the registry ever say so.
    update = m.ParamsUpdate(query_id=0, params=changed(world, version=2, **changes).to_cell())
    data, _ = state_of(world.chain, client.address)
    (arrival,) = world.chain.send_internal(
        client.address, GAS, update.to_cell(), src=world.suite.network.registry, bounce=False
    )
    assert ExitCode(arrival.exit_code or 0) is ExitCode.PARAMS_OUT_OF_BOUNDS
    assert state_of(world.chain, client.address)[0] == data


@pytest.mark.parametrize("count", [1, 2, 4, 10])
def test_owner_cannot_propose_a_wrong_number_of_arbiters(world: World, count: int) -> None:
    arbiters = [
        ArbiterIdentity(key_of(f"arbiter {i}").verify_key, world.suite.governor.address) for i in range(count)
    ]
    content = changed(world, arbiters=arbiters).to_cell()
    refused(
        world.chain,
        world.suite.network.registry,
        lambda: govern(world, propose(world, content)),
        ExitCode.PARAMS_OUT_OF_BOUNDS,
    )


def test_proposal_waits_out_its_timelock(world: World, stranger: Actor) -> None:
    registry = world.suite.network.registry
    before = world.suite.params_cell
    govern(world, propose(world, changed(world, fee_bps=200).to_cell()))
    ready = world.chain.now + TIMELOCK
    execute = m.Execute(query_id=0).to_cell()
    for when in (world.chain.now, ready - 1):
        world.chain.set_now(when)
        refused(world.chain, registry, lambda: stranger.send(registry, GAS, execute), ExitCode.TIMELOCK)
    assert world.suite.params_cell.hash == before.hash
    refused(
        world.chain,
        registry,
        lambda: govern(world, propose(world, changed(world).to_cell())),
        ExitCode.PROPOSAL_PENDING,
    )
    world.chain.warp(1)
    stranger.send(registry, GAS, execute)
    after = m.Params.from_cell(world.suite.params_cell)
    assert (after.version, after.fee_bps) == (2, 200)
    refused(world.chain, registry, lambda: stranger.send(registry, GAS, execute), ExitCode.NO_PROPOSAL)


def test_owner_can_cancel_a_proposal(world: World, stranger: Actor) -> None:
    registry = world.suite.network.registry
    govern(world, propose(world, changed(world, fee_bps=200).to_cell()))
    govern(world, m.CancelProposal(query_id=0))
    world.chain.warp(TIMELOCK)
    refused(
        world.chain,
        registry,
        lambda: stranger.send(registry, GAS, m.Execute(query_id=0).to_cell()),
        ExitCode.NO_PROPOSAL,
    )
    assert m.Params.from_cell(world.suite.params_cell).version == 1


@pytest.mark.parametrize("declared", [0, 1, 7, 2**32 - 1])
def test_version_is_the_registrys_to_give(world: World, declared: int) -> None:
    enact(world, version=declared)
    assert m.Params.from_cell(world.suite.params_cell).version == 2


def test_models_wait_out_the_timelock_too(world: World) -> None:
    entry = m.ModelEntry(
        arbiter_fee=Nano.ton("0.1"), calibration_hash=7, name=begin_cell().store_bytes(b"model").end_cell()
    ).to_cell()
    registry = world.suite.network.registry
    govern(world, propose(world, entry, kind=1, model_id=42))
    refused(world.chain, registry, lambda: govern(world, m.Execute(query_id=0)), ExitCode.TIMELOCK)
    world.chain.warp(TIMELOCK)
    govern(world, m.Execute(query_id=0))
    stored = world.suite.get(registry, RegistryGetters.model(42))
    assert stored.hash == entry.hash
    assert m.Params.from_cell(world.suite.params_cell).version == 1


@pytest.mark.parametrize("kind", [2, 255])
def test_owner_cannot_propose_an_unknown_kind(world: World, kind: int) -> None:
    refused(
        world.chain,
        world.suite.network.registry,
        lambda: govern(world, propose(world, begin_cell().end_cell(), kind=kind)),
        ExitCode.PARAMS_OUT_OF_BOUNDS,
    )


def test_masterchain_account_cannot_ask_for_parameters(world: World) -> None:
    refused(
        world.chain,
        world.suite.network.registry,
        lambda: world.chain.send_internal(
            world.suite.network.registry,
            GAS,
            m.SyncParams(query_id=0).to_cell(),
            src=Address((-1, bytes(32))),
        ),
        ExitCode.NOT_ALLOWED,
    )


# -- living under a change -----------------------------------------------------------------------------


def test_job_keeps_the_parameters_and_arbiters_it_was_opened_under(
    world: World, client: Client, worker: Worker
) -> None:
    fresh = [key_of(f"new arbiter {i}") for i in range(3)]
    arbiters = [ArbiterIdentity(key.verify_key, world.suite.governor.address) for key in fresh]
    govern(world, propose(world, changed(world, arbiters=arbiters, fee_bps=300).to_cell()))
    world.chain.warp(TIMELOCK)
    first, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, first, Nano.ton(1))
    client.act(signing.dispute_result(first))
    old = world.suite.params_cell
    govern(world, m.Execute(query_id=0))
    sync(world, client, worker)
    second, _ = client.open(world.suite.directed_terms(worker))
    before, after = client.job(first), client.job(second)
    assert before is not None
    assert after is not None
    assert (before.params.hash, before.fee_bps) == (old.hash, 100)
    assert (after.params.hash, after.fee_bps) == (world.suite.params_cell.hash, 300)
    retired = world.suite.verdict(client, worker, first, Nano.ton(1), 0).to_cell()
    current, world.suite.arbiters = world.suite.arbiters, fresh
    wrong = world.suite.verdict(client, worker, first, Nano.ton(1), 0).to_cell()
    world.suite.arbiters = current
    caller = world.suite.governor
    refused(
        world.chain,
        client.address,
        lambda: caller.send(client.address, Nano.ton("0.2"), wrong),
        ExitCode.BAD_SIGNATURE,
    )
    assert at(caller.send(client.address, Nano.ton("0.2"), retired), client.address)[0].success
    assert (worker.get_state().earned, worker.get_state().fee_due) == (Nano.ton("0.99"), Nano.ton("0.01"))


@pytest.mark.parametrize("synced", ["escrow", "stake"])
def test_submission_ends_in_gone_when_only_one_side_is_synced(
    world: World, client: Client, worker: Worker, synced: str
) -> None:
    enact(world, fee_bps=200)
    sync(world, client if synced == "escrow" else worker)
    number, _ = client.open(world.suite.directed_terms(worker))
    job = client.job(number)
    worker.submit(client, number, Nano.ton(1))
    assert client.job(number) == job
    assert (len(locks(worker)), worker.get_state().stake) == (0, Nano.ton(100))
    sync(world, client, worker)
    if synced == "escrow":
        worker.submit(client, number, Nano.ton(1))
        assert len(locks(worker)) == 1


def test_claimed_job_can_be_submitted_after_a_sync(world: World, client: Client, worker: Worker) -> None:
    govern(world, propose(world, changed(world, fee_bps=200).to_cell()))
    world.chain.warp(TIMELOCK)
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    govern(world, m.Execute(query_id=0))
    sync(world, client, worker)
    worker.submit_claimed(client, number, Nano.ton(1))
    client.act(signing.accept_result(number))
    # Under the old fee.
    assert worker.get_state().fee_due == Nano.ton("0.01")


def test_account_cannot_go_back_to_an_older_version(world: World, client: Client, worker: Worker) -> None:
    old = world.suite.params_cell
    enact(world, fee_bps=200)
    sync(world, client, worker)
    epochs = client.get_state().epoch, worker.get_state().epoch
    for account in (client, worker):
        data, _ = state_of(world.chain, account.address)
        for cell in (old, world.suite.params_cell):
            body = m.ParamsUpdate(query_id=0, params=cell).to_cell()
            (arrival,) = world.chain.send_internal(
                account.address, GAS, body, src=world.suite.network.registry, bounce=False
            )
            assert ExitCode(arrival.exit_code or 0) is ExitCode.PARAMS_OUT_OF_BOUNDS
        assert state_of(world.chain, account.address)[0] == data
    assert (client.get_state().epoch, worker.get_state().epoch) == epochs


# -- two versions of code ------------------------------------------------------------------------------


def next_version(name: str) -> Cell:
    """Return code that behaves the same and hashes differently: PUSHREFCONT, JMPX, straight on to it."""
    code = code_cell(name)
    return begin_cell().store_bytes(b"\x8a\xd9").store_ref(code).end_cell()


def codes(new: Cell, old: Cell) -> m.Codes:
    return m.Codes(
        hash=int.from_bytes(new.hash, "big"),
        depth=new.get_depth(),
        previous_hash=int.from_bytes(old.hash, "big"),
        previous_depth=old.get_depth(),
    )


def test_owner_cannot_accept_unlisted_code(world: World, client: Client, worker: Worker) -> None:
    for account, name in ((client, "Escrow"), (worker, "WorkerStake")):
        own = int.from_bytes(code_cell(name).hash, "big")
        for wrong in (1, own, 2**256 - 1):
            body = m.AcceptCode(query_id=0, code_hash=wrong)
            refused(
                world.chain,
                account.address,
                lambda account=account, body=body: account.from_owner(body),
                ExitCode.UNLISTED_CODE,
            )


def test_client_can_move_to_new_stakes_and_keep_the_old_ones(
    world: World, client: Client, worker: Worker
) -> None:
    new, old = next_version("WorkerStake"), code_cell("WorkerStake")
    enact(world, stake_codes=codes(new, old))
    sync(world, client, worker)
    owner = world.chain.actor("modern", Nano.ton(10_000))
    modern = Worker(
        world.suite,
        world.suite.network.stake(owner.address, code=new),
        owner,
        key_of("modern"),
        c.PURPOSE_STAKE_EXTERNAL,
    )
    world.workers.append(modern)
    body = m.ConfigureStake(
        query_id=0,
        operator_key=modern.key.verify_key.to_int(),
        info_hash=0,
        max_locked=Nano.ton(100),
        daily_lock=Nano.ton(100),
    )
    owner.send(modern.address, Nano.ton(10), body.to_cell(), state_init=modern.deployment.state_init)
    modern.from_owner(m.AddStake(query_id=0, amount=Nano.ton(50)), Nano.ton(51))
    assert modern.get_state().active
    # Not yet: the client has not opted in.
    number, _ = client.open(world.suite.open_terms())
    modern.claim(client, number)
    modern.submit_claimed(client, number, Nano.ton(1))
    assert (len(locks(modern)), modern.get_state().stake) == (0, Nano.ton(50))
    client.from_owner(m.AcceptCode(query_id=0, code_hash=int.from_bytes(new.hash, "big")))
    modern.submit_claimed(client, number, Nano.ton(1))
    assert len(locks(modern)) == 1

    # The old one is the previous one now, and has to say so.
    def submit(number: int, own_previous_code: bool) -> None:
        target = dataclasses.replace(worker.target(client, number), own_previous_code=own_previous_code)
        worker.act(signing.submit_claimed(number, Nano.ton(1), target, hash_of("result")))

    second, _ = client.open(world.suite.open_terms())
    worker.claim(client, second)
    submit(second, False)
    assert len(locks(worker)) == 0
    submit(second, True)
    assert len(locks(worker)) == 1
    # Accepting twice forgets nothing.
    client.from_owner(m.AcceptCode(query_id=0, code_hash=int.from_bytes(new.hash, "big")))
    third, _ = client.open(world.suite.open_terms())
    worker.claim(client, third)
    submit(third, True)
    assert locked_for(worker, client) == 2 * Nano.ton(4)
