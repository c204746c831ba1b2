"""`AugmentedDict`: an immutable `HashmapAugE` that shares structure between its versions.

Owns the dictionary's shape, its labels, and the sums in its forks. A new version costs by what changed: the
edges on the way to a changed key. What lies in untouched branches is neither copied nor read; a dictionary
opened from a cell is read only where somebody goes. Knows nothing of what the values mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

from cocoon_sdk.sandbox.blocks.cells import make_cell, prune, read_cell
from cocoon_sdk.sandbox.blocks.labels import common_length, read_label, write_label
from cocoon_sdk.sandbox.cells import NativeCell

Extra = TypeVar("Extra")


@dataclass(frozen=True)
class Augmentation(Generic[Extra]):
    """How the extra of a dictionary is written, read and summed up; `zero` is that of an empty one.

    `tail` is the bits that follow the dictionary in the cell that holds it.
    """

    key_bits: int
    zero: Extra
    write: Callable[[Extra], str]
    read: Callable[[str, int], tuple[Extra, int]]
    combine: Callable[[Extra, Extra], Extra]
    tail: str = ""


class Leaf(NamedTuple, Generic[Extra]):
    """A value: its bits, its references and its extra."""

    bits: str
    refs: tuple[NativeCell, ...]
    extra: Extra


class Edge(Generic[Extra]):
    """One edge with what hangs below it: two edges, or a leaf. Not to be changed once it is in a dictionary.

    `length` is how many bits of the key the edge and everything below it stand for.
    """

    __slots__ = ("_bits", "_cell", "_pruned", "extra", "label", "leaf", "left", "length", "right")

    label: str
    left: Edge[Extra] | None
    right: Edge[Extra] | None
    leaf: Leaf[Extra] | None
    extra: Extra

    def __init__(self, length: int) -> None:
        self.length = length
        self._cell: NativeCell | None = None
        self._pruned: NativeCell | None = None
        self._bits = ""

    @classmethod
    def of_leaf(cls, label: str, leaf: Leaf[Extra]) -> Edge[Extra]:
        """Make an edge to a value."""
        edge = cls(len(label))
        edge.label, edge.leaf, edge.extra = label, leaf, leaf.extra
        edge.left = edge.right = None
        return edge

    @classmethod
    def of_fork(
        cls, kind: Augmentation[Extra], label: str, left: Edge[Extra], right: Edge[Extra]
    ) -> Edge[Extra]:
        """Make an edge to a fork."""
        edge = cls(len(label) + 1 + left.length)
        edge.label, edge.leaf, edge.left, edge.right = label, None, left, right
        edge.extra = kind.combine(left.opened(kind).extra, right.opened(kind).extra)
        return edge

    @classmethod
    def of_cell(cls, length: int, cell: NativeCell) -> Edge[Extra]:
        """Make an edge that is read from its cell when somebody needs what is in it."""
        edge: Edge[Extra] = cls(length)
        edge._cell = cell
        return edge

    def opened(self, kind: Augmentation[Extra]) -> Edge[Extra]:
        """Return the edge itself, read from its cell if it was not yet."""
        try:
            _ = self.label
        except AttributeError:
            self._read(kind)
        return self

    def _read(self, kind: Augmentation[Extra]) -> None:
        assert self._cell is not None
        bits, refs = read_cell(self._cell)
        label, position = read_label(bits, self.length)
        self.extra, position = kind.read(bits, position)
        below = self.length - len(label)
        if below:
            self.leaf = None
            self.left, self.right = Edge.of_cell(below - 1, refs[0]), Edge.of_cell(below - 1, refs[1])
        else:
            self.leaf = Leaf(bits[position:], tuple(refs), self.extra)
            self.left = self.right = None
        self.label = label

    def cell(self, kind: Augmentation[Extra]) -> NativeCell:
        """Return the edge's cell; it is built once."""
        if self._cell is None:
            bits, refs = self.content(kind)
            self._cell = make_cell(bits, *refs)
        return self._cell

    def content(self, kind: Augmentation[Extra]) -> tuple[str, tuple[NativeCell, ...]]:
        """Return the bits and references of the edge's cell."""
        bits = self._own_bits(kind)
        if self.leaf is not None:
            return bits, self.leaf.refs
        assert self.left is not None
        assert self.right is not None
        return bits, (self.left.cell(kind), self.right.cell(kind))

    def _own_bits(self, kind: Augmentation[Extra]) -> str:
        """Return the bits of the edge's cell. Those of forks are kept: updates need them three times."""
        if self._bits:
            return self._bits
        bits = write_label(self.opened(kind).label, self.length) + kind.write(self.extra)
        if self.leaf is not None:
            return bits + self.leaf.bits
        self._bits = bits
        return bits

    def cell_with(self, kind: Augmentation[Extra], refs: Iterable[NativeCell]) -> NativeCell:
        """Build the edge's cell with other references in the place of its own (pruned ones)."""
        return make_cell(self._own_bits(kind), *refs)

    def pruned(self, kind: Augmentation[Extra]) -> NativeCell:
        """Return the pruned branch for the edge's cell; it is built once."""
        if self._pruned is None:
            self._pruned = prune(self.cell(kind))
        return self._pruned


