"""What the API says of accounts, now and at older blocks."""

from __future__ import annotations

import base64

import pytest
from pytoniq_core import Address, Builder, Cell, begin_cell
from ton_core.contrib.contracts.codes import CONTRACT_CODES
from ton_core.contrib.contracts.versions import ContractVersion

from cocoon_sdk.chain.base import AccountStatus
from cocoon_sdk.sandbox.messages import state_init
from cocoon_sdk.types import Nano
from tests.unit.sandbox.contracts import ACCEPTS, contract, large_data
from tests.unit.sandbox.toncenter.conftest import GIFT, NOBODY, Api

YEAR_S = 365 * 86400
RAW = "0:83dfd552e63729b472fcbcc8c45ebcc6691702558b68ec7527e1ba403a0f31a8"


def decode(text: str) -> Cell:
    return Cell.one_from_boc(base64.b64decode(text))


async def test_reader_can_see_an_active_account(api: Api) -> None:
    found = await api.result("getAddressInformation", address=api.alice.address.to_str())
    state = api.blockchain.account(api.alice.address)
    assert state.code is not None
    assert state.data is not None
    assert found == {
        "@type": "raw.fullAccountState",
        "balance": str(int(state.balance)),
        "extra_currencies": [],
        "last_transaction_id": {
            "@type": "internal.transactionId",
            "lt": str(state.last_lt),
            "hash": base64.b64encode(state.last_hash).decode(),
        },
        "block_id": (await api.result("getMasterchainInfo"))["last"],
        "code": found["code"],
        "data": found["data"],
        "frozen_hash": "",
        "sync_utime": api.blockchain.now,
        "state": "active",
        "suspended": False,
    }
    assert (decode(found["code"]), decode(found["data"])) == (state.code, state.data)


async def test_reader_can_see_that_an_account_does_not_exist(api: Api) -> None:
    found = await api.result("getAddressInformation", address=NOBODY.to_str())
    assert (found["balance"], found["state"], found["code"], found["data"]) == ("0", "uninitialized", "", "")
    assert found["last_transaction_id"]["lt"] == "0"
    assert base64.b64decode(found["last_transaction_id"]["hash"]) == bytes(32)
    extended = await api.result("getExtendedAddressInformation", address=NOBODY.to_str())
    assert extended["account_state"] == {"@type": "uninited.accountState", "frozen_hash": ""}


async def test_reader_can_look_back_at_an_older_block(api: Api) -> None:
    seqno = api.node.head.seqno
    await api.give(value=Nano.ton(3))
    for method, old, new in (
        ("getAddressBalance", "0", "3000000000"),
        ("getAddressState", "uninitialized", "uninitialized"),
    ):
        assert await api.result(method, address=NOBODY.to_str(), seqno=seqno) == old
        assert await api.result(method, address=NOBODY.to_str(), seqno=str(seqno + 1)) == new
        assert await api.result(method, address=NOBODY.to_str()) == new
    old_wallet = await api.result("getWalletInformation", address=api.alice.address.to_str(), seqno=seqno)
    assert old_wallet["seqno"] == 0
    assert api.alice.seqno == 1


async def test_reader_can_see_a_frozen_account_with_the_hash_of_its_state(api: Api) -> None:
    # Its data change with every message: an account that freezes as it was born is simply uninitialised.
    init = contract("c4 PUSHCTR NEWC STREF ENDC c4 POPCTR", large_data(200))
    address = await api.node.apply(lambda chain: chain.deploy(init, Nano.ton("0.3")))
    state = api.blockchain.account(address)
    assert state.code is not None
    assert state.data is not None
    await api.node.warp(4 * YEAR_S)
    await api.node.apply(lambda chain: chain.send_internal(address, 1))
    assert api.blockchain.status(address) is AccountStatus.FROZEN
    found = await api.result("getAddressInformation", address=address.to_str())
    assert (found["state"], found["code"]) == ("frozen", "")
    assert base64.b64decode(found["frozen_hash"]) == state_init(state.code, state.data).hash
    assert await api.result("getAddressState", address=address.to_str()) == "frozen"
    extended = await api.result("getExtendedAddressInformation", address=address.to_str())
    assert extended["account_state"] == {
        "@type": "uninited.accountState",
        "frozen_hash": found["frozen_hash"],
    }


