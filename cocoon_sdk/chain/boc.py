"""Bags of cells from outside, in and out: bounded, linear in time, one root.

Owns reading and writing BoC bytes for everything that crosses a network, and the header fields of a raw
transaction. Must not know any transport. pytoniq-core's own reader copies the remaining input for every
cell, and its writer visits a shared subtree once per path (a chain of 40 doubled references never ends),
so neither may be handed bytes or cells that a stranger chose.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from pytoniq_core import Address, Cell
from pytoniq_core.boc.deserialize import Boc
from pytoniq_core.boc.tvm_bitarray import TvmBitarray, bitarray

from cocoon_sdk.chain.base import TransactionRecord
from cocoon_sdk.errors import MalformedError

MAX_BOC_BYTES = 1 << 21
MAX_BOC_CELLS = 1 << 16
"""An account on mainnet may hold at most 65536 cells; nothing that we read is larger."""

_MAX_REFS = 4
_PRUNED = 1
_EXOTIC, _WITH_HASHES = 8, 16
_MAX_RECENT = 8192
_RECENT: dict[tuple[object, ...], Cell] = {}
"""Cells made lately, by content: what they are follows from it alone, so nobody can put a wrong one here."""
_SIZES = {2: (8 + 256, 0), 3: (8 + 256 + 16, 1), 4: (8 + 2 * (256 + 16), 2)}
"""Bits and references of library references, Merkle proofs and Merkle updates."""
_MAGIC = b"\xb5\xee\x9c\x72"


def decode_boc(data: bytes, *, max_bytes: int = MAX_BOC_BYTES, max_cells: int = MAX_BOC_CELLS) -> Cell:
    """Read a bag with exactly one root. Raises `MalformedError` beyond a bound or for any damage."""
    roots = decode_boc_roots(data, max_roots=1, max_bytes=max_bytes, max_cells=max_cells)
    return roots[0]


def decode_boc_roots(
    data: bytes, *, max_roots: int, max_bytes: int = MAX_BOC_BYTES, max_cells: int = MAX_BOC_CELLS
) -> list[Cell]:
    """Read a bag with one root or more, in their order. Raises `MalformedError` as `decode_boc` does."""
    if len(data) > max_bytes:
        raise MalformedError("bag of cells is too large", why=f"{len(data)} bytes, at most {max_bytes}")
    try:
        return _decode(data, max_cells, max_roots)
    except MalformedError:
        raise
    except Exception as error:  # the library signals damage with a dozen unrelated exception types
        raise MalformedError(
            "not a bag of cells", why=f"{type(error).__name__}: {str(error)[:80]}"
        ) from error


def _decode(data: bytes, max_cells: int, max_roots: int) -> list[Cell]:
    header = Boc.deserialize_boc_header(data)
    count, payload = header["cells_num"], header["cells_data"]
    if not 1 <= count <= max_cells:
        raise MalformedError("bag of cells is too large", why=f"{count} cells, at most {max_cells}")
    if header["root_list"] is None or not 1 <= len(header["root_list"]) <= max_roots:
        wanted = "no single root" if max_roots == 1 else f"not one to {max_roots} roots"
        raise MalformedError(f"bag of cells has {wanted}")
    ref_size = header["size_bytes"]
    spans: list[_Span] = []
    offset = 0
    for _ in range(count):
        span, offset = _span(payload, offset, ref_size)
        spans.append(span)
    if offset != len(payload):
        raise MalformedError("bag of cells has trailing bytes")
    built: dict[int, Cell] = {}
    for index in range(count - 1, -1, -1):
        # KeyError below when a reference points backwards or out of range: only later cells exist yet.
        built[index] = _cell(spans[index], [built[ref] for ref in spans[index].refs])
    return [built[index] for index in header["root_list"]]


class _Span(NamedTuple):
    """One cell of a bag: descriptors, data and references as they stand there."""

    first: int
    second: int
    data: bytes
    refs: list[int]


def _span(payload: bytes, offset: int, ref_size: int) -> tuple[_Span, int]:
    first, second = payload[offset], payload[offset + 1]
    count = first & 7
    if count > _MAX_REFS:
        raise MalformedError("a cell has more than four references, or is absent")
    start = offset + 2
    if first & _WITH_HASHES:
        start += ((first >> 5).bit_count() + 1) * (32 + 2)  # stored hashes and depths: ours are computed
    end = start + (second + 1 >> 1)
    past = end + count * ref_size
    if past > len(payload):
        raise MalformedError("bag of cells is cut off")
    refs = [int.from_bytes(payload[at : at + ref_size], "big") for at in range(end, past, ref_size)]
    return _Span(first, second, payload[start:end], refs), past


def _cell(span: _Span, refs: list[Cell]) -> Cell:
    """Make a cell, or take the same one again: the code of a contract comes with every look at an account."""
    key = (span.first & _EXOTIC, span.second, span.data, *[ref.hash for ref in refs])
    known = _RECENT.get(key)
    if known is not None:
        return known
    bits = bitarray()
    bits.frombytes(span.data)
    if span.second & 1:  # the last byte is completed by a one and zeros
        tail = span.data[-1]
        if not tail:
            raise MalformedError("the last byte of a cell is not completed")
        bits = bits[: len(bits) - (tail & -tail).bit_length()]
    kind = int.from_bytes(span.data[:1], "big", signed=True) if span.first & _EXOTIC else -1
    if span.first & _EXOTIC and (len(bits) < 8 or kind == -1):
        raise MalformedError("an exotic cell has no type")
    cell = Cell(TvmBitarray(1023, bits), refs, kind)
    _check_exotic(cell)
    if len(_RECENT) >= _MAX_RECENT:
        _RECENT.clear()
    _RECENT[key] = cell
    return cell


def _check_exotic(cell: Cell) -> None:
    """Refuse exotic cells of a wrong size, which the library would read beyond or short of their end."""
    if cell.type_ == _PRUNED:
        mask = int(cell.get_data_bytes()[1]) if len(cell.bits) >= 16 else 0
        expected, refs = 16 + mask.bit_count() * (256 + 16), 0
        if not 1 <= mask <= 7:
            raise MalformedError("a pruned branch has no level")
    elif cell.type_ in _SIZES:
        expected, refs = _SIZES[cell.type_]
    else:
        return
    if (len(cell.bits), len(cell.refs)) != (expected, refs):
        raise MalformedError("an exotic cell has a wrong size")


def encode_boc(root: Cell) -> bytes:
    """Serialise a cell as a bag with one root, each distinct cell once, in time linear in their number."""
    cells = _parents_first(root)
    index = {cell.hash: position for position, cell in enumerate(cells)}
    ref_size = max(1, (len(cells).bit_length() + 7) // 8)
    payload = bytearray()
    for cell in cells:
        payload += cell.get_descriptors(cell.level_mask) + cell.get_data_bytes()
        for ref in cell.refs:
            payload += index[ref.hash].to_bytes(ref_size, "big")
    offset_size = max(1, (len(payload).bit_length() + 7) // 8)
    counts = b"".join(number.to_bytes(ref_size, "big") for number in (len(cells), 1, 0))
    head = _MAGIC + bytes([ref_size, offset_size]) + counts + len(payload).to_bytes(offset_size, "big")
    return head + bytes(ref_size) + bytes(payload)


def _parents_first(root: Cell) -> list[Cell]:
    """Return all distinct cells, each before its references (iterative: depth may be 1023)."""
    done: list[Cell] = []
    seen = {root.hash}
    stack: list[tuple[Cell, int]] = [(root, 0)]
    while stack:
        cell, position = stack.pop()
        if position == len(cell.refs):
            done.append(cell)
            continue
        stack.append((cell, position + 1))
        child = cell.refs[position]
        if child.hash not in seen:
            seen.add(child.hash)
            stack.append((child, 0))
    done.reverse()
    return done


def decode_boc_base64(text: object, *, max_bytes: int = MAX_BOC_BYTES) -> Cell:
    """Read a bag from standard or URL-safe base64. Raises `MalformedError`."""
    if not isinstance(text, str):
        raise MalformedError("not a bag of cells", why=f"expected base64 text, got {type(text).__name__}")
    if len(text) > max_bytes * 4 // 3 + 8:
        raise MalformedError("bag of cells is too large", why=f"more than {max_bytes} bytes")
    return decode_boc(decode_base64(text), max_bytes=max_bytes)


def decode_base64(text: str) -> bytes:
    """Decode standard or URL-safe base64, line breaks allowed. Raises `MalformedError`."""
    compact = "".join(text.split()).replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(compact, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("not base64", why=str(error)[:80]) from error


def encode_boc_base64(root: Cell) -> str:
    """Serialise a cell as base64 text of a bag with one root."""
    return base64.b64encode(encode_boc(root)).decode("ascii")


def transaction_record(address: Address, cell: Cell) -> TransactionRecord:
    """Read the header of a raw `Transaction` cell of `address`.

    Raises `MalformedError` when the cell is something else or belongs to another account.
    """
    data = cell.get_data_bytes()
    # transaction$0111 account_addr:bits256 lt:uint64 prev_trans_hash:bits256 prev_trans_lt:uint64 now:uint32
    if len(cell.bits) < 4 + 256 + 64 + 256 + 64 + 32 or data[0] >> 4 != 0b0111:
        raise MalformedError("not a transaction cell")
    fields = int.from_bytes(data[:85], "big") >> 4  # 676 bits after the four of the tag, low end aligned
    now = fields & 0xFFFFFFFF
    prev_lt = fields >> 32 & 0xFFFFFFFFFFFFFFFF
    prev_hash = (fields >> 96 & (1 << 256) - 1).to_bytes(32, "big")
    lt = fields >> 352 & 0xFFFFFFFFFFFFFFFF
    if (fields >> 416 & (1 << 256) - 1).to_bytes(32, "big") != address.hash_part:
        raise MalformedError("transaction of another account", why=f"expected {address.to_str()}")
    return TransactionRecord(address, lt, now, cell.hash, prev_lt, prev_hash, cell)