Touched = dict[int, Edge[Extra]]
"""Edges by their `id`; the reference keeps the `id` theirs."""


class AugmentedDict(Generic[Extra]):
    """One version of a dictionary; `changed` gives the next one. Keys are unsigned integers."""

    __slots__ = ("_holder", "_pruned_holder", "kind", "root")

    def __init__(self, kind: Augmentation[Extra], root: Edge[Extra] | None = None) -> None:
        self.kind, self.root = kind, root
        self._holder: NativeCell | None = None
        self._pruned_holder: NativeCell | None = None

    @classmethod
    def of(cls, kind: Augmentation[Extra], items: Mapping[int, Leaf[Extra]]) -> AugmentedDict[Extra]:
        """Build a dictionary of items."""
        if not items:
            empty: AugmentedDict[Extra] = _empty(kind)
            return empty
        ordered = sorted((_key(key, kind.key_bits), leaf) for key, leaf in items.items())
        return cls(kind, _build(kind, ordered, 0, 0, len(ordered)))

    @classmethod
    def of_cell(cls, kind: Augmentation[Extra], root: NativeCell | None) -> AugmentedDict[Extra]:
        """Open a dictionary by the cell of its root edge (None: empty)."""
        return cls(kind, None if root is None else Edge.of_cell(kind.key_bits, root))

    @property
    def extra(self) -> Extra:
        """The sum over all values."""
        return self.kind.zero if self.root is None else self.root.opened(self.kind).extra

    @property
    def cell(self) -> NativeCell | None:
        """The cell of the root edge; None when the dictionary is empty."""
        return None if self.root is None else self.root.cell(self.kind)

    def head(self) -> tuple[str, tuple[NativeCell, ...]]:
        """Return the `HashmapAugE` itself: its bits and its reference."""
        cell = self.cell
        return self.head_bits(), () if cell is None else (cell,)

    def head_bits(self) -> str:
        """Return the bits of the `HashmapAugE` itself."""
        return ("0" if self.root is None else "1") + self.kind.write(self.extra)

    @property
    def holder(self) -> NativeCell:
        """The cell that holds the `HashmapAugE` and what follows it; it is built once."""
        if self._holder is None:
            bits, refs = self.head()
            self._holder = make_cell(bits + self.kind.tail, *refs)
        return self._holder

    @property
    def pruned_holder(self) -> NativeCell:
        """The pruned branch for `holder`; it is built once."""
        if self._pruned_holder is None:
            self._pruned_holder = prune(self.holder)
        return self._pruned_holder

    def get(self, key: int) -> Leaf[Extra] | None:
        """Return a value, or None."""
        edge = self.edge(key)
        return None if edge is None else edge.leaf

    def edge(self, key: int) -> Edge[Extra] | None:
        """Return the edge that leads to the value of a key, or None."""
        edge, path = self.root, _key(key, self.kind.key_bits)
        position = 0
        while edge is not None:
            label = edge.opened(self.kind).label
            if not path.startswith(label, position):
                return None
            position += len(label)
            if edge.leaf is not None:
                return edge
            edge = edge.left if path[position] == "0" else edge.right
            position += 1
        return None

    def __iter__(self) -> Iterator[tuple[int, Leaf[Extra]]]:
        waiting = [] if self.root is None else [("", self.root)]
        while waiting:
            prefix, edge = waiting.pop()
            prefix += edge.opened(self.kind).label
            if edge.leaf is not None:
                yield int(prefix, 2), edge.leaf
            else:
                assert edge.left is not None
                assert edge.right is not None
                waiting += [(prefix + "1", edge.right), (prefix + "0", edge.left)]

    def changed(
        self, changes: Mapping[int, Leaf[Extra] | None], touched: Touched[Extra] | None = None
    ) -> AugmentedDict[Extra]:
        """Return the version in which keys have other values, or none (None).

        `touched` receives the edges of this version that are not part of the new one.
        """
        editor = _Editor(self.kind, {} if touched is None else touched)
        root = self.root
        for key, leaf in changes.items():
            path = _key(key, self.kind.key_bits)
            if leaf is not None:
                root = Edge.of_leaf(path, leaf) if root is None else editor.put(root, path, leaf)
            elif root is not None:
                root = editor.remove(root, path)
        return AugmentedDict(self.kind, root)


