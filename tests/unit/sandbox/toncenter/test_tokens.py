"""getTokenData on real jettons and NFTs that others wrote."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from pytoniq_core import Address, Cell, HashMap, begin_cell
from ton_core.contrib.contracts.codes import CONTRACT_CODES
from ton_core.contrib.contracts.versions import ContractVersion

from cocoon_sdk.sandbox.messages import contract_address, state_init
from cocoon_sdk.types import Nano
from tests.unit.sandbox.contracts import EMPTY, contract, getter
from tests.unit.sandbox.toncenter.conftest import NOBODY, Api

LINK = "https://example.com/token.json"
INDEX = 7


def code(version: ContractVersion) -> Cell:
    return Cell.one_from_boc(CONTRACT_CODES[version])


def off_chain(text: str, tag: int | None = 1) -> Cell:
    head = b"" if tag is None else bytes([tag])
    return begin_cell().store_snake_bytes(head + text.encode()).end_cell()


def on_chain(**attributes: str) -> Cell:
    table: HashMap = HashMap(256, value_serializer=lambda cell, builder: builder.store_ref(cell))
    for name, text in attributes.items():
        table.set_int_key(int.from_bytes(hashlib.sha256(name.encode()).digest(), "big"), off_chain(text, 0))
    return begin_cell().store_uint(0, 8).store_dict(table.serialize()).end_cell()


async def deploy(api: Api, init: Cell) -> Address:
    return await api.node.apply(lambda chain: chain.deploy(init, Nano.ton(1)))


async def token(api: Api, address: Address) -> Any:
    return await api.result("getTokenData", address=address.to_str())


def as_cell(text: str) -> Cell:
    return Cell.one_from_boc(base64.b64decode(text))


def jetton_master(content: Cell, admin: Address | None) -> Cell:
    wallet = code(ContractVersion.JettonWalletStandard)
    data = begin_cell().store_coins(1000).store_address(admin).store_ref(content).store_ref(wallet)
    return state_init(code(ContractVersion.JettonMasterStandard), data.end_cell())


def jetton_wallet(owner: Address, master: Address, balance: int = 0) -> Cell:
    wallet = code(ContractVersion.JettonWalletStandard)
    data = begin_cell().store_coins(balance).store_address(owner).store_address(master).store_ref(wallet)
    return state_init(wallet, data.end_cell())


async def test_reader_can_recognise_a_jetton_by_its_master(api: Api) -> None:
    master = await deploy(api, jetton_master(on_chain(name="Gold", symbol="AU", decimals="9"), NOBODY))
    found = await token(api, master)
    assert as_cell(found.pop("jetton_wallet_code")) == code(ContractVersion.JettonWalletStandard)
    assert found == {
        "@type": "ext.tokens.jettonMasterData",
        "address": master.to_str(),
        "contract_type": "jetton_master",
        "total_supply": "1000",
        "mintable": True,
        "admin_address": NOBODY.to_str(),
        "jetton_content": {"type": "onchain", "data": {"name": "Gold", "symbol": "AU", "decimals": "9"}},
    }
    ownerless = await token(api, await deploy(api, jetton_master(off_chain(LINK), None)))
    assert ownerless["jetton_content"] == {"type": "offchain", "data": LINK}
    assert "admin_address" not in ownerless


async def test_reader_can_recognise_a_jetton_wallet_that_its_master_knows(api: Api) -> None:
    master = await deploy(api, jetton_master(off_chain(LINK), NOBODY))
    wallet = await deploy(api, jetton_wallet(NOBODY, master))
    found = await token(api, wallet)
    assert (found["@type"], found["contract_type"]) == ("ext.tokens.jettonWalletData", "jetton_wallet")
    assert (found["owner"], found["jetton"], found["balance"]) == (NOBODY.to_str(), master.to_str(), "0")


async def test_impostor_cannot_pass_for_a_jetton_wallet(api: Api) -> None:
    master = await deploy(api, jetton_master(off_chain(LINK), NOBODY))
    # Born with a balance: the address is not the one its master would give.
    for init in (jetton_wallet(NOBODY, master, 10**12), jetton_wallet(NOBODY, NOBODY)):
        status, words = await api.refusal("getTokenData", address=contract_address(init).to_str())
        assert (status, "is not Jetton or NFT" in words) == (409, True)
        address = await deploy(api, init)
        assert (await api.refusal("getTokenData", address=address.to_str()))[0] == 409


async def test_reader_can_recognise_a_collection_and_its_item(api: Api) -> None:
    item_code = code(ContractVersion.NFTItemStandard)
    content = begin_cell().store_ref(off_chain(LINK)).store_ref(off_chain("https://example.com/", None))
    royalty = begin_cell().store_uint(1, 16).store_uint(100, 16).store_address(NOBODY).end_cell()
    data = (
        begin_cell()
        .store_address(NOBODY)
        .store_uint(INDEX + 1, 64)
        .store_ref(content.end_cell())
        .store_ref(item_code)
        .store_ref(royalty)
        .end_cell()
    )
    collection = await deploy(api, state_init(code(ContractVersion.NFTCollectionStandard), data))
    assert await token(api, collection) == {
        "@type": "ext.tokens.nftCollectionData",
        "address": collection.to_str(),
        "contract_type": "nft_collection",
        "next_item_index": str(INDEX + 1),
        "owner_address": NOBODY.to_str(),
        "collection_content": {"type": "offchain", "data": LINK},
    }
    item_init = state_init(item_code, begin_cell().store_uint(INDEX, 64).store_address(collection).end_cell())
    owner_and_content = begin_cell().store_address(NOBODY).store_ref(off_chain("7.json", None)).end_cell()
    item = contract_address(item_init)
    await api.node.apply(
        lambda chain: chain.send_internal(
            item, Nano.ton(1), owner_and_content, src=collection, state_init=item_init
        )
    )
    assert await token(api, item) == {
        "@type": "ext.tokens.nftItemData",
        "address": item.to_str(),
        "contract_type": "nft_item",
        "init": True,
        "index": str(INDEX),
        "collection_address": collection.to_str(),
        "owner_address": NOBODY.to_str(),
        "content": {"type": "offchain", "data": "https://example.com/7.json"},
    }


async def test_reader_cannot_take_what_answers_nonsense_for_a_token(api: Api) -> None:
    for answer in ("", "0 INT", "1 INT 2 INT 3 INT 4 INT 5 INT", "NEWC ENDC DUP DUP DUP DUP", "33 THROW"):
        address = await deploy(api, contract(getter(answer), EMPTY))
        assert (await api.refusal("getTokenData", address=address.to_str()))[0] == 409
