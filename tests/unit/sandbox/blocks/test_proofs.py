"""Proofs convince the checks of an independent library, and nothing else does."""

from __future__ import annotations

import dataclasses

import pytest
from pytoniq_core import Address, Cell, Slice
from pytoniq_core.boc.hashmap.parse import deserialize_hml
from pytoniq_core.proof.check_proof import (
    ProofError,
    check_account_proof,
    check_block_header_proof,
    check_block_signatures,
    check_proof,
    check_shard_proof,
    compute_validator_set,
)
from pytoniq_core.tl.block import BlockIdExt
from pytoniq_core.tlb.block import Block as ParsedBlock
from pytoniq_core.tlb.block import ShardDescr, ShardStateUnsplit
from pytoniq_core.tlb.config import ConfigParam28, ConfigParam34

from cocoon_sdk.sandbox import Outgoing
from cocoon_sdk.sandbox.blocks import (
    Block,
    MasterBlock,
    account_proof,
    config_proof,
    forward_link,
    header_proof,
    shard_descr,
    shard_proof,
    shards_data,
    shards_proof,
    transactions_proof,
)
from cocoon_sdk.sandbox.blocks.cells import to_boc_of
from cocoon_sdk.sandbox.cells import address_key, from_native
from cocoon_sdk.sandbox.transactions import Transaction
from cocoon_sdk.types import Nano
from tests.unit.sandbox.blocks.histories import Life

TON = 10**9
NOBODY = Address((0, b"\x77" * 32))


@pytest.fixture(scope="module")
def life() -> Life:
    """A chain with a busy block (four accounts, six transactions) and a few around it."""
    life = Life()
    chain = life.blockchain
    alice, bob, carol = (chain.actor(name) for name in ("alice", "bob", "carol"))
    chain.deploy(alice.state_init, TON, workchain=-1)
    life.act(("together", True))
    for sender in (alice, bob, carol, alice):
        chain.send_external(sender.request([Outgoing(NOBODY, Nano(TON), bounce=False)]))
    life.act(("together", False))
    chain.warp(5)
    return life


@pytest.fixture(scope="module")
def busy(life: Life) -> MasterBlock:
    """The block with many transactions."""
    return max(life.producer.archive.masters(), key=lambda each: len(each.shard_block.transactions))


def ext(block: Block) -> BlockIdExt:
    found = block.id
    return BlockIdExt(found.workchain, found.shard, found.seqno, found.root_hash.hex(), found.file_hash.hex())


def virtual(boc: bytes, block: Block) -> Cell:
    """Check a proof of a block and return what it shows of it."""
    proof = Cell.one_from_boc(boc)
    check_proof(proof, block.id.root_hash)
    return proof[0]


# -- headers ----------------------------------------------------------------------------------------------


def test_header_can_be_proven(busy: MasterBlock) -> None:
    for block in (busy, busy.shard_block):
        root = virtual(header_proof(block), block)
        state_hash = check_block_header_proof(root, block.id.root_hash, True)
        assert state_hash.hex().upper() == block.state.get_hash()
        info = ParsedBlock.deserialize(root.begin_parse()).info
        assert (info.seqno, info.start_lt, info.end_lt) == (block.seqno, block.start_lt, block.end_lt)
        assert info.gen_utime == block.gen_utime


def test_header_cannot_be_proven_when_it_is_another_blocks(life: Life, busy: MasterBlock) -> None:
    with pytest.raises(ProofError):
        virtual(header_proof(life.producer.archive.head), busy)


# -- accounts and shards ----------------------------------------------------------------------------------


def test_account_can_be_proven_at_any_block(life: Life) -> None:
    address = life.blockchain.actor("alice").address
    for master in life.producer.archive.masters()[1:]:
        proof, account = account_proof(master.shard_block, address_key(address))
        assert account is not None
        check_account_proof(proof, ext(master.shard_block), address, from_native(account))


def test_account_of_the_masterchain_can_be_proven(life: Life) -> None:
    alice = life.blockchain.actor("alice")
    address = Address((-1, alice.address.hash_part))
    proof, account = account_proof(life.producer.archive.head, address_key(address))
    assert account is not None
    check_account_proof(proof, ext(life.producer.archive.head), address, from_native(account))