class _Editor(Generic[Extra]):
    """Makes new edges in the place of old ones and keeps account of the old ones."""

    def __init__(self, kind: Augmentation[Extra], touched: Touched[Extra]) -> None:
        self._kind, self._touched = kind, touched

    def put(self, edge: Edge[Extra], path: str, leaf: Leaf[Extra]) -> Edge[Extra]:
        label = edge.opened(self._kind).label
        self._touched[id(edge)] = edge
        if not path.startswith(label):
            return self._split(edge, path, leaf)
        if edge.leaf is not None:
            return Edge.of_leaf(label, leaf)
        assert edge.left is not None
        assert edge.right is not None
        below = path[len(label) + 1 :]
        if path[len(label)] == "0":
            return Edge.of_fork(self._kind, label, self.put(edge.left, below, leaf), edge.right)
        return Edge.of_fork(self._kind, label, edge.left, self.put(edge.right, below, leaf))

    def _split(self, edge: Edge[Extra], path: str, leaf: Leaf[Extra]) -> Edge[Extra]:
        label = edge.label
        common = common_length(label, path)
        old = self._relabelled(edge, label[common + 1 :])
        new = Edge.of_leaf(path[common + 1 :], leaf)
        pair = (new, old) if path[common] == "0" else (old, new)
        return Edge.of_fork(self._kind, label[:common], *pair)

    def remove(self, edge: Edge[Extra], path: str) -> Edge[Extra] | None:
        label = edge.opened(self._kind).label
        if not path.startswith(label):
            return edge
        if edge.leaf is not None:
            self._touched[id(edge)] = edge
            return None
        assert edge.left is not None
        assert edge.right is not None
        bit, below = path[len(label)], path[len(label) + 1 :]
        inside, beside = (edge.left, edge.right) if bit == "0" else (edge.right, edge.left)
        rest = self.remove(inside, below)
        if rest is inside:
            return edge
        self._touched[id(edge)] = edge
        if rest is None:
            self._touched[id(beside)] = beside
            joined = label + ("1" if bit == "0" else "0") + beside.opened(self._kind).label
            return self._relabelled(beside, joined)
        pair = (rest, beside) if bit == "0" else (beside, rest)
        return Edge.of_fork(self._kind, label, *pair)

    def _relabelled(self, edge: Edge[Extra], label: str) -> Edge[Extra]:
        if edge.leaf is not None:
            return Edge.of_leaf(label, edge.leaf)
        assert edge.left is not None
        assert edge.right is not None
        return Edge.of_fork(self._kind, label, edge.left, edge.right)


def pruned_versions(
    old: AugmentedDict[Extra],
    new: AugmentedDict[Extra],
    touched: Touched[Extra],
    leaves: Mapping[int, tuple[NativeCell, ...]],
) -> tuple[NativeCell | None, NativeCell | None]:
    """Return the roots of both versions with what they share pruned, for a Merkle update.

    `touched` comes from `changed`. `leaves` maps the `id` of edges to the references to use below them
    (pruned versions); without an entry the old leaf's references are pruned and the new one's are whole.
    """
    kind, shared = old.kind, set[int]()

    def old_side(edge: Edge[Extra]) -> NativeCell:
        if id(edge) not in touched:
            shared.add(id(edge))
            return edge.pruned(kind)
        if edge.opened(kind).leaf is None:
            assert edge.left is not None
            assert edge.right is not None
            return edge.cell_with(kind, (old_side(edge.left), old_side(edge.right)))
        refs = leaves.get(id(edge))
        return edge.cell_with(kind, [prune(ref) for ref in edge.content(kind)[1]] if refs is None else refs)

    def new_side(edge: Edge[Extra]) -> NativeCell:
        if id(edge) in shared:
            return edge.pruned(kind)
        if edge.leaf is None:
            assert edge.left is not None
            assert edge.right is not None
            return edge.cell_with(kind, (new_side(edge.left), new_side(edge.right)))
        refs = leaves.get(id(edge))
        return edge.cell(kind) if refs is None else edge.cell_with(kind, refs)

    before = None if old.root is None else old_side(old.root)
    return before, None if new.root is None else new_side(new.root)


def pruned_holders(
    old: AugmentedDict[Extra],
    new: AugmentedDict[Extra],
    touched: Touched[Extra],
    leaves: Mapping[int, tuple[NativeCell, ...]],
) -> tuple[NativeCell, NativeCell]:
    """Return the cells that hold both versions, with what they share pruned: all when nothing changed."""
    if old is new:
        return old.pruned_holder, old.pruned_holder
    sides = zip((old, new), pruned_versions(old, new, touched, leaves), strict=True)
    before, after = (
        make_cell(each.head_bits() + each.kind.tail, *(() if root is None else (root,)))
        for each, root in sides
    )
    return before, after


@lru_cache(maxsize=64)
def _empty(kind: Augmentation[Any]) -> AugmentedDict[Any]:
    """Return the one empty dictionary of a kind, so that its cell is built once."""
    return AugmentedDict(kind)


def _build(
    kind: Augmentation[Extra], items: list[tuple[str, Leaf[Extra]]], start: int, low: int, high: int
) -> Edge[Extra]:
    """Build the edge of sorted items `low` to `high`, which agree in the first `start` bits."""
    first = items[low][0]
    if high - low == 1:
        return Edge.of_leaf(first[start:], items[low][1])
    common = start + common_length(first[start:], items[high - 1][0][start:])
    middle = low + 1
    top = high - 1
    while middle < top:  # the first item with a one in bit `common`
        half = (middle + top) // 2
        middle, top = (half + 1, top) if items[half][0][common] == "0" else (middle, half)
    left = _build(kind, items, common + 1, low, middle)
    return Edge.of_fork(kind, first[start:common], left, _build(kind, items, common + 1, middle, high))


def _key(key: int, key_bits: int) -> str:
    return f"{key:0{key_bits}b}"
