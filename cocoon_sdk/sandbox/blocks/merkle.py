"""Merkle proofs and Merkle updates over native cells.

Owns pruning: which cells of a tree stay, which become pruned branches; the differences of two small trees;
the way through an augmented dictionary; the application of an update, as a validator does it. Knows nothing
of what the cells mean.
"""

from __future__ import annotations

from collections.abc import Iterable

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.sandbox.blocks.cells import merkle_proof as _merkle_proof
from cocoon_sdk.sandbox.blocks.cells import prune, read_cell
from cocoon_sdk.sandbox.blocks.labels import read_label
from cocoon_sdk.sandbox.cells import NativeCell
from cocoon_sdk.sandbox.engine import PyCellBuilder, load_as_cell_slice

DIFFERENCE_BUDGET = 128
"""Cells that a search for what two trees share may open; beyond it the new part is kept whole."""
_PRUNED_BRANCH = 1
_HASH_AND_DEPTH_BITS = 256 + 16


class Cut:
    """What a proof keeps of a tree: cells opened one by one, and cells kept with everything below them."""

    __slots__ = ("_opened", "_whole")

    def __init__(self) -> None:
        self._opened: set[str] = set()
        self._whole: set[str] = set()

    def open(self, *cells: NativeCell) -> Cut:
        """Keep cells, not what is below them; of a Merkle update both hashes stay."""
        self._opened.update(cell.get_hash() for cell in cells)
        return self

    def keep(self, *cells: NativeCell) -> Cut:
        """Keep cells and everything below them."""
        self._whole.update(cell.get_hash() for cell in cells)
        return self

    def proof(self, root: NativeCell) -> NativeCell:
        """Return the Merkle proof of a tree; its root is always opened."""
        self.open(root)
        return _merkle_proof(root, self._pruned(root, {}))

    def _pruned(self, cell: NativeCell, done: dict[str, NativeCell]) -> NativeCell:
        digest = cell.get_hash()
        found = done.get(digest)
        if found is None:
            if digest in self._whole:
                found = cell
            elif digest not in self._opened:
                found = prune(cell)
            elif (update := _update_bits(cell)) is not None:
                found = _without_sides(cell, update)
            else:
                refs = _ordinary_refs(cell)
                found = _with_refs(cell, [self._pruned(ref, done) for ref in refs]) if refs else cell
            done[digest] = found
        return found


def _update_bits(cell: NativeCell) -> str | None:
    """Return the bits of a Merkle update, None for other cells."""
    source = load_as_cell_slice(cell, True)
    if not source.is_special() or source.bits != 8 + 2 * _HASH_AND_DEPTH_BITS:
        return None
    bits: str = source.to_bitstring()
    return bits


def _without_sides(update: NativeCell, bits: str) -> NativeCell:
    """Return a Merkle update with pruned branches for both sides, as it may stand within a Merkle proof.

    The branches are cut at level 2, one for the update and one for the proof around it. A side that has
    pruned branches of its own already is of level 1, and its own hash is kept beside that of the whole tree.
    """
    source = load_as_cell_slice(update, True)
    builder = PyCellBuilder().store_bitstring(bits)
    for index in range(2):
        side = source.prefetch_ref(index)
        hashes, depths = bits[8 + 256 * index :][:256], bits[520 + 16 * index :][:16]
        own = f"{int(side.get_hash(), 16):0256b}"
        mask = 0b10
        if own != hashes:
            mask, hashes, depths = 0b11, hashes + own, depths + f"{side.get_depth():016b}"
        branch = PyCellBuilder().store_bitstring(f"{_PRUNED_BRANCH:08b}{mask:08b}{hashes}{depths}")
        builder.store_ref(branch.get_cell(True))
    return builder.get_cell(True)


