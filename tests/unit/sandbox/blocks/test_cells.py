"""Cells and bags are what an independent library reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core import Cell, begin_cell
from pytoniq_core.proof.check_proof import ProofError, check_proof

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.sandbox.blocks.cells import (
    coins,
    make_cell,
    merkle_update,
    prune,
    read_coins,
    to_boc,
    to_boc_of,
)
from cocoon_sdk.sandbox.blocks.merkle import Cut, apply_update, pruned_difference
from cocoon_sdk.sandbox.cells import NativeCell, from_native, native_hash

bits = st.text("01", max_size=60)
trees = st.recursive(
    st.builds(make_cell, bits),
    lambda below: st.builds(lambda data, refs: make_cell(data, *refs), bits, st.lists(below, max_size=4)),
    max_leaves=25,
)


def below(cell: NativeCell) -> list[NativeCell]:
    from cocoon_sdk.sandbox.blocks.cells import read_cell

    found = [cell]
    for ref in read_cell(cell)[1]:
        found += below(ref)
    return found


@given(amount=st.integers(0, 2**120 - 1))
def test_coins_can_be_read_back(amount: int) -> None:
    text = coins(amount)
    assert read_coins("1" + text, 1) == (amount, len(text) + 1)
    assert begin_cell().store_coins(amount).end_cell().bits.to01() == text


@given(roots=st.lists(trees, max_size=6))
def test_bag_can_hold_any_number_of_roots(roots: list[NativeCell]) -> None:
    boc = to_boc_of(roots)
    found = Cell.from_boc(boc) if boc else []
    assert [each.hash for each in found] == [native_hash(root) for root in roots]


def test_bag_can_hold_more_cells_than_one_byte_counts() -> None:
    chain = make_cell("1")
    for index in range(200):
        chain = make_cell(f"{index:016b}", chain)
    roots = [make_cell(f"{index:08b}", chain) for index in range(3)]
    assert [each.hash for each in Cell.from_boc(to_boc_of(roots))] == [native_hash(root) for root in roots]


@given(tree=trees, data=st.data())
def test_proof_can_be_checked_by_others_when_cells_are_pruned(tree: NativeCell, data: st.DataObject) -> None:
    cells = below(tree)
    opened = data.draw(st.lists(st.sampled_from(cells), max_size=6))
    whole = data.draw(st.lists(st.sampled_from(cells), max_size=2))
    proof = Cell.one_from_boc(to_boc(Cut().open(*opened).keep(*whole).proof(tree)))
    check_proof(proof, native_hash(tree))
    with pytest.raises(ProofError):
        check_proof(proof, bytes(32))


@given(tree=trees)
def test_pruned_branch_can_stand_for_its_cell(tree: NativeCell) -> None:
    branch = from_native(prune(tree))
    assert branch.get_hash(0) == native_hash(tree)
    assert branch.get_depth(0) == tree.get_depth()


@given(old=trees, new=trees, data=st.data())
def test_difference_can_lead_from_one_tree_to_another(
    old: NativeCell, new: NativeCell, data: st.DataObject
) -> None:
    shared = data.draw(st.lists(st.sampled_from(below(old)), max_size=3))
    new = make_cell("1", *shared, new)
    update = merkle_update(old, new, *pruned_difference(old, new))
    assert apply_update(old, update).get_hash() == new.get_hash()


def test_difference_cannot_repeat_what_both_trees_share() -> None:
    large = make_cell("1")
    for index in range(100):
        large = make_cell(f"{index:0500b}", large)
    old = make_cell("0", large, make_cell("00"))
    new = make_cell("1", make_cell("11", large), make_cell("01"))
    old_side, new_side = pruned_difference(old, new)
    assert len(to_boc(old_side)) + len(to_boc(new_side)) < 300


def test_update_cannot_be_applied_when_it_begins_elsewhere() -> None:
    one, other = make_cell("1", make_cell("0")), make_cell("1", make_cell("1"))
    update = merkle_update(one, other, *pruned_difference(one, other))
    with pytest.raises(MalformedError, match="another tree"):
        apply_update(other, update)
    with pytest.raises(MalformedError, match="not one"):
        apply_update(one, make_cell("1"))


def test_update_cannot_be_applied_when_it_needs_a_cell_that_the_old_tree_has_not() -> None:
    one, other = make_cell("1", make_cell("0")), make_cell("1", make_cell("1"))
    update = merkle_update(one, other, prune(one), prune(other))
    with pytest.raises(MalformedError, match="not in the old tree"):
        apply_update(one, update)


def test_difference_can_be_found_when_cells_hang_in_very_many_places() -> None:
    def web(seed: str) -> NativeCell:
        cell = make_cell(seed, make_cell("1010"))
        for index in range(50):  # as a tree it would have 4^50 cells
            cell = make_cell(f"{index:08b}", cell, cell, cell, cell)
        return cell

    old, new = web("0"), web("1")
    update = merkle_update(old, new, *pruned_difference(old, new))
    assert apply_update(old, update).get_hash() == new.get_hash()


def test_update_can_be_applied_when_data_is_as_deep_as_contracts_may_have_it() -> None:
    def chain(seed: str) -> NativeCell:
        cell = make_cell(seed)
        for index in range(1000):
            cell = make_cell(f"{index:016b}", cell)
        return cell

    old, new = make_cell("0", make_cell("11")), make_cell("1", make_cell("11"), chain("1"))
    update = merkle_update(old, new, *pruned_difference(old, new))
    assert apply_update(old, update).get_hash() == new.get_hash()
