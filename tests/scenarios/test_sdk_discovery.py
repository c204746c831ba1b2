"""What a client believes of a market, and what not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pytoniq_core import Address

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.client.discovery import MAX_AGE_S, IgnoreReason
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.contracts.market import Market
from cocoon_sdk.contracts.network import Network
from cocoon_sdk.contracts.registry import Registry, model_id_of
from cocoon_sdk.contracts.worker_stake import WorkerStake
from cocoon_sdk.errors import (
    AccountNotFoundError,
    ForgedAccountError,
    MalformedError,
    NoWorkerError,
    UnknownModelError,
)
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import PendingError, WorkerNotAllowedError
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.types import Nano
from tests.helpers.sdk import MODEL_NAME, Town, chat
from tests.helpers.suite import as_int, hash_of, key_of


@pytest.fixture
async def town(blockchain: Blockchain, chain: Chain) -> AsyncIterator[Town]:
    made = Town(blockchain, chain)
    yield made
    await made.close()


def notice(town: Town, src: Address, owner: Address, info_hash: bytes = b"", fee: int = 10**7) -> None:
    """Put a notice on the market in somebody's name."""
    body = m.OfferNotice(
        owner=signing.account_id(owner), index=0, info_hash=as_int(info_hash or hash_of("info"))
    )
    market = town.suite.network.market(town.model.model_id).address
    town.chain.send_internal(market, fee, body.to_cell(), src=src)


async def reasons(town: Town) -> list[IgnoreReason]:
    listed = await town.cocoon().workers.list(MODEL_NAME)
    assert len(listed) == 0
    return [worker.reason for worker in listed.ignored]


async def test_client_cannot_be_shown_a_worker_that_is_forged(town: Town) -> None:
    forger = town.chain.actor("forger")
    notice(town, forger.address, forger.address)
    assert await reasons(town) == [IgnoreReason.FORGED]


async def test_client_cannot_be_shown_a_genuine_worker_by_somebody_else(town: Town) -> None:
    worker = town.worker(announced=False)
    notice(town, town.chain.actor("forger").address, worker.account.owner.address)
    assert await reasons(town) == [IgnoreReason.FORGED]


async def test_client_cannot_be_shown_a_worker_that_paid_no_fee(town: Town) -> None:
    worker = town.worker(announced=False)
    notice(town, worker.address, worker.account.owner.address, fee=10**7 - 1)
    assert await reasons(town) == [IgnoreReason.FEE]


async def test_client_cannot_be_shown_what_was_announced_for_nothing(town: Town) -> None:
    worker = town.worker(announced=False)
    notice(town, worker.address, worker.account.owner.address)
    failed = town.chain.transactions(limit=1)
    with town.chain.isolated():
        elsewhere = town.suite.network.market(hash_of("not deployed")).address
        body = failed[0].in_msg.body
        done = town.chain.send_internal(elsewhere, 10**7, body, src=worker.address)
        assert done[0].bounced_back
        market = Market.at(town.adapter, elsewhere)
        assert [found async for found in market.notices()] == []


async def test_client_cannot_be_shown_a_stake_that_does_not_exist(town: Town) -> None:
    owner = town.chain.actor("nobody").address
    notice(town, town.suite.network.stake(owner).address, owner)
    assert await reasons(town) == [IgnoreReason.NOT_ACTIVE]


async def test_client_cannot_be_shown_a_stake_without_an_announcement(town: Town) -> None:
    worker = town.worker(announced=False)
    notice(town, worker.address, worker.account.owner.address)
    assert await reasons(town) == [IgnoreReason.OUTDATED]
    body = m.ConfigureStake(
        query_id=0,
        operator_key=worker.account.key.verify_key.to_int(),
        info_hash=as_int(hash_of("info")),
        max_locked=Nano.ton(100),
        daily_lock=Nano.ton(100),
    )
    worker.account.from_owner(body)
    assert await reasons(town) == [IgnoreReason.UNREADABLE]


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        (IgnoreReason.OTHER_KEY, {"operator": key_of("somebody").verify_key}),
        (IgnoreReason.NO_PREKEY, {"expires_in": 0}),
        (IgnoreReason.NO_OFFER, {"offers": ()}),
    ],
)
async def test_client_cannot_be_shown_a_worker_whose_announcement_is_of_no_use(
    town: Town, reason: IgnoreReason, changes: dict[str, object]
) -> None:
    town.worker(announced=False).announce(**changes)  # type: ignore[arg-type]
    assert await reasons(town) == [reason]


async def test_client_cannot_be_shown_terms_for_another_entry(town: Town) -> None:
    worker = town.worker(announced=False)
    worker.announce(terms=worker.terms(model_entry_hash=hash_of("other entry")))
    assert await reasons(town) == [IgnoreReason.OTHER_ENTRY]


