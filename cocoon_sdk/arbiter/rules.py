"""The decision table of docs/arbiter.md, and the numbers that follow from each row.

Owns who owes which evidence, when nothing can change any more, and the amounts in nanoTON. Pure; must not
know how evidence came, how content is judged, or who else votes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from itertools import product
from typing import Final

from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol.disputes import Ground


class Delivery(Enum):
    """What stands on chain of a result, apart from its hash."""

    ELSEWHERE = "elsewhere"
    """Nothing: it was handed over, or lies at some location."""
    SEALED = "sealed"
    """The sealed result itself; whether it opens shows the client's key only."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Which evidence is there. Each only ever goes from False to True.

    `opens` is what the client's key makes of a sealed result on chain: None without key or sealed result.
    """

    delivery: Delivery
    payload: bool = False
    result: bool = False
    client_key: bool = False
    received: bool = False
    terms: bool = False
    opens: bool | None = None


@dataclass(frozen=True, slots=True)
class SessionShown:
    """Which evidence is there about a session. The client owes all of it: nobody else can make it."""

    evidence: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What evidence alone decides. `ground` None: the content has to be judged."""

    ground: Ground | None
    late: bool = False
    with_terms: bool = False


def outcome(shown: Shown | SessionShown) -> Outcome:
    """Return what the evidence comes to if nothing is added."""
    if isinstance(shown, SessionShown):
        return Outcome(None if shown.evidence else Ground.CLIENT_SILENT)
    sealed = shown.delivery is Delivery.SEALED
    if not shown.payload:
        return Outcome(Ground.CLIENT_SILENT)
    if not shown.result:
        if sealed and shown.opens is None:
            return Outcome(Ground.CLIENT_SILENT)
        return Outcome(Ground.WORKER_SILENT)
    late = shown.opens is False if sealed else not shown.received
    return Outcome(None, late=late, with_terms=shown.terms)


def _could_become(shown: Shown | SessionShown) -> Iterator[Shown | SessionShown]:
    """Yield every state that more evidence could lead to, the present one included."""
    if isinstance(shown, SessionShown):
        yield from {shown, SessionShown(evidence=True)}
        return

    def either(there: bool) -> tuple[bool, ...]:
        return (True,) if there else (False, True)

    choices = product(
        either(shown.payload),
        either(shown.result),
        either(shown.client_key),
        either(shown.received),
        either(shown.terms),
    )
    for payload, result, client_key, received, terms in choices:
        more = replace(
            shown, payload=payload, result=result, client_key=client_key, received=received, terms=terms
        )
        sealed = shown.delivery is Delivery.SEALED
        if client_key and payload and sealed and shown.opens is None:
            yield replace(more, opens=False)
            yield replace(more, opens=True, result=True)
        else:
            yield more


def is_settled(shown: Shown | SessionShown) -> bool:
    """Tell whether no further evidence can change the outcome: then nobody has to wait for the deadline."""
    now = outcome(shown)
    return all(outcome(later) == now for later in _could_become(shown))


# -- numbers -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the contract allows a verdict: the submitted amount (none in a session), and the largest slash."""

    amount: int
    max_slash: int

    @classmethod
    def of(cls, amount: int, collateral: int, slash_bps: int) -> Bounds:
        """Compute them as the contract does: the slash is rounded down."""
        return cls(amount, collateral * slash_bps // c.BASIS_POINTS)


_PAID: Final = frozenset(
    {Ground.CLIENT_SILENT, Ground.BAD_PAYLOAD, Ground.NOT_CHECKABLE, Ground.HONEST, Ground.SUSPECT}
)
_SLASHED: Final = frozenset({Ground.WORKER_SILENT, Ground.BAD_RESULT, Ground.NO_COMMITMENT, Ground.SLASH})


def numbers(ground: Ground, bounds: Bounds, *, late: bool = False, due: int = 0) -> tuple[int, int]:
    """Return pay and slash. `due` is what an overcharging worker's own usage costs.

    A late worker that wins gets one nanoTON less: whoever gets less than it asked for pays the arbiters.
    """
    if ground in _SLASHED:
        return 0, bounds.max_slash
    if ground in _PAID:
        return (max(0, bounds.amount - 1) if late else bounds.amount), 0
    if ground is Ground.OVERCHARGED:
        return max(0, min(due, bounds.amount - 1)), 0
    return 0, 0


def severity(verdict: tuple[int, int]) -> tuple[int, int]:
    """Return the order of verdicts from the mildest for the worker to the harshest."""
    pay, slash = verdict
    return slash, -pay