@pytest.mark.parametrize(
    ("version", "name", "layout", "extended"),
    [
        (ContractVersion.WalletV1R3, "wallet v1 r3", "s", "raw.accountState"),
        (ContractVersion.WalletV2R2, "wallet v2 r2", "s", "raw.accountState"),
        (ContractVersion.WalletV3R1, "wallet v3 r1", "si", "wallet.v3.accountState"),
        (ContractVersion.WalletV3R2, "wallet v3 r2", "si", "wallet.v3.accountState"),
        (ContractVersion.WalletV4R2, "wallet v4 r2", "si", "wallet.v4.accountState"),
        (ContractVersion.WalletV5R1, "wallet v5 r1", "asi", "raw.accountState"),
    ],
)
async def test_reader_can_recognise_every_wallet_by_its_code(
    api: Api, version: ContractVersion, name: str, layout: str, extended: str
) -> None:
    builder: Builder = begin_cell()
    for field in layout:
        if field == "a":
            builder.store_bit(1)
        else:
            builder.store_uint(5 if field == "s" else 698983191, 32)
    data = builder.store_uint(0, 256).store_bit(0).end_cell()
    init = state_init(Cell.one_from_boc(CONTRACT_CODES[version]), data)
    address = await api.node.apply(lambda chain: chain.deploy(init, Nano.ton(1)))
    found = await api.result("getWalletInformation", address=address.to_str())
    assert found["@type"] == "ext.accounts.walletInformation"
    assert (found["wallet"], found["wallet_type"], found["seqno"]) == (True, name, 5)
    assert found.get("wallet_id") == (698983191 if "i" in layout else None)
    assert found.get("is_signature_allowed") == (True if "a" in layout else None)
    full = await api.result("getExtendedAddressInformation", address=address.to_str())
    state = full["account_state"]
    assert state["@type"] == extended
    if extended != "raw.accountState":
        assert (state["wallet_id"], state["seqno"]) == (698983191, 5)
        assert full["revision"] in (1, 2)


async def test_reader_can_tell_that_a_contract_is_no_wallet(api: Api) -> None:
    address = await api.node.apply(lambda chain: chain.deploy(contract(ACCEPTS), Nano.ton(1)))
    found = await api.result("getWalletInformation", address=address.to_str())
    assert (found["wallet"], found["account_state"]) == (False, "active")
    assert "seqno" not in found
    # A wallet's code alone does not make one: there is nothing to read in its data.
    init = state_init(Cell.one_from_boc(CONTRACT_CODES[ContractVersion.WalletV3R2]), begin_cell().end_cell())
    address = await api.node.apply(lambda chain: chain.deploy(init, Nano.ton(1)))
    assert (await api.result("getWalletInformation", address=address.to_str()))["wallet"] is False
    full = await api.result("getExtendedAddressInformation", address=address.to_str())
    assert full["account_state"]["@type"] == "raw.accountState"


async def test_reader_can_get_the_raw_account_and_the_masterchains(api: Api) -> None:
    master = Address((-1, b"\x77" * 32))
    await api.give(master, value=GIFT)
    assert await api.result("getAddressBalance", address=master.to_str()) == str(int(GIFT))
    for address in (master, api.alice.address):
        found = await api.result("getShardAccountCell", address=address.to_str())
        assert found["@type"] == "tvm.cell"
        assert decode(found["bytes"]).begin_parse().load_ref().hash
    balance = await api.result("getAddressBalance", address=api.alice.address.to_str())
    assert balance == str(int(api.alice.balance))


async def test_reader_can_convert_addresses_and_hashes(api: Api) -> None:
    packed = await api.result("packAddress", address=RAW)
    assert packed == Address(RAW).to_str()
    assert await api.result("unpackAddress", address=packed) == f"0:{RAW[2:].upper()}"
    assert (await api.result("detectAddress", address=packed))["given_type"] == "friendly_bounceable"
    assert (await api.result("detectHash", hash=RAW[2:].upper()))["hex"] == RAW[2:]
