"""Cells as blocks need them, on the engine's side: from bit strings, exotic, in bags of several roots.

Owns the construction of C++ cells from strings of "0" and "1" (one call into the engine per cell; an
f-string is the fastest bit packer there is), TL-B's small types in that form, pruned branches and bags of
cells with any number of roots. Knows nothing of blocks.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.sandbox.cells import NativeCell
from cocoon_sdk.sandbox.engine import PyCellBuilder, load_as_cell_slice

MAX_REFS = 4
_BOC_MAGIC = b"\xb5\xee\x9c\x72"
_PRUNED_TAG = "00000001"
_MERKLE_PROOF_TAG = "00000011"
_MERKLE_UPDATE_TAG = "00000100"
_LEVEL_1 = "00000001"
_WITH_HASHES, _HASH_AND_DEPTH = 16, 32 + 2


def make_cell(bits: str, *refs: NativeCell) -> NativeCell:
    """Build an ordinary cell of at most 1023 bits, given as a string of "0" and "1"."""
    builder = PyCellBuilder().store_bitstring(bits)
    for ref in refs:
        builder.store_ref(ref)
    return builder.get_cell(False)


def read_cell(cell: NativeCell) -> tuple[str, list[NativeCell]]:
    """Return the bits and the references of an ordinary cell."""
    source = load_as_cell_slice(cell, False)
    return source.to_bitstring(), [source.prefetch_ref(index) for index in range(source.refs)]


# -- TL-B's small types as strings of bits ------------------------------------------------------------------


def bits256(value: bytes) -> str:
    """Return 32 bytes as bits."""
    return f"{int.from_bytes(value, 'big'):0256b}"


def hash_bits(cell: NativeCell) -> str:
    """Return a cell's representation hash as bits."""
    return f"{int(cell.get_hash(), 16):0256b}"


def coins(amount: int) -> str:
    """Return `Grams`: four bits of length in bytes, then the bytes."""
    if not amount:
        return "0000"
    size = (amount.bit_length() + 7) >> 3
    return f"{size:04b}{amount:0{size * 8}b}"


def currencies(amount: int) -> str:
    """Return `CurrencyCollection` without extra currencies."""
    return coins(amount) + "0"


def read_coins(bits: str, position: int) -> tuple[int, int]:
    """Read `Grams`; return the amount and the position after it."""
    size = int(bits[position : position + 4], 2) * 8
    position += 4
    return (int(bits[position : position + size], 2) if size else 0), position + size


def byte_bits(value: bytes) -> str:
    """Return bytes as bits."""
    return f"{int.from_bytes(value, 'big'):0{len(value) * 8}b}" if value else ""


# -- exotic cells ---------------------------------------------------------------------------------------


def prune(cell: NativeCell) -> NativeCell:
    """Return the pruned branch (level 1) that stands for a cell of level 0; only hash and depth stay."""
    bits = f"{_PRUNED_TAG}{_LEVEL_1}{int(cell.get_hash(), 16):0256b}{cell.get_depth():016b}"
    return PyCellBuilder().store_bitstring(bits).get_cell(True)


def merkle_proof(original: NativeCell, pruned: NativeCell) -> NativeCell:
    """Return the `!merkle_proof` cell over a pruned version of `original`."""
    bits = f"{_MERKLE_PROOF_TAG}{hash_bits(original)}{original.get_depth():016b}"
    return PyCellBuilder().store_bitstring(bits).store_ref(pruned).get_cell(True)


def merkle_update(
    old: NativeCell, new: NativeCell, old_pruned: NativeCell, new_pruned: NativeCell
) -> NativeCell:
    """Return the `!merkle_update` cell that leads from `old` to `new`."""
    bits = f"{_MERKLE_UPDATE_TAG}{hash_bits(old)}{hash_bits(new)}{old.get_depth():016b}{new.get_depth():016b}"
    return PyCellBuilder().store_bitstring(bits).store_ref(old_pruned).store_ref(new_pruned).get_cell(True)


# -- bags of cells ----------------------------------------------------------------------------------------


def to_boc(root: NativeCell) -> bytes:
    """Serialise one root the engine's way (with index and checksum); the same cell gives the same bytes."""
    return base64.b64decode(root.to_boc())


def to_boc_of(roots: Sequence[NativeCell]) -> bytes:
    """Serialise several roots into one bag; no roots give no bytes, which is how liteservers say nothing."""
    if not roots:
        return b""
    if len(roots) == 1:
        return to_boc(roots[0])
    bags = [_Bag(to_boc(root)) for root in roots]
    count = sum(bag.count for bag in bags)
    ref_size = (count.bit_length() + 7) // 8
    positions: list[int] = []
    parts: list[bytes] = []
    offset = 0
    for bag in bags:
        positions.append(offset + bag.root)
        parts.extend(bag.cells(offset, ref_size))
        offset += bag.count
    payload = b"".join(parts)
    size_bytes = max(1, (len(payload).bit_length() + 7) // 8)
    header = _BOC_MAGIC + bytes((ref_size, size_bytes))
    header += count.to_bytes(ref_size, "big") + len(roots).to_bytes(ref_size, "big") + bytes(ref_size)
    header += len(payload).to_bytes(size_bytes, "big")
    return header + b"".join(position.to_bytes(ref_size, "big") for position in positions) + payload


class _Bag:
    """A bag of one root as the engine writes it, open for renumbering."""

    def __init__(self, boc: bytes) -> None:
        if boc[:4] != _BOC_MAGIC:
            raise MalformedError("a bag of cells cannot be merged", why="it does not start as one")
        flags = boc[4]
        self._boc, self._ref_size, offset_size = boc, flags & 7, boc[5]
        field = 6
        self.count = int.from_bytes(boc[field : field + self._ref_size], "big")
        field += 3 * self._ref_size + offset_size  # count, roots, absent, payload size
        self.root = int.from_bytes(boc[field : field + self._ref_size], "big")
        field += self._ref_size
        self._payload = field + (self.count * offset_size if flags & 0x80 else 0)

    def cells(self, offset: int, ref_size: int) -> Iterator[bytes]:
        """Yield every cell with its references moved by `offset` and written in `ref_size` bytes."""
        boc, old_size, position = self._boc, self._ref_size, self._payload
        for _ in range(self.count):
            first, second = boc[position], boc[position + 1]
            refs = first & 7
            # The engine writes hashes and depths into some cells of larger bags: readers need none.
            kept = ((first >> 5).bit_count() + 1) * _HASH_AND_DEPTH if first & _WITH_HASHES else 0
            data = position + 2 + kept
            data_end = data + ((second + 1) >> 1)
            yield bytes((first & ~_WITH_HASHES, second)) + boc[data:data_end]
            for _ in range(refs):
                index = int.from_bytes(boc[data_end : data_end + old_size], "big")
                yield (index + offset).to_bytes(ref_size, "big")
                data_end += old_size
            position = data_end
