"""The engine: opcodes modern contracts need, get-methods, libraries, reasons for rejections."""

from __future__ import annotations

import hashlib

import pytest
from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.errors import AccountNotFoundError, ExternalRejectedError, GetterError
from cocoon_sdk.sandbox import Blockchain, NetworkConfig, StackError, external_message
from cocoon_sdk.types import Nano
from tests.unit.sandbox.contracts import ACCEPTS, EMPTY, SPINS, THROWS_33, computes, contract, getter

VALUE = Nano.ton(1)
FLAT_GAS_FEE = 40_000
GAS_PRICE = 400


def stored(blockchain: Blockchain, expression: str) -> int:
    address = blockchain.deploy(contract(computes(expression)), VALUE)
    data = blockchain.account(address).data
    assert data is not None
    return int(data.begin_parse().load_uint(256))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("GLOBALID NEGATE", 239),
        ("1100 INT 0 INT GETGASFEE", FLAT_GAS_FEE + 1000 * GAS_PRICE),
        ("1000 INT 0 INT GETGASFEESIMPLE", 1000 * GAS_PRICE),
        ("0 INT 0 INT 0 INT GETFORWARDFEE", 400_000),
        ("8 INT 1024 INT 0 INT GETFORWARDFEE", 400_000 + 400 * 1024 + 40_000 * 8),
        ("2 INT 1024 INT 65536 INT 0 INT GETSTORAGEFEE", 2 * 500 + 1024),
    ],
)
def test_contract_can_read_prices_when_executing_a_transaction(
    blockchain: Blockchain, expression: str, expected: int
) -> None:
    assert stored(blockchain, expression) == expected


def test_contract_can_read_consumed_gas_when_executing_a_transaction(blockchain: Blockchain) -> None:
    consumed = stored(blockchain, "GASCONSUMED")
    assert 0 < consumed < blockchain.transactions()[0].gas_used


def test_contract_can_hash_slices_when_executing_a_transaction(blockchain: Blockchain) -> None:
    expected = int.from_bytes(hashlib.sha256(b"ab").digest(), "big")
    assert stored(blockchain, "x{61} PUSHSLICE x{62} PUSHSLICE 2 INT HASHEXT_SHA256") == expected


def test_contract_can_limit_its_gas_when_executing_a_transaction(blockchain: Blockchain) -> None:
    [transaction] = blockchain.send_internal(
        Address((0, contract("500 INT SETGASLIMIT " + SPINS).hash)),
        VALUE,
        state_init=contract("500 INT SETGASLIMIT " + SPINS),
        bounce=False,
    )
    assert transaction.exit_code == -14
    assert transaction.compute is not None
    assert transaction.gas_used < 1000 < transaction.compute.gas_limit


def test_engine_cannot_execute_opcodes_that_came_with_version_12(blockchain: Blockchain) -> None:
    # A newer engine would fail here: then the module's docstring has to lose its warning.
    init = contract(computes("NEWC x{CF50} s, DROP 1 INT"))
    [transaction] = blockchain.send_internal(Address((0, init.hash)), VALUE, state_init=init, bounce=False)
    assert transaction.exit_code == 6


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("NOW", [1_780_000_000]),
        ("GLOBALID", [-239]),
        ("1100 INT 0 INT GETGASFEE", [440_000]),
        ("0 INT 0 INT 0 INT GETFORWARDFEE", [400_000]),
        ("2 INT 1024 INT 65536 INT 0 INT GETSTORAGEFEE", [2 * 500 + 1024]),
        ("BALANCE 0 INDEX", [int(VALUE)]),
        ("x{F82F} s,", [0]),
        ("GETPRECOMPILEDGAS", [None]),
        ("1 INT 2 INT 3 INT", [1, 2, 3]),
        ("1 INT 2 INT PAIR", [[1, 2]]),
        ("NIL", [[]]),
        ("-1 INT", [-1]),
    ],
)
def test_getter_can_see_the_chain_when_called(
    blockchain: Blockchain, expression: str, expected: object
) -> None:
    # Deployed without running code, so that the balance is exactly the value.
    init = contract(getter(expression))
    address = Address((0, init.hash))
    blockchain.send_internal(address, int(VALUE) + deployment_fee(init), state_init=init, bounce=False)
    assert blockchain.run_getter(address, "anything") == expected


def deployment_fee(init: Cell) -> int:
    scratch = Blockchain()
    [transaction] = scratch.send_internal(Address((0, init.hash)), VALUE, state_init=init, bounce=False)
    return int(transaction.total_fees)


def test_getter_can_see_its_address_and_config_when_called(blockchain: Blockchain) -> None:
    address = blockchain.deploy(contract("0 EQINT IFNOTJMP:<{ MYADDR 19 INT CONFIGOPTPARAM }>"), VALUE)
    mine, global_id = blockchain.run_getter(address, 85143)
    assert mine.load_address() == address  # type: ignore[union-attr]
    assert global_id.begin_parse().load_int(32) == -239  # type: ignore[union-attr]


def test_getter_can_return_what_it_was_given_when_called(blockchain: Blockchain) -> None:
    address = blockchain.deploy(contract("0 EQINT DROP"), VALUE)
    cell = begin_cell().store_uint(7, 9).store_ref(EMPTY).end_cell()
    given = [5, None, cell, cell.begin_parse(), [1, [cell, None]], -(1 << 256)]
    returned = blockchain.run_getter(address, "echo", given)
    assert returned[:3] == [5, None, cell]
    assert returned[3].to_cell() == cell  # type: ignore[union-attr]
    assert returned[4:] == [[1, [cell, None]], -(1 << 256)]