def test_account_can_be_proven_absent(busy: MasterBlock) -> None:
    absent = Address((0, b"\x13" * 32))
    proof, account = account_proof(busy.shard_block, address_key(absent))
    assert account is None
    header, state = Cell.from_boc(proof)
    state_hash = check_block_header_proof(header[0], busy.shard_block.id.root_hash, True)
    check_proof(state, state_hash)
    shard = ShardStateUnsplit.deserialize(state[0].begin_parse())
    assert int.from_bytes(absent.hash_part, "big") not in shard.accounts[0]


def test_account_cannot_be_proven_when_anything_is_forged(life: Life, busy: MasterBlock) -> None:
    alice, bob = (life.blockchain.actor(name).address for name in ("alice", "bob"))
    shard, head = busy.shard_block, life.producer.archive.by_seqno(0, 2)
    proof, account = account_proof(shard, address_key(alice))
    _, other = account_proof(shard, address_key(bob))
    assert account is not None
    assert other is not None
    with pytest.raises(ProofError):
        check_account_proof(proof, ext(shard), alice, from_native(other))
    with pytest.raises(ProofError):
        check_account_proof(proof, ext(head), alice, from_native(account))
    stale, _ = account_proof(head, address_key(alice))
    mixed = to_boc_of_cells(Cell.from_boc(proof)[0], Cell.from_boc(stale)[1])
    with pytest.raises(ProofError):
        check_account_proof(mixed, ext(shard), alice, from_native(account))


def to_boc_of_cells(*cells: Cell) -> bytes:
    from cocoon_sdk.sandbox.cells import to_native

    return to_boc_of([to_native(cell) for cell in cells])


def test_shard_can_be_proven(life: Life) -> None:
    for master in life.producer.archive.masters():
        check_shard_proof(shard_proof(master), ext(master), ext(master.shard_block))


def test_shard_cannot_be_proven_when_another_block_was_committed(life: Life, busy: MasterBlock) -> None:
    head = life.producer.archive.head
    with pytest.raises(ProofError):
        check_shard_proof(shard_proof(busy), ext(busy), ext(head.shard_block))
    with pytest.raises(ProofError):
        check_shard_proof(shard_proof(head), ext(busy), ext(busy.shard_block))


def test_shards_can_be_proven_from_the_block_itself(busy: MasterBlock) -> None:
    root = virtual(shards_proof(busy), busy)
    shards = ParsedBlock.deserialize(root.begin_parse()).extra.custom.shard_hashes
    assert shards[0].list[0].root_hash == busy.shard_block.id.root_hash
    data = Cell.one_from_boc(shards_data(busy))
    assert data.begin_parse().load_dict(32)[0].load_ref().hash == Cell.one_from_boc(shard_descr(busy)).hash
    assert root[3][3].refs[0].hash == data.refs[0].hash
    leaf = Cell.one_from_boc(shard_descr(busy)).begin_parse()
    assert leaf.load_bit() == 0
    assert ShardDescr.deserialize(leaf).file_hash == busy.shard_block.id.file_hash


# -- transactions -----------------------------------------------------------------------------------------


def test_transactions_can_be_proven(busy: MasterBlock) -> None:
    block = busy.shard_block
    assert len(block.transactions) == 8
    assert len({each.key for each in block.transactions}) == 4
    for each in block.transactions:
        root = virtual(transactions_proof(block, [(each.key, each.lt)]), block)
        assert shows(root, each)
    everything = virtual(
        transactions_proof(block, [(each.key, each.lt) for each in block.transactions]), block
    )
    assert all(shows(everything, each) for each in block.transactions)


def shows(root: Cell, transaction: Transaction) -> bool:
    """Follow both dictionaries of a pruned block by hand, as the C++ client does."""
    accounts = root[3].refs[2].refs[0]
    way = walk(accounts, f"{transaction.key & (1 << 256) - 1:0256b}")
    if way is None:
        return False
    edge, rest = way
    rest.load_coins()
    rest.skip_bits(1 + 4 + 256)
    found = walk(rest.to_cell(), f"{transaction.lt:064b}")
    return edge is not None and found is not None and found[1].refs[0].get_hash(0) == transaction.hash


