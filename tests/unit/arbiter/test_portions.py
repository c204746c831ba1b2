"""Portions in which evidence is delivered: in order, and never more than one delivery takes."""

from __future__ import annotations

from cocoon_sdk.client.arbiters import portions
from cocoon_sdk.protocol.disputes import MAX_EVIDENCE_BYTES, Item, ItemKind


def test_small_items_travel_together_in_the_order_of_their_kinds() -> None:
    items = [Item(kind, b"x") for kind in reversed(ItemKind)]
    (portion,) = portions(items)
    # The payload comes before the key that is checked against it.
    assert [item.kind for item in portion] == sorted(ItemKind)


def test_large_items_travel_alone() -> None:
    large = bytes(MAX_EVIDENCE_BYTES // 2 - 1)
    items = [Item(ItemKind.RESULT, large), Item(ItemKind.PAYLOAD, large), Item(ItemKind.TERMS, b"{}")]
    sizes = [sum(len(item.data) for item in portion) for portion in portions(items)]
    assert [[item.kind for item in portion] for portion in portions(items)] == [
        [ItemKind.PAYLOAD],
        [ItemKind.RESULT],
        [ItemKind.TERMS],
    ]
    assert max(sizes) < MAX_EVIDENCE_BYTES
    assert not list(portions([]))
