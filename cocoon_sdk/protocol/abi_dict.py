"""TVM dictionaries (`map<K, V>`): a bounded parser, the builder that the TVM would agree with, a codec.

Owns the tree and its labels. It must not know structs and messages (`abi_runtime`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pytoniq_core import Cell

from cocoon_sdk.protocol.abi_cells import Reader, Writer, bad
from cocoon_sdk.protocol.abi_codecs import CELL, AddressCodec, Codec, IntCodec, StackItem

MAX_ENTRIES = 4096
"""Most entries that are read: cells can be shared, so a small dictionary could unfold without end."""

_ADDRESS_BITS = 267


@dataclass(frozen=True, slots=True)
class MapCodec(Codec[dict[Any, Any]]):
    """A `map<K, V>`: a Maybe reference to a dictionary; the empty map has no cell."""

    key: IntCodec | AddressCodec
    value: Codec[Any]

    @property
    def key_bits(self) -> int:
        """Width of the keys."""
        return self.key.bits if isinstance(self.key, IntCodec) else _ADDRESS_BITS

    def read(self, source: Reader) -> dict[Any, Any]:
        """Read all entries, at most `MAX_ENTRIES`."""
        return self._parse(source.ref()) if source.uint(1) else {}

    def write(self, target: Writer, value: dict[Any, Any]) -> None:
        """Write the dictionary as the TVM does."""
        root = self.stack(value)
        target.integer(int(root is not None), 1)
        if isinstance(root, Cell):
            target.ref(root)

    def unstack(self, item: StackItem) -> dict[Any, Any]:
        """Take null or the dictionary's root cell."""
        return {} if item is None else self._parse(CELL.unstack(item))

    def stack(self, value: dict[Any, Any]) -> StackItem:
        """Return null or the dictionary's root cell."""
        if not isinstance(value, dict):
            raise bad(f"a dict was expected, not {type(value).__name__}")
        entries = {}
        for key, entry in value.items():
            key_target, entry_target = Writer(), Writer()
            self.key.write(key_target, key)
            self.value.write(entry_target, entry)
            entries[Reader.of_cell(key_target.cell()).uint(self.key_bits)] = entry_target.cell()
        return build(entries, self.key_bits)

    def _parse(self, root: Cell) -> dict[Any, Any]:
        result = {}
        for number, source in parse(root, self.key_bits):
            key = self.key.read(Reader(number, self.key_bits, []))
            result[key] = self.value.read(source)
            source.finish()
        return result


def parse(root: Cell, key_bits: int) -> Iterator[tuple[int, Reader]]:
    """Yield key and value reader of every entry in key order. Raises `MalformedError`."""
    pending = [(root, 0, key_bits)]
    entries = 0
    while pending:
        cell, prefix, left = pending.pop()
        source = Reader.of_cell(cell)
        label, size = _read_label(source, left)
        prefix, left = prefix << size | label, left - size
        if left == 0:
            entries += 1
            if entries > MAX_ENTRIES:
                raise bad(f"the dictionary has more than {MAX_ENTRIES} entries")
            yield prefix, source
            continue
        zero, one = source.ref(), source.ref()
        source.finish()
        pending += [(one, prefix << 1 | 1, left - 1), (zero, prefix << 1, left - 1)]


def build(entries: dict[int, Cell], key_bits: int) -> Cell | None:
    """Return the dictionary's root for {key: value content}, None when empty. Raises `MalformedError`."""
    if len(entries) > MAX_ENTRIES:
        raise bad(f"the dictionary has more than {MAX_ENTRIES} entries")
    return _node(sorted(entries), entries, key_bits) if entries else None


def _node(keys: list[int], entries: dict[int, Cell], left: int) -> Cell:
    """Build the subtree of sorted keys that agree above their lowest `left` bits."""
    first, last = keys[0], keys[-1]
    fork = (first ^ last).bit_length()  # bits below the common label, the forking bit included
    size = left - fork
    target = Writer()
    _write_label(target, first >> fork & ((1 << size) - 1), size, left)
    if fork == 0:
        target.append(entries[first])
    else:
        split = next(i for i, key in enumerate(keys) if key >> (fork - 1) & 1)
        target.ref(_node(keys[:split], entries, fork - 1))
        target.ref(_node(keys[split:], entries, fork - 1))
    return target.cell()


def _read_label(source: Reader, limit: int) -> tuple[int, int]:
    if source.uint(1) == 0:  # hml_short$0: unary length, then the bits
        size = 0
        while source.uint(1):
            size += 1
            if size > limit:
                raise bad("a dictionary label is longer than the key")
        return source.uint(size), size
    same = source.uint(1)
    bit = source.uint(1) if same else 0
    size = source.uint(limit.bit_length())
    if size > limit:
        raise bad("a dictionary label is longer than the key")
    if same:  # hml_same$11: one bit repeated
        return ((1 << size) - 1 if bit else 0), size
    return source.uint(size), size  # hml_long$10


def _write_label(target: Writer, label: int, size: int, limit: int) -> None:
    """Write the label in the form that the TVM chooses, or equal maps would have different hashes."""
    length_bits = limit.bit_length()
    if size > 1 and label in (0, (1 << size) - 1) and length_bits < 2 * size - 1:
        target.integer(0b110 | label & 1, 3)
        target.integer(size, length_bits)
    elif length_bits < size:
        target.integer(0b10, 2)
        target.integer(size, length_bits)
        target.integer(label, size)
    else:
        target.integer(0, 1)
        target.integer(-2, size + 1)
        target.integer(label, size)