async def test_client_cannot_be_shown_a_worker_without_stake_or_news(town: Town) -> None:
    worker = town.worker(stake=Nano.ton("0.1"))
    assert await reasons(town) == [IgnoreReason.NO_STAKE]
    worker.account.from_owner(m.AddStake(query_id=0, amount=Nano.ton(5)), Nano.ton(6))
    assert len(await town.cocoon().workers.list(MODEL_NAME)) == 1
    town.chain.warp(MAX_AGE_S + 1)
    assert await reasons(town) == []


async def test_client_can_see_the_newest_announcement_and_keeps_the_list_within_a_block(town: Town) -> None:
    cocoon = town.cocoon()
    worker = town.worker()
    first = await cocoon.workers.list(MODEL_NAME)
    assert first is await cocoon.workers.list(MODEL_NAME)
    worker.announce(terms=worker.terms(output_price=Nano.ton(7)))
    second = await cocoon.workers.list(MODEL_NAME)
    assert [offer.terms.output_price for offer in second] == [Nano.ton(7)]
    assert first.offers[0].terms.output_price != Nano.ton(7)


async def test_client_cannot_use_a_worker_that_its_owner_did_not_allow(town: Town) -> None:
    mine, other = town.worker("mine", announced=False), town.worker("other")
    mine.announce(terms=mine.terms(output_price=Nano.ton(500)))
    cocoon = town.cocoon()
    await cocoon.escrow.open(Nano.ton(20), Nano.ton(100), allowed=[mine.address])
    job = await cocoon.jobs.create(model=MODEL_NAME, messages=chat(), max_output_tokens=16)
    assert (await job.status()).worker == mine.address
    with pytest.raises(WorkerNotAllowedError):
        await cocoon.jobs.create(model=MODEL_NAME, messages=chat(), worker=other.address)
    await cocoon.escrow.set_limits(Nano.ton(100), allowed=[town.chain.actor("x").address])
    with pytest.raises(NoWorkerError):
        await cocoon.jobs.create(model=MODEL_NAME, messages=chat())


async def test_client_can_find_models_by_id_and_by_name(town: Town) -> None:
    models = town.cocoon().models
    assert await models.list() == (town.model,)
    for name in (MODEL_NAME, town.model.model_id, town.model.model_id.hex()):
        assert await models.get(name) == town.model
    with pytest.raises(UnknownModelError):
        await models.get("nothing")
    with pytest.raises(MalformedError):
        await models.get(b"short")
    assert models.id_of({"b": 1, "a": 2}) == models.id_of({"a": 2, "b": 1}) == model_id_of({"a": 2, "b": 1})


async def test_reader_can_tell_genuine_accounts_from_forged_ones(town: Town) -> None:
    worker, client = town.worker(), town.suite.client("client")
    network, chain = town.suite.network, town.adapter
    genuine = await WorkerStake.at(chain, worker.address).verify_genuine(network)
    assert (genuine.owner, genuine.index, genuine.previous_code) == (worker.account.owner.address, 0, False)
    assert (await Escrow.at(chain, client.address).verify_genuine(network)).owner == client.owner.address
    for forged in (
        WorkerStake.at(chain, client.address),  # an escrow is no stake
        Escrow.at(chain, worker.address),
        Escrow.at(chain, town.chain.actor("wallet").address),
    ):
        with pytest.raises(ForgedAccountError):
            await forged.verify_genuine(network)
    with pytest.raises(AccountNotFoundError):
        await Escrow.at(chain, Address((0, b"\1" * 32))).verify_genuine(network)


async def test_reader_cannot_take_an_account_of_another_registry_for_genuine(town: Town) -> None:
    elsewhere = Network(town.chain.actor("another registry").address)
    foreign = elsewhere.escrow(town.chain.actor("client").address)
    town.chain.deploy(foreign.state_init, Nano.ton(1))
    with pytest.raises(ForgedAccountError):
        await Escrow.at(town.adapter, foreign.address).verify_genuine(town.suite.network)


async def test_reader_cannot_take_a_pending_account_for_genuine(town: Town) -> None:
    pending = town.suite.network.escrow(town.chain.actor("slow").address)
    town.chain.deploy(pending.state_init, Nano.ton(1))
    with pytest.raises(PendingError):
        await Escrow.at(town.adapter, pending.address).verify_genuine(town.suite.network)


async def test_reader_can_see_parameters_and_models_of_the_registry(town: Town) -> None:
    registry = Registry.at(town.adapter, town.suite.network.registry)
    assert await registry.owner() == town.suite.governor.address
    assert await registry.pending_owner() is None
    assert await registry.proposal() is None
    assert (await registry.params_cell()).hash == town.suite.params_cell.hash
    assert (await registry.rules()).timelock == town.suite.parameters.timelock_s
    assert await registry.model(hash_of("nothing")) is None
    with pytest.raises(AccountNotFoundError):
        await Registry.at(town.adapter, Address((0, bytes(32)))).models()
