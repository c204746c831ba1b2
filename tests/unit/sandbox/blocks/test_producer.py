"""Sealed blocks are what independent parsers and a validator's arithmetic expect, whatever happened."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytoniq_core import Address, begin_cell
from pytoniq_core.tlb.block import Block as ParsedBlock
from pytoniq_core.tlb.block import ShardStateUnsplit
from pytoniq_core.tlb.config import ConfigParam34

from cocoon_sdk.sandbox import Blockchain, Outgoing, contract_address
from cocoon_sdk.sandbox.blocks import Block, BlockProducer, SealError
from cocoon_sdk.sandbox.blocks.cells import read_cell
from cocoon_sdk.sandbox.blocks.master import supply
from cocoon_sdk.sandbox.errors import UnbalancedError
from cocoon_sdk.types import Nano
from tests.unit.sandbox.blocks.histories import (
    MASTER_RELAY,
    RELAY_HOME,
    Life,
    check_life,
    more_steps,
    parsed,
)
from tests.unit.sandbox.contracts import ANSWERS, EMITS, contract
from tests.unit.sandbox.test_ledger import NOBODY

TON = 10**9


def descriptors(block: Block, direction: str) -> list[str]:
    """Return the kinds of a block's "import" or "export" descriptors, as the engine's parser reads them."""
    return sorted(re.findall(rf"value:\((msg_{direction}_\w+)", block.root.dump_as_tlb("Block")))


@settings(max_examples=40, deadline=None)
@given(script=st.lists(more_steps, max_size=14))
def test_producer_can_seal_consistent_blocks_when_anything_happens(script: list[tuple[object, ...]]) -> None:
    life = Life()
    for step in script:
        life.act(step)
    check_life(life)


def test_producer_can_make_zero_states_and_a_key_block_when_it_begins() -> None:
    producer = BlockProducer(Blockchain())
    block = producer.archive.head
    assert block is producer.archive.init_block
    assert block.is_key
    assert block.seqno == 1
    found = ParsedBlock.deserialize(parsed(block.root).begin_parse())
    assert found.info.key_block == 1
    assert found.info.prev_ref.prev.root_hash == producer.archive.zero_state_masterchain.root_hash
    params = found.extra.custom.config.config
    validators = ConfigParam34.deserialize(params[34]).cur_validators
    assert [each.public_key.pubkey for each in validators.list.values()] == [producer.validator.public_key]


def test_producer_can_carry_accounts_into_the_zero_state_when_they_were_there_before() -> None:
    chain = Blockchain()
    alice = chain.actor("alice")
    producer = BlockProducer(chain)
    shard = producer.archive.head.shard_block
    native = shard.shard_account(int.from_bytes(alice.address.hash_part, "big"))
    assert native is not None
    assert native.get_hash() == chain.shard_account(alice.address).native.get_hash()
    state = ShardStateUnsplit.deserialize(parsed(producer.zero_states[1]).begin_parse())
    assert state.total_balance.grams == alice.balance


def test_producer_can_carry_waiting_messages_into_the_zero_state_when_the_queue_is_held() -> None:
    chain = Blockchain()
    alice = chain.actor("alice")
    chain.hold()
    chain.send_external(alice.request([Outgoing(NOBODY, Nano(TON))]))
    producer = BlockProducer(chain)
    block = producer.seal([chain.step()])
    assert descriptors(block.shard_block, "import") == ["msg_import_fin"]
    assert descriptors(block.shard_block, "export")[:1] == ["msg_export_deq_imm"]


def test_messages_can_be_imported_at_once_when_their_block_created_them() -> None:
    life = Life()
    alice, answering = life.blockchain.actor("alice"), contract(ANSWERS)
    life.blockchain.deploy(answering, TON)
    life.blockchain.send_external(alice.request([Outgoing(contract_address(answering), Nano(TON))]))
    shard = life.producer.archive.head.shard_block
    assert descriptors(shard, "import") == ["msg_import_ext", "msg_import_imm", "msg_import_imm"]
    assert descriptors(shard, "export") == ["msg_export_imm", "msg_export_imm"]
    check_life(life)


def test_messages_can_wait_in_the_queue_when_the_chain_is_held() -> None:
    life = Life()
    alice = life.blockchain.actor("alice")
    life.blockchain.hold()
    life.blockchain.send_external(alice.request([Outgoing(NOBODY, Nano(TON), bounce=False)]))
    shard = life.producer.archive.head.shard_block
    assert descriptors(shard, "export") == ["msg_export_new"]
    life.blockchain.release()
    shard = life.producer.archive.head.shard_block
    assert descriptors(shard, "import") == ["msg_import_fin"]
    assert descriptors(shard, "export") == ["msg_export_deq_imm"]
    check_life(life)


def test_messages_can_cross_to_the_masterchain_and_back() -> None:
    life = Life()
    alice = life.blockchain.actor("alice")
    life.blockchain.deploy(RELAY_HOME, TON, workchain=-1)
    life.blockchain.send_external(alice.request([Outgoing(MASTER_RELAY, Nano(TON))]))
    block = life.producer.archive.head
    assert [each.address for each in block.transactions] == [MASTER_RELAY]
    assert descriptors(block.shard_block, "export") == ["msg_export_new"]
    assert descriptors(block, "import") == ["msg_import_fin"]
    assert "msg_export_new" in descriptors(block, "export")
    assert "msg_import_fin" in descriptors(block.shard_block, "import")
    life.blockchain.warp(1)
    block = life.producer.archive.head
    assert descriptors(block.shard_block, "export") == ["msg_export_deq_short"]
    assert descriptors(block, "export") == ["msg_export_deq_short"]
    check_life(life)


def test_messages_can_leave_the_network_as_export_ext() -> None:
    life = Life()
    emitting = contract(EMITS)
    address = life.blockchain.deploy(emitting, TON)
    life.blockchain.send_internal(address, TON)
    assert descriptors(life.producer.archive.head.shard_block, "export") == ["msg_export_ext"]


def test_minted_money_can_be_seen_in_the_value_flow() -> None:
    life = Life()
    life.blockchain.faucet(NOBODY, 5 * TON)
    shard = life.producer.archive.head.shard_block
    flow = ParsedBlock.deserialize(parsed(shard.root).begin_parse()).value_flow
    assert flow.minted.grams == 5 * TON
    assert descriptors(shard, "import") == ["msg_import_imm"]
    assert descriptors(shard, "export") == []


def test_libraries_can_be_found_in_the_masterchain_state_when_they_are_public() -> None:
    life = Life()
    library = begin_cell().store_uint(7, 64).end_cell()
    life.blockchain.set_libraries([library])
    block = life.seal()
    state = ShardStateUnsplit.deserialize(parsed(block.state).begin_parse())
    assert state.libraries is not None
    misc = read_cell(block.state)[1][2]
    assert library.hash in [ref.hash for ref in parsed(misc).refs[0].refs]
    check_life(life)


def test_producer_cannot_seal_when_transactions_were_left_out() -> None:
    chain = Blockchain()
    producer = BlockProducer(chain)
    chain.faucet(NOBODY, TON)
    chain.faucet(NOBODY, TON)
    head = producer.archive.head
    with pytest.raises(SealError, match="last transaction"):
        producer.seal(chain.transactions()[1:])
    assert producer.archive.head is head


def test_producer_cannot_seal_when_transactions_were_sealed_before() -> None:
    chain = Blockchain()
    producer = BlockProducer(chain)
    done = chain.faucet(NOBODY, TON)
    producer.seal(done)
    with pytest.raises(SealError, match="ended at"):
        producer.seal(done)


def test_producer_cannot_seal_when_an_earlier_batch_is_missing() -> None:
    chain = Blockchain()
    producer = BlockProducer(chain)
    chain.faucet(NOBODY, TON)
    alice = chain.actor("alice")
    chain.send_external(alice.request([Outgoing(NOBODY, Nano(TON), bounce=False)]))
    with pytest.raises(UnbalancedError, match="value flow"):
        producer.seal(chain.transactions(limit=2)[::-1])


def test_block_can_show_accounts_as_they_were_when_later_blocks_changed_them() -> None:
    life = Life()
    to = Address((0, b"\x21" * 32))
    life.blockchain.faucet(to, TON)
    first = life.producer.archive.head.shard_block
    before = life.blockchain.shard_account(to).native.get_hash()
    life.blockchain.faucet(to, TON)
    key = int.from_bytes(to.hash_part, "big")
    native = first.shard_account(key)
    assert native is not None
    assert native.get_hash() == before
    assert first.shard_account(key ^ 1) is None
    assert life.producer.archive.head.shard_account(key) is None


@pytest.mark.parametrize("minted", [0, 10**18, 5 * 10**18, 10**30])
def test_supply_cannot_leave_what_popular_parsers_can_read(minted: int) -> None:
    assert 1 << 56 <= supply(minted) < 1 << 62
    assert supply(minted) >= min(minted, (1 << 62) - 1)


def test_block_cannot_grow_with_the_number_of_accounts_when_few_changed() -> None:
    sizes = []
    for count in (10, 640):
        life = Life()
        life.act(("together", True))
        for index in range(count):
            life.blockchain.faucet(Address((0, index.to_bytes(2, "big") * 16)), TON)
        life.act(("together", False))
        life.blockchain.faucet(Address((0, bytes(32))), TON)
        sizes.append(len(life.producer.archive.head.shard_block.boc))
    assert sizes[1] < sizes[0] + 6 * 220  # six forks more, in the old state and in the new one


def test_same_life_can_only_lead_to_the_same_blocks() -> None:
    heads = []
    for _ in range(2):
        life = Life()
        life.blockchain.actor("alice")
        life.blockchain.faucet(NOBODY, TON)
        heads.append(life.producer.archive.head.id)
    assert heads[0] == heads[1]