def way_to(root: NativeCell | None, key: str) -> tuple[list[NativeCell], str, list[NativeCell]]:
    """Follow a key (bits) through an augmented dictionary, beginning at the cell of its root edge.

    Returns the cells on the way, and the bits (extra, then value) and references of the leaf; without a leaf
    the bits are empty, and the cells are those that prove it.
    """
    way: list[NativeCell] = []
    position, cell = 0, root
    while cell is not None:
        way.append(cell)
        bits, refs = read_cell(cell)
        label, start = read_label(bits, len(key) - position)
        if not key.startswith(label, position):
            break
        position += len(label)
        if position == len(key):
            return way, bits[start:], refs
        cell = refs[int(key[position])]
        position += 1
    return way, "", []


# -- differences ------------------------------------------------------------------------------------------


class _Found:
    """A cell that was met in the new tree and may have to be kept, with the one above it."""

    __slots__ = ("above", "cell", "digest")

    def __init__(self, cell: NativeCell, digest: str, above: _Found | None) -> None:
        self.cell, self.digest, self.above = cell, digest, above

    def is_below(self, digests: set[str]) -> bool:
        found: _Found | None = self
        while found is not None:
            if found.digest in digests:
                return True
            found = found.above
        return False


def pruned_difference(old: NativeCell, new: NativeCell) -> tuple[NativeCell, NativeCell]:
    """Return both trees with what they share pruned, and what only the old one has pruned too.

    Opens both level by level, until one side has nothing of its own left or `DIFFERENCE_BUDGET` is used up;
    what was not found to be shared by then stays in the new tree as it is.
    """
    old_digest, new_digest = old.get_hash(), new.get_hash()
    known, seen = {old_digest}, {new_digest}
    old_opened: set[str] = set()
    new_opened: set[str] = set()
    old_level = {old_digest: old}
    new_level = [] if old_digest == new_digest else [_Found(new, new_digest, None)]
    while old_level and new_level and len(old_opened) + len(new_opened) < DIFFERENCE_BUDGET:
        old_opened.update(old_level)
        new_opened.update(found.digest for found in new_level)
        below = {ref.get_hash(): ref for cell in old_level.values() for ref in _ordinary_refs(cell)}
        found = [_Found(ref, ref.get_hash(), one) for one in new_level for ref in _ordinary_refs(one.cell)]
        known.update(below)
        seen.update(item.digest for item in found)
        old_level = {digest: ref for digest, ref in below.items() if digest not in seen | old_opened}
        # A cell that hangs in several places is looked at once: trees may share their way to any size.
        once = {item.digest: item for item in found if item.digest not in new_opened}
        new_level = [item for item in once.values() if not item.is_below(known)]
    pruning = _Pruning(known, old_opened, new_opened)
    pruned = pruning.new_side(new)
    return pruning.old_side(old)[0], pruned


class _Pruning:
    """Prunes two trees after the search; each cell once, wherever it hangs."""

    def __init__(self, known: set[str], old_opened: set[str], new_opened: set[str]) -> None:
        self._known, self._old_opened, self._new_opened = known, old_opened, new_opened
        self._used: set[str] = set()
        self._old: dict[str, tuple[NativeCell, bool]] = {}
        self._new: dict[str, NativeCell] = {}

    def new_side(self, cell: NativeCell) -> NativeCell:
        """Return the new tree with what is known pruned."""
        digest = cell.get_hash()
        found = self._new.get(digest)
        if found is None:
            found = cell
            if digest in self._known:
                self._used.add(digest)
                found = prune(cell)
            elif digest in self._new_opened and (refs := _ordinary_refs(cell)):
                found = _with_refs(cell, [self.new_side(ref) for ref in refs])
            self._new[digest] = found
        return found

    def old_side(self, cell: NativeCell) -> tuple[NativeCell, bool]:
        """Return the old tree with what the new side does not use pruned, and whether it uses any of it."""
        digest = cell.get_hash()
        found = self._old.get(digest)
        if found is None:
            refs = _ordinary_refs(cell) if digest in self._old_opened else []
            below = [self.old_side(ref) for ref in refs]
            if any(is_used for _, is_used in below):
                found = _with_refs(cell, [pruned for pruned, _ in below]), True
            else:
                found = prune(cell), digest in self._used
            self._old[digest] = found
        return found


