"""Merkle proofs of blocks and states: what a liteserver says, checked against a block's hash.

Owns the way from a block's identity to its header, shards, accounts, transactions' anchor and configuration.
Pure: no sockets, no trust in a block itself (`block_links`, `liteserver_trust`). Why not pytoniq's checks: at
its trust levels an absent account needs no proof, a shard need not hold the account, and a key block's
configuration is taken as it comes. Everything raises `ProofError` when it does not add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.base import AccountState, AccountStatus
from cocoon_sdk.chain.boc import decode_boc, decode_boc_roots
from cocoon_sdk.errors import ChainError, MalformedError
from cocoon_sdk.protocol.abi_cells import Reader
from cocoon_sdk.types import Nano

MASTERCHAIN: Final = -1
WHOLE_SHARD: Final = -(1 << 63)

_MERKLE_PROOF, _MERKLE_UPDATE, _PRUNED = 3, 4, 1
_BLOCK, _BLOCK_INFO = 0x11EF55AA, 0x9BC7A987
_STATE, _MC_STATE_EXTRA = 0x9023AFE2, 0xCC26
_MAX_SPLIT: Final = 60

T = TypeVar("T")


class ProofError(ChainError):
    """What a server sent does not prove what it claims: the server is broken, or it lies."""


@dataclass(frozen=True, slots=True)
class BlockId:
    """Identity of a block: `shard` is signed, -2^63 is the whole workchain; hashes are 32 bytes."""

    workchain: int
    shard: int
    seqno: int
    root_hash: bytes
    file_hash: bytes

    @classmethod
    def from_tl(cls, answer: object) -> Self:
        """Read a `tonNode.blockIdExt`. Raises `ProofError`."""
        if not isinstance(answer, Mapping):
            raise ProofError("not a block's identity")
        try:
            numbers = [answer[name] for name in ("workchain", "shard", "seqno")]
            hashes = [bytes.fromhex(answer[name]) for name in ("root_hash", "file_hash")]
        except (KeyError, TypeError, ValueError) as error:
            raise ProofError("not a block's identity", why=type(error).__name__) from None
        if not all(isinstance(number, int) for number in numbers) or any(len(each) != 32 for each in hashes):
            raise ProofError("not a block's identity")
        return cls(*numbers, *hashes)

    def to_tl(self) -> dict[str, Any]:
        """Return the fields of a `tonNode.blockIdExt`."""
        return {
            "workchain": self.workchain,
            "shard": self.shard,
            "seqno": self.seqno,
            "root_hash": self.root_hash.hex(),
            "file_hash": self.file_hash.hex(),
        }

    def __str__(self) -> str:
        return f"({self.workchain},{self.shard & (1 << 64) - 1:x},{self.seqno})"


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """The header of a block; `state_hash` is None when the proof leaves the state out."""

    id: BlockId
    gen_utime: int
    is_key: bool
    state_hash: bytes | None


@dataclass(frozen=True, slots=True)
class ProvenAccount:
    """An account's place in a proven state; `root` is None when it does not exist."""

    root: Cell | None
    last_lt: int
    last_hash: bytes


def checked(what: str, read: Callable[[], T]) -> T:
    """Run a reading of foreign cells; everything wrong with them becomes a `ProofError` about `what`."""
    try:
        return read()
    except MalformedError as error:
        raise ProofError(what, why=str(error)) from error


def open_proof(cell: Cell, expected: bytes | None = None) -> Cell:
    """Return what a Merkle proof holds, checked against its own hash and `expected`."""
    if cell.type_ != _MERKLE_PROOF:
        raise ProofError("a Merkle proof was expected")
    inner: Cell = cell.refs[0]
    claimed = bytes(cell.get_data_bytes()[1:33])
    if inner.get_hash(0) != claimed or (expected is not None and claimed != expected):
        raise ProofError("a Merkle proof is about something else", why="the hashes differ")
    return inner


