"""Our sandbox and npm's @ton/sandbox must agree on random lives: see `twin` for what is compared and how.

`make fuzz-sandbox` runs many more lives, with other seeds each time; hypothesis prints how to replay one.
Both engines read the same configuration, which says global version 12; ours implements version 11, so
random programs leave out what version 12 added (`programs`), and one test here pins the difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from cocoon_sdk.chain.base import AccountStatus
from cocoon_sdk.sandbox import NetworkConfig, external_message
from tests.interop import fuzz_suite, fuzz_world
from tests.interop.foreign_contracts import Puppet
from tests.interop.fuzz_suite import SuiteStep, suite_lives
from tests.interop.fuzz_world import Ruin, Step, Tally, lives
from tests.interop.programs import VERSION_12
from tests.interop.ton_sandbox import TonSandbox
from tests.interop.twin import Twin

FUZZ = "COCOON_SANDBOX_LIVES"
LIVES = int(os.environ.get(FUZZ, "40"))
SUITE_LIVES = max(1, LIVES // 8)
MASTERCHAIN_GAS_PRICES = 20
GAS_PRICES = 21

_common = settings(
    deadline=None,
    derandomize=FUZZ not in os.environ,  # a life in CI is the same every time
    print_blob=True,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def other() -> Iterator[TonSandbox]:
    with TonSandbox() as sandbox:
        yield sandbox


def test_both_sandboxes_can_agree_on_random_lives(other: TonSandbox) -> None:
    tally = Tally()

    @settings(_common, max_examples=LIVES)
    @given(lives)
    def life(steps: list[Step]) -> None:
        chain = Twin(other=other)
        world = fuzz_world.live(steps, chain)
        chain.assert_agreement()
        tally.look(world)

    life()
    print(tally)
    # The lives are random; that they still reach what is rare is part of the test.
    assert tally.frozen
    assert tally.uninitialised
    assert tally.due
    assert {0, 7, 9, 65535, -14} <= tally.exit_codes
    assert {0, 34, 37} <= tally.action_codes
    assert tally.skipped == {"no_state", "bad_state", "no_gas"}


def test_both_sandboxes_can_agree_on_the_contract_suite(other: TonSandbox) -> None:
    @settings(_common, max_examples=SUITE_LIVES)
    @given(suite_lives)
    def life(steps: list[SuiteStep]) -> None:
        chain = Twin(other=other)
        fuzz_suite.live(steps, chain)
        chain.assert_agreement()

    life()


def test_both_sandboxes_can_agree_on_an_account_when_it_freezes_and_comes_back(other: TonSandbox) -> None:
    chain = Twin(other=other)
    world = fuzz_world.World(chain)
    puppet = world.puppets[0].address
    five_years = 5 * 365 * 86_400
    Ruin(puppet=0, cells=300, keeps=10**8, seconds=five_years, visits=1, value=1).apply(world)
    poor = chain.status(puppet)
    Ruin(puppet=0, cells=300, keeps=0, seconds=1, visits=0, value=10**10).apply(world)

    assert poor is AccountStatus.FROZEN
    assert chain.status(puppet) is AccountStatus.ACTIVE
    chain.assert_agreement()


def test_twin_can_see_a_difference_when_the_other_chain_has_other_prices(other: TonSandbox) -> None:
    config = NetworkConfig.mainnet()
    prices = config.param(MASTERCHAIN_GAS_PRICES)
    assert prices is not None
    chain = Twin(other=other)
    other.reset(config.replace(GAS_PRICES, prices).cell.to_boc(), chain.now, timed=True)

    chain.deploy(Puppet(0).init, 10**9)

    with pytest.raises(AssertionError, match="total_fees"):
        chain.assert_agreement()


def test_twin_can_see_a_difference_when_the_other_chain_missed_a_message(other: TonSandbox) -> None:
    chain, puppet = Twin(other=other), Puppet(0)
    chain.deploy(puppet.init, 10**9)
    super(Twin, chain).send_internal(puppet.address, 10**8)

    with pytest.raises(AssertionError, match="differs"):
        chain.assert_agreement()


@pytest.mark.parametrize("opcode", VERSION_12)
def test_engine_cannot_run_what_global_version_12_added(other: TonSandbox, opcode: str) -> None:
    chain, puppet = Twin(other=other), Puppet(0)
    chain.deploy(puppet.init, 10**9)
    program = Puppet.body(program=bytes.fromhex("c8" + opcode))

    transactions = chain.send_external(external_message(puppet.address, program))

    assert transactions[0].exit_code == 6
    assert chain.disagreements, "the engine learned it: the note in tvm.py and `programs` can go"
