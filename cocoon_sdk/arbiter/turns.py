"""`Turns`: which place is looked at next, so that each escrow has its share however many places it has.

Owns the order, and how many looks at one escrow are under way. Must not know pauses, other bounds, or what
was found.

The order. Every second look is for an escrow that was never looked at, in the order of arrival; every other
one for the escrow whose last look is longest ago. Where one kind has none, the other one has its turn.
So among `n` escrows that wait each has its next look within `2 n` looks, and one that is new waits for two
looks for each that is new and came before it: however many disputes others open, and however long their
histories are.

A step costs the logarithm of what waits, not all of it: others fill the queues.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final, TypeAlias

from pytoniq_core import Address

from cocoon_sdk.arbiter.finding_store import Place

PER_ESCROW: Final = 2
"""Places of one escrow that are looked at together, in turn; whoever disputes much waits for itself."""
MAX_ESCROWS: Final = 16_384
"""Escrows whose last look is remembered while they have nothing that waits."""
Rank: TypeAlias = tuple[bool, int]
"""Of one escrow's places the lowest comes first, of equals the one that came first."""


@dataclass(slots=True, eq=False)
class _Escrow:
    """An escrow with places that wait for a look, or have one."""

    address: Address
    last: int
    """The number of its last look; 0 for none."""
    queue: list[tuple[Rank, int, Place]] = field(default_factory=list)
    ready: int = 0
    under_way: int = 0
    is_queued: bool = False


class Turns:
    """Places that are ready for a look. Whatever is left of the queues when a place is dropped is passed over
    when its turn comes.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._ready: dict[Place, int] = {}
        self._escrows: dict[Address, _Escrow] = {}
        self._last: OrderedDict[Address, int] = OrderedDict()
        self._new: list[tuple[int, int, _Escrow]] = []
        self._known: list[tuple[int, int, _Escrow]] = []
        self._new_ones_turn = True

    def is_new(self, escrow: Address) -> bool:
        """Tell whether an escrow was never looked at, as far as is remembered."""
        waiting = self._escrows.get(escrow)
        return waiting.last == 0 if waiting is not None else escrow not in self._last

    def put(self, place: Place, rank: Rank) -> None:
        """Have a place, which neither waits here nor is under way, looked at in turn."""
        escrow = self._escrows.get(place.escrow)
        if escrow is None:
            escrow = _Escrow(place.escrow, self._last.get(place.escrow, 0))
            self._escrows[place.escrow] = escrow
        number = next(self._numbers)
        self._ready[place] = number
        heappush(escrow.queue, (rank, number, place))
        escrow.ready += 1
        self._enqueue(escrow)

    def take(self) -> Place | None:
        """Return what is to be looked at next, which is under way then; None when nothing is ready."""
        for is_new in (self._new_ones_turn, not self._new_ones_turn):
            queue = self._new if is_new else self._known
            while queue:
                *_, escrow = heappop(queue)
                escrow.is_queued = False
                place = self._first_of(escrow)
                if place is not None:
                    self._new_ones_turn = not is_new
                    self._looked(escrow)
                    return place
        return None

    def ended(self, escrow: Address) -> None:
        """Note that a look at a place of an escrow is under way no more."""
        waiting = self._escrows[escrow]
        waiting.under_way -= 1
        self._enqueue(waiting)
        self._tidy(waiting)

    def drop(self, place: Place) -> None:
        """Forget a place that waits; one that does not is none."""
        if self._ready.pop(place, None) is not None:
            waiting = self._escrows[place.escrow]
            waiting.ready -= 1
            self._tidy(waiting)

    def _first_of(self, escrow: _Escrow) -> Place | None:
        while escrow.queue:
            _, number, place = heappop(escrow.queue)
            if self._ready.get(place) == number:
                del self._ready[place]
                escrow.ready -= 1
                return place
        return None

    def _looked(self, escrow: _Escrow) -> None:
        """Note that an escrow has a look: its next one comes after everybody else's."""
        escrow.under_way += 1
        escrow.last = next(self._numbers)
        self._last[escrow.address] = escrow.last
        self._last.move_to_end(escrow.address)
        if len(self._last) > MAX_ESCROWS:
            self._last.popitem(last=False)
        self._enqueue(escrow)

    def _enqueue(self, escrow: _Escrow) -> None:
        if escrow.ready and escrow.under_way < PER_ESCROW and not escrow.is_queued:
            escrow.is_queued = True
            number = next(self._numbers)
            if escrow.last:
                heappush(self._known, (escrow.last, number, escrow))
            else:
                heappush(self._new, (number, number, escrow))

    def _tidy(self, escrow: _Escrow) -> None:
        if not escrow.ready and not escrow.under_way:
            del self._escrows[escrow.address]