def walk(edge: Cell, key: str) -> tuple[Cell, Slice] | None:
    while True:
        if edge.type_ == 1:
            return None
        source = edge.begin_parse()
        size, label = deserialize_hml(source, len(key))
        if label.to01() != key[:size]:
            return None
        key = key[size:]
        if not key:
            return edge, source
        edge, key = edge.refs[int(key[0])], key[1:]


def test_transactions_can_be_proven_absent(busy: MasterBlock) -> None:
    block = busy.shard_block
    one = block.transactions[0]
    for place in ((one.key, one.lt + 500_000), (one.key ^ 1, one.lt)):
        virtual(transactions_proof(block, [place]), block)


def test_transactions_cannot_be_proven_when_the_block_is_another(life: Life, busy: MasterBlock) -> None:
    one = busy.shard_block.transactions[0]
    proof = transactions_proof(busy.shard_block, [(one.key, one.lt)])
    with pytest.raises(ProofError):
        virtual(proof, life.producer.archive.by_seqno(0, 2))


# -- configuration and chains of proofs -------------------------------------------------------------------


@pytest.mark.parametrize("params", [None, [34], [0, 8, 20, 34]])
def test_configuration_can_be_proven(life: Life, params: list[int] | None) -> None:
    head = life.producer.archive.head
    state_hash = check_block_header_proof(virtual(header_proof(head), head), head.id.root_hash, True)
    proof = Cell.one_from_boc(config_proof(head, params))
    check_proof(proof, state_hash)
    config = ShardStateUnsplit.deserialize(proof[0].begin_parse()).custom.config.config
    for index in params or (0, 8, 12, 17, 20, 34):
        assert config[index].to_cell().hash == life.producer.config.param(index).hash


def test_configuration_can_be_proven_unset(life: Life) -> None:
    head = life.producer.archive.head
    assert life.producer.config.param(77777) is None
    proof = Cell.one_from_boc(config_proof(head, [77777]))
    assert 77777 not in ShardStateUnsplit.deserialize(proof[0].begin_parse()).custom.config.config


def test_configuration_names_the_zero_state_of_the_basechain(life: Life) -> None:
    config = life.producer.config.param(12)
    zero = life.producer.archive.zero_state_basechain
    assert config is not None
    hashes = f"{int.from_bytes(zero.root_hash + zero.file_hash, 'big'):0512b}"
    assert hashes in config.refs[0].bits.to01()


def test_forward_link_can_be_checked_with_the_key_blocks_validators(life: Life) -> None:
    archive = life.producer.archive
    link = forward_link(archive.init_block, archive.head)
    check_block_header_proof(Cell.one_from_boc(link.dest_proof)[0], archive.head.id.root_hash)
    key_block = ParsedBlock.deserialize(virtual(link.config_proof, archive.init_block).begin_parse())
    config = key_block.extra.custom.config.config
    validators = ConfigParam34.deserialize(config[34]).cur_validators
    nodes = compute_validator_set(ConfigParam28.deserialize(config[28]), ext(archive.head), validators)
    signature = {"node_id_short": link.node_id.hex(), "signature": link.signature}
    check_block_signatures(nodes, [signature], ext(archive.head))
    info = ParsedBlock.deserialize(Cell.one_from_boc(link.dest_proof)[0].begin_parse()).info
    assert info.gen_validator_list_hash_short == link.validator_set_hash
    assert info.gen_catchain_seqno == link.catchain_seqno
    with pytest.raises(ProofError):
        check_block_signatures(nodes, [signature], ext(archive.by_seqno(-1, 2)))


def test_forward_link_cannot_be_signed_by_others(life: Life) -> None:
    archive = life.producer.archive
    forged = dataclasses.replace(archive.head, id=dataclasses.replace(archive.head.id, file_hash=bytes(32)))
    link = forward_link(archive.init_block, forged)
    config = ParsedBlock.deserialize(virtual(link.config_proof, archive.init_block).begin_parse())
    validators = ConfigParam34.deserialize(config.extra.custom.config.config[34]).cur_validators
    with pytest.raises(ProofError):
        check_block_signatures(
            list(validators.list.values()),
            [{"node_id_short": link.node_id.hex(), "signature": link.signature}],
            ext(archive.head),
        )