# -- blocks -------------------------------------------------------------------------------------------------


def header(root: Cell, block: BlockId) -> BlockHeader:
    """Read the header of a block (or of its proof), which must be the block named."""
    return checked(f"header of block {block}", lambda: _header(root, block))


def header_proof(data: object, block: BlockId) -> BlockHeader:
    """Read a header out of a bag with one Merkle proof."""
    return checked(f"header of block {block}", lambda: _header(open_proof(decode_boc(_bytes(data))), block))


def _header(root: Cell, block: BlockId) -> BlockHeader:
    if root.get_hash(0) != block.root_hash:
        raise ProofError(f"header of block {block}", why="it belongs to another block")
    reader = Reader.of_cell(root)
    _tag(reader, 32, _BLOCK, "block")
    reader.int(32)  # global id: the configuration's parameter 19 is the one that is read
    info, _, update = Reader.of_cell(reader.ref()), reader.ref(), reader.ref()
    _tag(info, 32, _BLOCK_INFO, "block info")
    info.uint(32 + 6)  # version; not_master, after_merge, before_split, after_split, want_split, want_merge
    is_key = bool(info.uint(1))
    info.uint(1 + 8)  # vert_seqno_incr, flags
    seqno = info.uint(32)
    info.uint(32)
    workchain, shard = _shard_ident(info)
    if (workchain, shard, seqno) != (block.workchain, block.shard, block.seqno):
        raise ProofError(f"header of block {block}", why=f"it is the header of ({workchain},{shard},{seqno})")
    gen_utime = info.uint(32)
    state_hash = None
    if update.type_ == _MERKLE_UPDATE:
        # Old hash, new hash, depths. The update's data are part of the block's hash, so they need no proof.
        state_hash = bytes(update.get_data_bytes()[33:65])
    return BlockHeader(block, gen_utime, is_key, state_hash)


def _shard_ident(reader: Reader) -> tuple[int, int]:
    reader.uint(2)
    depth = reader.uint(6)
    workchain, prefix = reader.int(32), reader.uint(64)
    if depth > _MAX_SPLIT:
        raise MalformedError("a shard's prefix is too long")
    return workchain, _signed(prefix | 1 << (63 - depth))


def _state(roots: list[Cell], block: BlockId) -> Reader:
    """Check a pair of proofs, block to header and state, and return a reader at the state's references.

    What comes out reads: out_msg_queue_info, accounts, the rest, custom; the bits up to them are consumed.
    """
    if len(roots) != 2:
        raise ProofError(f"state of block {block}", why=f"{len(roots)} proofs came, not two")
    found = _header(open_proof(roots[0]), block)
    if found.state_hash is None:
        raise ProofError(f"state of block {block}", why="the proof leaves its hash out")
    return _open_state(open_proof(roots[1], found.state_hash), block)


def _open_state(root: Cell, block: BlockId) -> Reader:
    reader = Reader.of_cell(root)
    _tag(reader, 32, _STATE, "shard state")
    reader.int(32)
    workchain, shard = _shard_ident(reader)
    seqno = reader.uint(32)
    if (workchain, shard, seqno) != (block.workchain, block.shard, block.seqno):
        raise ProofError(f"state of block {block}", why="it is the state after another block")
    reader.uint(32 + 32 + 64 + 32)  # vert_seq_no, gen_utime, gen_lt, min_ref_mc_seqno
    return reader


def _mc_extra(state: Reader) -> tuple[Cell | None, Cell]:
    """Return the shard hashes and the configuration's dictionary of a masterchain state."""
    state.ref()  # out_msg_queue_info
    state.uint(1)  # before_split
    state.ref()  # accounts
    state.ref()  # the rest
    if not state.uint(1):
        raise MalformedError("a masterchain state has no extra")
    extra = Reader.of_cell(state.ref())
    _tag(extra, 16, _MC_STATE_EXTRA, "masterchain state's extra")
    shards = extra.ref() if extra.uint(1) else None
    extra.uint(256)  # address of the configuration contract
    return shards, extra.ref()