def test_getter_can_keep_globals_when_called(blockchain: Blockchain) -> None:
    address = blockchain.deploy(contract("DROP 77 INT 3 SETGLOB 3 GETGLOB"), VALUE)
    assert blockchain.run_getter(address, "any") == [77]


@pytest.mark.parametrize(("code", "exit_code"), [(THROWS_33, 33), (SPINS, -14)])
def test_getter_cannot_succeed_when_the_code_throws(
    blockchain: Blockchain, code: str, exit_code: int
) -> None:
    address = blockchain.deploy(contract("DUP 0 EQINT IFJMP:<{ }> " + code), VALUE)
    with pytest.raises(GetterError) as caught:
        blockchain.run_getter(address, "broken", gas_limit=5000)
    assert caught.value.exit_code == exit_code


def test_getter_cannot_run_when_there_is_no_contract(blockchain: Blockchain) -> None:
    with pytest.raises(AccountNotFoundError):
        blockchain.run_getter(Address((0, b"\x01" * 32)), "seqno")


@pytest.mark.parametrize("value", [1 << 256, "text", [[1 << 300]]])
def test_caller_cannot_pass_a_value_when_the_stack_has_no_form_for_it(
    blockchain: Blockchain, value: object
) -> None:
    address = blockchain.deploy(contract("0 EQINT DROP"), VALUE)
    with pytest.raises(StackError):
        blockchain.run_getter(address, "echo", [value])


def test_getter_cannot_return_a_continuation(blockchain: Blockchain) -> None:
    address = blockchain.deploy(contract("DROP CONT:<{ }>"), VALUE)
    with pytest.raises(StackError):
        blockchain.run_getter(address, "any")


# -- rejections ----------------------------------------------------------------------------------------


def rejected(blockchain: Blockchain, code: str) -> ExternalRejectedError:
    address = blockchain.deploy(contract("DUP 0 EQINT IFJMP:<{ }> " + code), VALUE)
    before = blockchain.account(address)
    head = (blockchain.seqno, blockchain.lt)
    with pytest.raises(ExternalRejectedError) as caught:
        blockchain.send_external(external_message(address, EMPTY))
    assert blockchain.account(address) == before
    assert (blockchain.seqno, blockchain.lt) == head
    return caught.value


def test_sender_can_see_the_exit_code_and_log_when_an_external_is_rejected(blockchain: Blockchain) -> None:
    error = rejected(blockchain, THROWS_33)
    assert error.exit_code == 33
    assert "execute THROW 33" in error.why


def test_sender_can_see_out_of_gas_when_the_credit_does_not_suffice(blockchain: Blockchain) -> None:
    assert rejected(blockchain, SPINS).exit_code == -14


def test_sender_can_see_that_nobody_accepted_when_the_code_just_ends(blockchain: Blockchain) -> None:
    error = rejected(blockchain, "DROP")
    assert error.exit_code == 0
    assert "without accepting" in error.why


def test_sender_cannot_reach_an_account_when_it_does_not_exist(blockchain: Blockchain) -> None:
    with pytest.raises(ExternalRejectedError) as caught:
        blockchain.send_external(external_message(Address((0, b"\x05" * 32)), EMPTY))
    assert caught.value.exit_code is None
    assert blockchain.accounts() == []


# -- libraries, configuration, randomness ----------------------------------------------------------------


def library_reference(library: Cell) -> Cell:
    return Cell(begin_cell().store_uint(2, 8).store_bytes(library.hash).end_cell().bits, [], 2)


def test_contract_can_run_library_code_when_the_library_is_published(blockchain: Blockchain) -> None:
    code = contract(computes("42 INT")).refs[0]
    init = begin_cell().store_uint(0b00110, 5).store_ref(library_reference(code)).store_ref(EMPTY).end_cell()
    address = Address((0, init.hash))
    [missing] = blockchain.send_internal(address, VALUE, state_init=init, bounce=False)
    assert missing.exit_code != 0
    blockchain.set_libraries([code])
    [found] = blockchain.send_internal(address, VALUE, bounce=False)
    assert found.exit_code == 0
    data = blockchain.account(address).data
    assert data is not None
    assert data.begin_parse().load_uint(256) == 42


def test_getter_can_run_library_code_when_the_library_is_published(blockchain: Blockchain) -> None:
    code = contract(getter("42 INT")).refs[0]
    blockchain.set_libraries([code])
    init = begin_cell().store_uint(0b00110, 5).store_ref(library_reference(code)).store_ref(EMPTY).end_cell()
    address = blockchain.deploy(init, VALUE)
    assert blockchain.run_getter(address, "any") == [42]


def test_blockchain_can_use_another_network_when_given_its_configuration() -> None:
    testnet = NetworkConfig.mainnet().replace(19, begin_cell().store_int(-3, 32).end_cell())
    blockchain = Blockchain(config=testnet)
    assert blockchain.global_id == -3
    assert stored(blockchain, "GLOBALID NEGATE") == 3
    assert NetworkConfig.mainnet().global_id == -239


def test_random_numbers_differ_between_blocks_and_repeat_between_runs() -> None:
    def draws() -> list[int]:
        blockchain = Blockchain()
        return [stored(blockchain, "RANDU256 " + "NOP " * extra) for extra in (0, 1)]

    first, second = draws()
    assert first != second
    assert draws() == [first, second]


def test_accepted_external_can_be_executed_when_the_contract_pays(blockchain: Blockchain) -> None:
    address = blockchain.deploy(contract(ACCEPTS), VALUE)
    [transaction] = blockchain.send_external(external_message(address, EMPTY))
    assert transaction.success
    assert transaction.import_fee > 0
