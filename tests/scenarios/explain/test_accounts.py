"""What `cocoon explain` says about accounts: what they are, and which of them are not what they look like."""

from __future__ import annotations

import json

import pytest
from pytoniq_core import Address, begin_cell

from cocoon_sdk.contracts.code import code_cell
from cocoon_sdk.contracts.network import Deployment, Network
from cocoon_sdk.errors import ForgedAccountError
from cocoon_sdk.explain import AccountTarget, JobTarget, explain
from cocoon_sdk.explain.facts import AccountKindName, AccountSeen, Standing
from cocoon_sdk.explain.job_facts import JobStatus
from cocoon_sdk.sandbox import SandboxChain
from cocoon_sdk.types import Nano
from tests.helpers.explanations import only, status
from tests.helpers.suite import GAS, Client, Suite, Worker


async def seen(suite: Suite, address: Address, network: Network | None = None) -> AccountSeen:
    told = await explain(SandboxChain(suite.chain), AccountTarget(address), network=network)
    json.dumps(told.to_json())
    assert str(told)
    found: AccountSeen = only(told, AccountSeen)
    return found


async def test_reader_can_tell_every_kind_of_account(suite: Suite, alice: Client, bob: Worker) -> None:
    alice.open(suite.directed_terms(bob))
    expected = {
        alice.address: (AccountKindName.ESCROW, Standing.GENUINE),
        bob.address: (AccountKindName.STAKE, Standing.GENUINE),
        suite.market: (AccountKindName.MARKET, Standing.GENUINE),
        suite.network.registry: (AccountKindName.REGISTRY, Standing.NAMED),
        alice.owner.address: (AccountKindName.WALLET, Standing.NOT_OURS),
        Address((0, bytes(32))): (AccountKindName.NOTHING, Standing.NOT_OURS),
    }
    for address, wanted in expected.items():
        found = await seen(suite, address, suite.network)
        assert (found.what, found.standing) == wanted
        assert found.balance == suite.chain.balance(address)


async def test_reader_is_not_told_that_an_unnamed_registry_is_trusted(suite: Suite) -> None:
    assert (await seen(suite, suite.network.registry)).standing is Standing.GENUINE_CODE


def forged_escrow(suite: Suite, alice: Client) -> Address:
    """Deploy the genuine code with state that nobody could have started with."""
    honest = suite.chain.account(alice.address)
    assert honest.data is not None
    forged = Deployment.of(code_cell("Escrow"), honest.data)
    suite.chain.deploy(forged.state_init, Nano.ton(5))
    return forged.address


async def test_reader_is_warned_of_genuine_code_with_forged_state(suite: Suite, alice: Client) -> None:
    forged = forged_escrow(suite, alice)
    assert (await seen(suite, forged, suite.network)).standing is Standing.FORGED
    with pytest.raises(ForgedAccountError):
        await explain(SandboxChain(suite.chain), JobTarget(forged, 1))


async def test_reader_is_warned_of_an_account_of_another_registry(suite: Suite, alice: Client) -> None:
    other = Network(Address((0, bytes(32))))
    assert (await seen(suite, alice.address, other)).standing is Standing.OTHER_NETWORK


async def test_reader_is_warned_of_an_imitation(suite: Suite, alice: Client) -> None:
    # The same code behind a NOP: it answers `identity` as an escrow does, and does what it likes.
    genuine = code_cell("Escrow").begin_parse()
    code = begin_cell().store_uint(0, 8).store_slice(genuine).end_cell()
    imitation = Deployment.of(code, alice.deployment.data)
    suite.chain.deploy(imitation.state_init, Nano.ton(5))
    found = await seen(suite, imitation.address, suite.network)
    assert (found.what, found.standing) == (AccountKindName.UNKNOWN, Standing.IMITATION)


async def test_reader_sees_a_pending_account_for_what_it_is(suite: Suite) -> None:
    escrow = suite.network.escrow(suite.governor.address)
    suite.governor.send(escrow.address, GAS, state_init=escrow.state_init)
    told = await explain(SandboxChain(suite.chain), AccountTarget(escrow.address), network=suite.network)
    assert only(told, AccountSeen).standing is Standing.GENUINE
    assert "send SyncParams" in str(told)
    assert status(await explain(SandboxChain(suite.chain), JobTarget(escrow.address, 1))) is JobStatus.UNKNOWN