# -- accounts -----------------------------------------------------------------------------------------------


def shard_of(data: object, block: BlockId, address: Address) -> BlockId:
    """Return the block of an account's shard that a masterchain block names; `data` proves it."""
    what = f"shard of {address.to_str()} at block {block}"
    return checked(what, lambda: _shard_of(decode_boc_roots(_bytes(data), max_roots=2), block, address))


def _shard_of(roots: list[Cell], block: BlockId, address: Address) -> BlockId:
    shards, _ = _mc_extra(_state(roots, block))
    leaf = None if shards is None else lookup(shards, address.wc & 0xFFFF_FFFF, 32)
    if leaf is None:
        raise MalformedError(f"the masterchain knows no workchain {address.wc}")
    tree, key, depth = Reader.of_cell(leaf.ref()), account_key(address), 0
    while tree.uint(1):
        branches = (tree.ref(), tree.ref())
        tree = Reader.of_cell(branches[key >> (255 - depth) & 1])
        depth += 1
        if depth > _MAX_SPLIT:
            raise MalformedError("a tree of shards is too deep")
    if tree.uint(4) not in (0xA, 0xB):
        raise MalformedError("not a shard's description")
    seqno = tree.uint(32)
    tree.uint(32 + 64 + 64)  # reg_mc_seqno, start_lt, end_lt
    root_hash, file_hash = _hash(tree), _hash(tree)
    prefix = key >> (256 - depth) << (64 - depth)
    return BlockId(address.wc, _signed(prefix | 1 << (63 - depth)), seqno, root_hash, file_hash)


def account(
    block: BlockId, address: Address, shard_block: BlockId, shard_proof: object, proof: object, state: object
) -> ProvenAccount:
    """Check the parts of a liteserver's `accountState` about the masterchain block `block`.

    That an account does not exist is proven like everything else.
    """
    what = f"account {address.to_str()} at block {block}"
    expected = block if address.wc == MASTERCHAIN else shard_of(shard_proof, block, address)
    if shard_block != expected:
        raise ProofError(what, why="the state is of another shard or block")
    return checked(what, lambda: _account(expected, address, proof, state))


def _account(block: BlockId, address: Address, proof: object, state: object) -> ProvenAccount:
    reader = _state(decode_boc_roots(_bytes(proof), max_roots=2), block)
    reader.ref()
    reader.uint(1)
    accounts = Reader.of_cell(reader.ref())
    leaf = lookup(accounts.ref(), account_key(address), 256) if accounts.uint(1) else None
    content = _bytes(state)
    if leaf is None:
        if content:
            raise MalformedError("a state came along for an account that does not exist")
        return ProvenAccount(None, 0, bytes(32))
    leaf.uint(5)  # split depth
    skip_currencies(leaf)
    place = leaf.ref()
    last_hash = _hash(leaf)
    root = decode_boc(content)
    if root.get_hash(0) != place.get_hash(0):
        raise MalformedError("the state that came along is not the one in the proof")
    return ProvenAccount(root, leaf.uint(64), last_hash)


def read_account(address: Address, found: ProvenAccount) -> AccountState:
    """Read the cell of an account. Raises `ProofError` when it has no such form."""
    if found.root is None:
        return AccountState(address, AccountStatus.NONEXIST, Nano(0), None, None, 0, bytes(32))
    root = found.root
    return checked(f"account {address.to_str()}", lambda: _read_account(address, root, found))