def _ordinary_refs(cell: NativeCell) -> list[NativeCell]:
    """Return the references of a cell; none of an exotic one, which is kept or pruned in one piece."""
    source = load_as_cell_slice(cell, True)
    if source.refs == 0 or source.is_special():
        return []
    return [source.prefetch_ref(index) for index in range(source.refs)]


def _with_refs(cell: NativeCell, refs: Iterable[NativeCell]) -> NativeCell:
    source = load_as_cell_slice(cell, False)
    builder = PyCellBuilder().store_slice(source.preload_subslice(source.bits, 0))
    for ref in refs:
        builder.store_ref(ref)
    return builder.get_cell(False)


# -- applying ---------------------------------------------------------------------------------------------


def apply_update(old: NativeCell, update: NativeCell) -> NativeCell:
    """Apply a Merkle update to a tree as a validator does; return the new tree.

    Raises `MalformedError` when the update does not begin at `old` or does not hold what it needs.
    """
    source = load_as_cell_slice(update, True)
    if not source.is_special() or source.bits != 8 + 2 * _HASH_AND_DEPTH_BITS:
        raise MalformedError("a Merkle update cannot be applied", why="it is not one")
    bits = source.to_bitstring()
    expected_old, expected_new = f"{int(bits[8:264], 2):064X}", f"{int(bits[264:520], 2):064X}"
    if old.get_hash() != expected_old:
        raise MalformedError("a Merkle update cannot be applied", why="it begins at another tree")
    new = _grow(source.prefetch_ref(1), _collect_known(old, source.prefetch_ref(0)))
    if new.get_hash() != expected_new:
        raise MalformedError("a Merkle update cannot be applied", why="it leads to another tree than it says")
    return new


def _pruned_digest(cell: NativeCell) -> str | None:
    """Return the hash of the cell that a pruned branch stands for; None for other cells."""
    source = load_as_cell_slice(cell, True)
    if not source.is_special() or source.special_type() != _PRUNED_BRANCH:
        return None
    source.advance(16)
    return f"{int(source.load_uint(256)):064X}"


def _collect_known(original: NativeCell, shadow: NativeCell) -> dict[str, NativeCell]:
    """Return the cells of the old tree that the update shows, pruned ones included, by their hashes."""
    known: dict[str, NativeCell] = {}
    seen: set[str] = set()
    waiting = [(original, shadow)]
    while waiting:
        cell, shown = waiting.pop()
        known[cell.get_hash()] = cell
        digest = shown.get_hash()
        if digest not in seen and _pruned_digest(shown) is None:
            waiting += zip(_ordinary_refs(cell), _ordinary_refs(shown), strict=True)
        seen.add(digest)
    return known


def _grow(shadow: NativeCell, known: dict[str, NativeCell]) -> NativeCell:
    """Replace pruned branches by what they stand for; without recursion, because data may be deep."""
    grown: dict[str, NativeCell] = {}
    waiting = [(shadow, False)]
    while waiting:
        cell, are_refs_done = waiting.pop()
        own = cell.get_hash()
        if own in grown:
            continue
        refs = _ordinary_refs(cell)
        if are_refs_done:
            grown[own] = _with_refs(cell, [grown[ref.get_hash()] for ref in refs])
        elif refs:
            waiting.append((cell, True))
            waiting += [(ref, False) for ref in refs]
        else:
            grown[own] = _known(cell, known)
    return grown[shadow.get_hash()]


def _known(leaf: NativeCell, known: dict[str, NativeCell]) -> NativeCell:
    digest = _pruned_digest(leaf)
    if digest is None:
        return leaf
    if digest not in known:
        raise MalformedError("a Merkle update cannot be applied", why="a pruned cell is not in the old tree")
    return known[digest]
