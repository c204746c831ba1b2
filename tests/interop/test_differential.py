"""Our sandbox and npm's @ton/sandbox must agree on random lives: see `twin` for what is compared and how.

`make fuzz-sandbox` runs many more lives, with other seeds each time; hypothesis prints how to replay one.
Both engines read the same configuration, which says global version 12; ours implements version 11. Random
lives leave out what version 12 changed, and tests here pin each such difference: new instructions, and
messages whose field `ihr_fee` is not zero, which version 12 reads as flags for the format of bounces.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.chain.base import AccountStatus
from cocoon_sdk.sandbox import NetworkConfig, external_message
from tests.interop import fuzz_suite, fuzz_world
from tests.interop.foreign_contracts import Puppet, Transfer, reserve_action, send_action, transfer
from tests.interop.fuzz_lives import lives
from tests.interop.fuzz_suite import SuiteStep, suite_lives
from tests.interop.fuzz_world import Ruin, Step, Tally
from tests.interop.programs import VERSION_12
from tests.interop.ton_sandbox import TonSandbox
from tests.interop.twin import Twin

FUZZ = "COCOON_SANDBOX_LIVES"
LIVES = int(os.environ.get(FUZZ, "40"))
SUITE_LIVES = max(1, LIVES // 8)
MASTERCHAIN_GAS_PRICES = 20
GAS_PRICES = 21
NOBODY = Address((0, b"\x11" * 32))

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
    assert {0, 34} <= tally.action_codes
    assert tally.skipped == {"no_state", "bad_state", "no_gas"}


def test_both_sandboxes_can_agree_on_the_contract_suite(other: TonSandbox) -> None:
    @settings(_common, max_examples=SUITE_LIVES)
    @given(suite_lives)
    def life(steps: list[SuiteStep]) -> None:
        chain = Twin(other=other)
        fuzz_suite.live(steps, chain)
        chain.assert_agreement()

    life()


@pytest.mark.parametrize("value", [0, 10**7, 10**12])
def test_both_sandboxes_can_agree_on_every_send_mode(other: TonSandbox, value: int) -> None:
    chain, puppet = Twin(other=other), Puppet(0)
    codes = set()
    for flags in itertools.product((0, 1), (0, 2), (0, 16), (0, 32), (0, 64), (0, 128)):
        action = send_action(transfer(NOBODY, value, sum(flags), bounce=False))
        chain.send_internal(puppet.address, 10**9, state_init=puppet.init)
        codes.add(chain.send_internal(puppet.address, 10**8, Puppet.body([action]))[0].action_result_code)

    assert {0, 34} < codes
    chain.assert_agreement()


@pytest.mark.parametrize("amount", [0, 10**7, 10**12])
def test_both_sandboxes_can_agree_on_every_reserve_mode(other: TonSandbox, amount: int) -> None:
    chain, puppet = Twin(other=other), Puppet(0)
    for mode in range(32):
        rest = send_action(transfer(NOBODY, 0, 128, bounce=False))
        chain.send_internal(puppet.address, 10**9, state_init=puppet.init)
        chain.send_internal(puppet.address, 10**8, Puppet.body([reserve_action(mode, amount), rest]))

    chain.assert_agreement()


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


@pytest.mark.parametrize("flags", [1, 2, 3, 4])
def test_engine_cannot_tell_the_flags_that_global_version_12_added_from_an_ihr_fee(
    other: TonSandbox, flags: int
) -> None:
    chain, puppet = Twin(other=other), Puppet(0)
    chain.deploy(puppet.init, 10**9)
    plain = transfer(puppet.address, 10**8, 1)
    flagged = Transfer(_with_ihr_fee(plain.message, flags), plain.mode)

    chain.send_external(external_message(puppet.address, Puppet.body([send_action(flagged)])))

    assert chain.disagreements, "the engine learned it: the note in tvm.py and this test can go"


def _with_ihr_fee(message: Cell, fee: int) -> Cell:
    """Return a contract's message whose `ihr_fee`, zero so far, is another."""
    source = message.begin_parse()
    changed = begin_cell().store_bits(source.load_bits(6)).store_address(source.load_address())
    changed.store_coins(source.load_coins()).store_bit(source.load_bit())
    source.load_coins()
    return changed.store_coins(fee).store_slice(source).end_cell()