def _read_account(address: Address, root: Cell, found: ProvenAccount) -> AccountState:
    reader = Reader.of_cell(root)
    if reader.uint(1) != 1 or reader.uint(3) != 0b100:  # account$1, then addr_std$10 without anycast
        raise MalformedError("not an account")
    if (reader.int(8), reader.uint(256)) != (address.wc, account_key(address)):
        raise MalformedError("the state of another account")
    for _ in range(2):  # cells and bits used
        reader.uint(reader.uint(3) * 8)
    if reader.uint(3) == 1:
        reader.uint(256)  # hash of the storage dictionary
    reader.uint(32)  # last_paid
    if reader.uint(1):
        _coins(reader)  # due_payment
    reader.uint(64)
    balance = skip_currencies(reader)
    code = data = None
    if reader.uint(1):
        status = AccountStatus.ACTIVE
        if reader.uint(1):
            reader.uint(5)
        if reader.uint(1):
            reader.uint(2)
        code = reader.ref() if reader.uint(1) else None
        data = reader.ref() if reader.uint(1) else None
    else:
        status = AccountStatus.FROZEN if reader.uint(1) else AccountStatus.UNINIT
    return AccountState(address, status, Nano(balance), code, data, found.last_lt, found.last_hash)


# -- configuration ------------------------------------------------------------------------------------------


def config_param(block: BlockId, state_proof: object, config_proof: object, index: int) -> Cell | None:
    """Return one parameter out of a liteserver's `configInfo` about a masterchain block."""
    what = f"config parameter {index} at block {block}"

    def read() -> Cell | None:
        roots = [decode_boc(_bytes(state_proof)), decode_boc(_bytes(config_proof))]
        _, config = _mc_extra(_state(roots, block))
        return param_of(config, index)

    return checked(what, read)


def param_of(config: Cell, index: int) -> Cell | None:
    """Return a parameter of a configuration's dictionary, complete. Raises `MalformedError`."""
    leaf = lookup(config, index & 0xFFFF_FFFF, 32)
    if leaf is None:
        return None
    value = leaf.ref()
    if value.level_mask.mask:
        raise MalformedError(f"parts of parameter {index} are left out")
    return value


# -- reading ------------------------------------------------------------------------------------------------


def lookup(root: Cell, key: int, bits: int) -> Reader | None:
    """Follow a TON dictionary to a key; return a reader behind the leaf's label, None when it is absent.

    Raises `MalformedError` when the way is left out of the proof. Augmented dictionaries work too: their
    extras stand behind the label of a leaf and behind the references of a fork.
    """
    cell = root
    while True:
        if cell.type_ == _PRUNED:
            raise MalformedError("the proof leaves the way to it out")
        reader = Reader.of_cell(cell)
        length, label = _label(reader, bits)
        bits -= length
        if key >> bits != label:
            return None
        key &= (1 << bits) - 1
        if not bits:
            return reader
        branches = (reader.ref(), reader.ref())
        bits -= 1
        cell = branches[key >> bits]
        key &= (1 << bits) - 1


def _label(reader: Reader, most: int) -> tuple[int, int]:
    if not reader.uint(1):
        length = 0
        while reader.uint(1):
            length += 1
        same = None
    else:
        same = reader.uint(1) if reader.uint(1) else None
        length = reader.uint(most.bit_length())
    if length > most:
        raise MalformedError("a label of a dictionary is too long")
    if same is not None:
        return length, (1 << length) - 1 if same else 0
    return length, reader.uint(length)


def skip_currencies(reader: Reader) -> int:
    """Read a CurrencyCollection; return its nanoTON."""
    amount = _coins(reader)
    if reader.uint(1):
        reader.ref()
    return amount


def account_key(address: Address) -> int:
    """Return an account's key in the dictionaries of a state."""
    return int.from_bytes(address.hash_part, "big")


def _coins(reader: Reader) -> int:
    return reader.uint(reader.uint(4) * 8)


def _hash(reader: Reader) -> bytes:
    return reader.uint(256).to_bytes(32, "big")


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _tag(reader: Reader, bits: int, expected: int, what: str) -> None:
    if reader.uint(bits) != expected:
        raise MalformedError(f"not a {what}")


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise MalformedError("bytes were expected", why=f"got {type(value).__name__}")
    return value
