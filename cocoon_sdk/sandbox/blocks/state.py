"""The state of one chain between two blocks, and the way from one state to the next.

Owns the TL-B of `ShardStateUnsplit` with its two dictionaries (accounts and messages on their way) and the
Merkle update between two states, pruned to what changed. Knows nothing of blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cocoon_sdk.sandbox.blocks.augmented import (
    Augmentation,
    AugmentedDict,
    Edge,
    Leaf,
    Touched,
    pruned_holders,
)
from cocoon_sdk.sandbox.blocks.cells import currencies, make_cell, merkle_update, prune, read_cell, read_coins
from cocoon_sdk.sandbox.blocks.merkle import pruned_difference
from cocoon_sdk.sandbox.cells import NativeCell
from cocoon_sdk.sandbox.engine import load_as_cell_slice

_STATE_TAG = 0x9023AFE2
_ADDRESS_BITS = 267
_LOADS = "0" * 128  # overload_history, underload_history

# -- accounts ---------------------------------------------------------------------------------------------


def _read_balance(bits: str, position: int) -> tuple[int, int]:
    amount, position = read_coins(bits, position + 5)
    return amount, position + 1


ACCOUNTS: Augmentation[int] = Augmentation(
    key_bits=256,
    zero=0,
    write=lambda balance: "00000" + currencies(balance),  # split_depth is 0: no shard is ever split
    read=_read_balance,
    combine=int.__add__,
)
"""`ShardAccounts`; the extra is the sum of balances in nanoTON."""


def account_leaf(shard_account: NativeCell) -> Leaf[int] | None:
    """Return the entry for a raw `ShardAccount`; None for an account that does not exist."""
    bits, refs = read_cell(shard_account)
    balance = account_balance(refs[0])
    return None if balance is None else Leaf(bits, tuple(refs), balance)


def account_balance(account: NativeCell) -> int | None:
    """Read the balance, in nanoTON, from a raw `Account`; None for `account_none`."""
    source = load_as_cell_slice(account, False)
    if source.load_uint(1) == "0":
        return None
    source.advance(_ADDRESS_BITS)
    source.load_var_integer_str(7, False)  # cells
    source.load_var_integer_str(7, False)  # bits
    if source.load_uint(3) == "1":  # the hash of the storage dictionary
        source.advance(256)
    source.advance(32)  # last_paid
    if source.load_uint(1) == "1":  # due_payment
        source.load_var_integer_str(16, False)
    source.advance(64)  # last_trans_lt
    return int(source.load_var_integer_str(16, False))


# -- messages on their way ----------------------------------------------------------------------------------

QUEUE: Augmentation[int] = Augmentation(
    key_bits=352,
    zero=0,
    write=lambda lt: f"{lt:064b}",
    read=lambda bits, position: (int(bits[position : position + 64], 2), position + 64),
    combine=min,
    tail="00",  # proc_info (empty), extra (none)
)
"""`OutMsgQueue`; the key is the next hop and the message's hash, the extra the oldest logical time."""


# -- the state ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChainState:
    """One chain's state after block `seqno`. `fees` is nanoTON collected since the beginning.

    `delivered` are the keys of messages in the queue that another chain has taken by now.
    """

    global_id: int
    workchain: int
    seqno: int
    gen_utime: int
    gen_lt: int
    accounts: AugmentedDict[int]
    queue: AugmentedDict[int]
    delivered: frozenset[int]
    fees: int
    master_ref: str
    libraries: NativeCell | None
    custom: NativeCell | None
    _cells: list[NativeCell] = field(default_factory=list, repr=False)

    @property
    def balance(self) -> int:
        """NanoTON on all accounts."""
        return self.accounts.extra

    @property
    def cell(self) -> NativeCell:
        """The root."""
        return self.cells[4]

    @property
    def cells(self) -> list[NativeCell]:
        """The cells of queue, accounts, the rest and the masterchain's part (or None), then the root."""
        cells = self._cells
        if not cells:
            misc = self._misc_cell(self.libraries)
            cells += [self.queue.holder, self.accounts.holder, misc, self.custom]
            cells.append(make_cell(self._bits(), *(cell for cell in cells if cell is not None)))
        return cells

    def _bits(self) -> str:
        return (
            f"{_STATE_TAG:032b}{self.global_id & 0xFFFF_FFFF:032b}{shard_ident(self.workchain)}"
            f"{self.seqno:032b}{0:032b}{self.gen_utime:032b}{self.gen_lt:064b}{max(self.seqno - 1, 0):032b}"
            f"0{'0' if self.custom is None else '1'}"
        )

    def _misc_cell(self, libraries: NativeCell | None) -> NativeCell:
        bits = _LOADS + currencies(self.balance) + currencies(self.fees)
        bits += "0" if libraries is None else "1"
        bits += "1" + self.master_ref if self.master_ref else "0"
        return make_cell(bits) if libraries is None else make_cell(bits, libraries)


def shard_ident(workchain: int) -> str:
    """Return the bits of `ShardIdent` of a chain that is not split."""
    return f"00000000{workchain & 0xFFFF_FFFF:032b}{0:064b}"


def state_update(
    old: ChainState,
    new: ChainState,
    keys: Mapping[int, None],
    touched_accounts: Touched[int],
    touched_queue: Touched[int],
    custom: tuple[NativeCell | None, NativeCell | None],
) -> NativeCell:
    """Return the Merkle update from one state to the next.

    `keys` are the changed accounts, `custom` both pruned versions of the masterchain's part. Costs by what
    changed: untouched branches are pruned without looking into them.
    """
    leaves: dict[int, tuple[NativeCell, ...]] = {}
    for key in keys:
        before, after = old.accounts.edge(key), new.accounts.edge(key)
        if before is not None and after is not None:
            _compare(before, after, leaves)
    accounts = pruned_holders(old.accounts, new.accounts, touched_accounts, leaves)
    queues = pruned_holders(old.queue, new.queue, touched_queue, {})
    sides = []
    for state, *parts in zip((old, new), queues, accounts, _pruned_misc(old, new), custom, strict=True):
        sides.append(make_cell(state._bits(), *(part for part in parts if part is not None)))
    return merkle_update(old.cell, new.cell, *sides)


def _pruned_misc(old: ChainState, new: ChainState) -> tuple[NativeCell, NativeCell]:
    """Return both versions of the small part; libraries are pruned in both, but shown when they changed."""
    before, after = old.cells[2], new.cells[2]
    if old.libraries is not None:
        before = old._misc_cell(prune(old.libraries))
        if _same(old.libraries, new.libraries):
            after = new._misc_cell(prune(old.libraries))
    return before, after


def _compare(before: Edge[int], after: Edge[int], leaves: dict[int, tuple[NativeCell, ...]]) -> None:
    assert before.leaf is not None
    assert after.leaf is not None
    pruned = pruned_difference(before.leaf.refs[0], after.leaf.refs[0])
    leaves[id(before)], leaves[id(after)] = (pruned[0],), (pruned[1],)


def _same(one: NativeCell, other: NativeCell | None) -> bool:
    return other is not None and bool(one.get_hash() == other.get_hash())
