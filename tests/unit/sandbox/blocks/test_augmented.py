"""The dictionary that shares structure is the same as one built from scratch, in every version."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.sandbox.blocks.augmented import (
    Augmentation,
    AugmentedDict,
    Edge,
    Leaf,
    Touched,
    pruned_versions,
)
from cocoon_sdk.sandbox.blocks.cells import currencies, make_cell, merkle_update, read_coins
from cocoon_sdk.sandbox.blocks.labels import read_label, write_label
from cocoon_sdk.sandbox.blocks.merkle import apply_update
from cocoon_sdk.sandbox.cells import NativeCell, empty_dict
from cocoon_sdk.sandbox.engine import PyCellBuilder

BITS = 16


def _read(bits: str, position: int) -> tuple[int, int]:
    amount, position = read_coins(bits, position)
    return amount, position + 1


SUMS: Augmentation[int] = Augmentation(
    key_bits=BITS, zero=0, write=currencies, read=_read, combine=int.__add__
)
CONTENT = make_cell("1", make_cell("0"))
keys = st.one_of(st.integers(0, 2**BITS - 1), st.integers(0, 7))
values = st.integers(0, 2**70)
changes = st.dictionaries(keys, st.one_of(st.none(), values), max_size=12)


def leaf(value: int) -> Leaf[int]:
    return Leaf(f"{value:080b}", (CONTENT,) if value % 2 else (), value)


def leaves(items: dict[int, int]) -> dict[int, Leaf[int]]:
    return {key: leaf(value) for key, value in items.items()}


def wrapped(change: dict[int, int | None]) -> dict[int, Leaf[int] | None]:
    return {key: None if value is None else leaf(value) for key, value in change.items()}


def digest(cell: NativeCell | None) -> str | None:
    return None if cell is None else str(cell.get_hash())


@given(first=st.dictionaries(keys, values, max_size=30), rounds=st.lists(changes, max_size=6))
def test_dictionary_can_change_as_if_built_from_scratch(
    first: dict[int, int], rounds: list[dict[int, int | None]]
) -> None:
    expected, version = dict(first), AugmentedDict.of(SUMS, leaves(first))
    kept = [(dict(expected), version)]
    for change in rounds:
        version = version.changed(
            {key: None if value is None else leaf(value) for key, value in change.items()}
        )
        for key, value in change.items():
            expected.pop(key, None)
            if value is not None:
                expected[key] = value
        kept.append((dict(expected), version))
    for items, each in kept:  # older versions stay what they were
        assert digest(each.cell) == digest(AugmentedDict.of(SUMS, leaves(items)).cell)
        assert each.extra == sum(items.values())
        assert {key: int(found.bits, 2) for key, found in each} == items
        assert [key for key, _ in each] == sorted(items)


@given(items=st.dictionaries(keys, values, max_size=30), change=changes, wanted=keys)
def test_dictionary_can_be_read_from_its_cell_when_reopened(
    items: dict[int, int], change: dict[int, int | None], wanted: int
) -> None:
    built = AugmentedDict.of(SUMS, leaves(items))
    opened = AugmentedDict.of_cell(SUMS, built.cell)
    found = opened.get(wanted)
    assert (None if found is None else int(found.bits, 2)) == items.get(wanted)
    changed = wrapped(change)
    assert digest(opened.changed(changed).cell) == digest(built.changed(changed).cell)
    assert opened.extra == sum(items.values())


@given(items=st.dictionaries(keys, values, max_size=30), change=changes)
def test_update_can_lead_from_one_version_to_the_next(
    items: dict[int, int], change: dict[int, int | None]
) -> None:
    old = AugmentedDict.of_cell(SUMS, AugmentedDict.of(SUMS, leaves(items)).cell)
    touched: Touched[int] = {}
    new = old.changed(wrapped(change), touched)
    before, after = pruned_versions(old, new, touched, {})
    roots = [
        make_cell("1", *([] if each is None else [each])) for each in (old.cell, new.cell, before, after)
    ]
    update = merkle_update(*roots)
    assert apply_update(roots[0], update).get_hash() == roots[1].get_hash()


def test_update_cannot_grow_with_the_dictionary_when_one_key_changes() -> None:
    sizes = []
    for count in (64, 4096):
        old = AugmentedDict.of(SUMS, {key * 16: leaf(key) for key in range(count)})
        touched: Touched[int] = {}
        new = old.changed({5 * 16: leaf(10**6)}, touched)
        before, after = pruned_versions(old, new, touched, {})
        assert before is not None
        assert after is not None
        sizes.append(len(merkle_update(old.cell, new.cell, before, after).to_boc()))
    assert sizes[1] < sizes[0] * 2.5  # twice the depth


@given(label=st.text("01", max_size=BITS), more=st.integers(0, 300))
def test_label_can_be_read_back(label: str, more: int) -> None:
    length = len(label) + more
    bits = write_label(label, length)
    assert read_label(bits + "1010", length) == (label, len(bits))
    short, size = 2 * len(label) + 2, length.bit_length()
    forms = [short, 2 + size + len(label)]
    if len(set(label)) == 1:
        forms.append(3 + size)
    assert len(bits) == min(forms)


@given(items=st.dictionaries(keys, st.integers(0, 2**32), min_size=1, max_size=30))
def test_dictionary_without_extras_can_be_the_engines_own(items: dict[int, int]) -> None:
    plain: Augmentation[None] = Augmentation(
        key_bits=BITS, zero=None, write=lambda _: "", read=lambda _, at: (None, at), combine=lambda *_: None
    )
    ours = AugmentedDict.of(plain, {key: Leaf(f"{value:033b}", (), None) for key, value in items.items()})
    theirs = empty_dict(BITS)
    for key, value in items.items():
        theirs.set_builder_str(str(key), PyCellBuilder().store_uint_str(str(value), 33), "set", BITS, False)
    assert digest(ours.cell) == digest(theirs.get_pycell())


def test_edges_can_stay_unread_when_nobody_goes_there() -> None:
    built = AugmentedDict.of(SUMS, {key: leaf(key) for key in range(256)})
    opened = AugmentedDict.of_cell(SUMS, built.cell)
    opened.changed({3: leaf(9)})
    read: list[Edge[int]] = []
    waiting = [opened.root]
    while waiting:
        edge = waiting.pop()
        if edge is not None and hasattr(edge, "label"):
            read.append(edge)
            waiting += [edge.left, edge.right]
    assert len(read) <= 2 * BITS
