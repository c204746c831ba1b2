"""The outer cells of a block: info, value flow, extra, root.

Owns their TL-B and nothing else: every number comes from the producer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cocoon_sdk.sandbox.blocks.cells import currencies, make_cell
from cocoon_sdk.sandbox.blocks.state import shard_ident
from cocoon_sdk.sandbox.cells import NativeCell
from cocoon_sdk.sandbox.errors import UnbalancedError

_BLOCK_TAG = 0x11EF55AA
_INFO_TAG = 0x9BC7A987
_FLOW_TAG = 0xB8E48DFB
_FLOW_WITH_BURNED_TAG = 0x3EBF98B7
_EXTRA_TAG = 0x4A33F6FD


@dataclass(frozen=True, slots=True)
class ValueFlow:
    """Where the money of a block came from and went, in nanoTON.

    What was there before, imported or minted is what is there after, exported, collected or burned.
    """

    before: int
    after: int
    imported: int = 0
    exported: int = 0
    fees_collected: int = 0
    fees_imported: int = 0
    minted: int = 0
    burned: int = 0

    def with_burned(self) -> ValueFlow:
        """Return the flow in which whatever is missing was burned."""
        left = self.before + self.imported + self.fees_imported + self.minted
        return replace(self, burned=max(0, left - self.after - self.exported - self.fees_collected))

    def checked(self) -> ValueFlow:
        """Return itself; raises `UnbalancedError` when money appeared or vanished."""
        left = self.before + self.imported + self.fees_imported + self.minted
        right = self.after + self.exported + self.fees_collected + self.burned
        if left != right:
            raise UnbalancedError(
                "a block cannot be sealed",
                why=f"its value flow differs by {left - right} nanoTON: {self}",
                hint="accounts may only change by transactions between two blocks",
            )
        return self

    def cell(self) -> NativeCell:
        """Return the TL-B cell; burned money needs the newer form."""
        totals = make_cell("".join(map(currencies, (self.before, self.after, self.imported, self.exported))))
        created = make_cell("".join(map(currencies, (self.fees_imported, 0, 0, self.minted))))
        collected = currencies(self.fees_collected)
        if self.burned:
            return make_cell(
                f"{_FLOW_WITH_BURNED_TAG:032b}{collected}{currencies(self.burned)}", totals, created
            )
        return make_cell(f"{_FLOW_TAG:032b}{collected}", totals, created)


@dataclass(frozen=True, slots=True)
class Header:
    """What `BlockInfo` says. `software` is `GlobalVersion`, references are `ExtBlkRef`, as bits."""

    workchain: int
    seqno: int
    gen_utime: int
    start_lt: int
    end_lt: int
    is_key: bool
    prev_key_seqno: int
    validator_set_hash: int
    catchain_seqno: int
    software: str
    prev_ref: str
    master_ref: str

    def cell(self) -> NativeCell:
        """Return the TL-B cell."""
        is_shard = self.master_ref != ""
        bits = (
            f"{_INFO_TAG:032b}{0:032b}{is_shard:b}00000{self.is_key:b}0{1:08b}{self.seqno:032b}{0:032b}"
            f"{shard_ident(self.workchain)}{self.gen_utime:032b}{self.start_lt:064b}{self.end_lt:064b}"
            f"{self.validator_set_hash:032b}{self.catchain_seqno:032b}{max(self.seqno - 1, 0):032b}"
            f"{self.prev_key_seqno:032b}{self.software}"
        )
        previous = make_cell(self.prev_ref)
        return (
            make_cell(bits, make_cell(self.master_ref), previous) if is_shard else make_cell(bits, previous)
        )


def block_cell(
    global_id: int, header: NativeCell, flow: NativeCell, update: NativeCell, extra: NativeCell
) -> NativeCell:
    """Return the root cell of a block."""
    return make_cell(f"{_BLOCK_TAG:032b}{global_id & 0xFFFF_FFFF:032b}", header, flow, update, extra)


def extra_cell(
    in_messages: NativeCell,
    out_messages: NativeCell,
    account_blocks: NativeCell,
    random_seed: str,
    created_by: str,
    custom: NativeCell | None,
) -> NativeCell:
    """Return `BlockExtra`; seed and creator are 256 bits each."""
    bits = f"{_EXTRA_TAG:032b}{random_seed}{created_by}"
    parts = (in_messages, out_messages, account_blocks)
    return make_cell(bits + "0", *parts) if custom is None else make_cell(bits + "1", *parts, custom)


def global_version(param_8: str) -> str:
    """Return the bits of `GlobalVersion` for a header from those of ConfigParam 8; unset gives zeros."""
    return param_8 or f"{0xC4:08b}{0:096b}"
