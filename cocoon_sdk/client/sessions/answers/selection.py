"""Which worker is asked: what it costs, how fast and how reliably it answered, and whether a session is open.

Owns the experience with workers and the order that follows from it. Must not know links or frames. Everything
is weighed in nanoTON, so that a score can be explained: price, what waiting is worth, a share of what opening
a session costs, all divided by the share of requests that succeed.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cocoon_sdk.client.sessions.answers.catalogue import Listing
from cocoon_sdk.client.sessions.bounds import LIKELY_BYTES_PER_TOKEN, RequestHead
from cocoon_sdk.client.sessions.values import CHAT, Candidate
from cocoon_sdk.types import Nano

MAX_WORKERS: Final = 4096
_TYPICAL_OUTPUT: Final = 256
TYPICAL: Final = RequestHead(CHAT, 1024, _TYPICAL_OUTPUT, 1, False)
"""What a candidate's price is told for when no request is at hand."""
_UNKNOWN_TTFT_S: Final = 1.0
_PRIOR_GOOD: Final = 1.8
_PRIOR_ALL: Final = 2.0
_FEWEST_BYTES_PER_TOKEN: Final = 12
"""A prompt that is longer than the context even at this rate is sent to nobody."""
_SECOND_WORTH: Final = Nano(20_000)
_OPENING_WORTH: Final = Nano(30_000)


@dataclass(frozen=True, slots=True)
class SelectionPolicy:
    """How workers are weighed. Worths are in nanoTON.

    `second_worth` is what a second until the first token is worth, `opening_worth` the share of an opening's
    cost that one request bears. `known_after` requests a worker is no stranger any more; one choice in
    `explore_every` goes to a stranger, if it costs at most `explore_price` times the best one's score. A
    failing worker is left alone for `cool_s` seconds, doubled with every failure, up to `cool_most_s`; one
    whose numbers were wrong for `banned_s`. `memory` is the weight of what is new.
    """

    second_worth: Nano = _SECOND_WORTH
    opening_worth: Nano = _OPENING_WORTH
    known_after: int = 3
    explore_every: int = 20
    explore_price: int = 2
    cool_s: float = 1.0
    cool_most_s: float = 60.0
    banned_s: float = 3600.0
    memory: float = 0.2


class Experience:
    """What came of asking one worker. Times are monotonic seconds."""

    __slots__ = ("_all", "_good", "cool_until", "in_a_row", "requests", "ttft_s", "under_way", "why")

    def __init__(self) -> None:
        self.ttft_s: float | None = None
        self.requests = 0
        self.under_way = 0
        self.in_a_row = 0
        self.cool_until = 0.0
        self.why = ""
        self._good = self._all = 0.0

    @property
    def success_rate(self) -> float:
        """Share of requests that succeeded, lately; a stranger gets the benefit of the doubt."""
        return (self._good + _PRIOR_GOOD) / (self._all + _PRIOR_ALL)

    def note(self, good: bool, memory: float) -> None:
        """Note how a request ended."""
        keep = 1.0 - memory / 4
        self._good, self._all = self._good * keep + good, self._all * keep + 1.0
        self.requests += 1


class Selection:
    """The experience with all workers, and choices by it."""

    def __init__(
        self, policy: SelectionPolicy | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.policy, self._clock = policy or SelectionPolicy(), clock
        self._known: OrderedDict[bytes, Experience] = OrderedDict()
        self._choices = 0

    def of(self, worker: bytes) -> Experience:
        """Return the experience with a worker's account."""
        known = self._known.get(worker)
        if known is None:
            known = self._known[worker] = Experience()
            if len(self._known) > MAX_WORKERS:
                self._forget_one()
        return known

    def _forget_one(self) -> None:
        oldest = next((key for key, each in self._known.items() if each.cool_until != math.inf), None)
        if oldest is None:
            self._known.popitem(last=False)
        else:
            del self._known[oldest]

    # -- what happened ---------------------------------------------------------------------------------

    def began(self, worker: bytes) -> None:
        """A request was sent."""
        self.of(worker).under_way += 1

    def ended(self, worker: bytes) -> None:
        """A request that was sent has ended, whichever way."""
        known = self.of(worker)
        known.under_way = max(0, known.under_way - 1)

    def first_piece(self, worker: bytes, ttft_s: float) -> None:
        """A first piece came after so many seconds."""
        known, memory = self.of(worker), self.policy.memory
        known.ttft_s = ttft_s if known.ttft_s is None else known.ttft_s * (1 - memory) + ttft_s * memory

    def succeeded(self, worker: bytes) -> None:
        """An answer is complete."""
        known = self.of(worker)
        known.note(True, self.policy.memory)
        known.in_a_row = 0
        if (
            known.cool_until != math.inf
        ):  # a request that was under way when its worker was left changes nothing
            known.cool_until, known.why = 0.0, ""

    def failed(self, worker: bytes, why: str) -> None:
        """A worker failed: it is left alone for a while, longer each time."""
        known = self.of(worker)
        known.note(False, self.policy.memory)
        known.in_a_row += 1
        pause = self.policy.cool_s * float(1 << min(known.in_a_row - 1, 16))
        self._cool(known, min(pause, self.policy.cool_most_s), why)

    def lied(self, worker: bytes, why: str) -> None:
        """A worker's numbers were wrong."""
        known = self.of(worker)
        known.note(False, self.policy.memory)
        self._cool(known, self.policy.banned_s, why)

    def left(self, worker: bytes, why: str) -> None:
        """A worker's results were found to be wrong: it is not asked any more."""
        known = self._known.get(worker)
        if known is None or known.cool_until != math.inf:
            self._cool(self.of(worker), math.inf, why)

    def come_back(self, worker: bytes) -> None:
        """A worker that was left is asked again."""
        known = self._known.get(worker)
        if known is not None and known.cool_until == math.inf:
            known.cool_until, known.why = 0.0, ""

    def unavailable(self, worker: bytes, seconds: float, why: str) -> None:
        """A worker is busy, or no session with it can be had: no fault of its answers."""
        self._cool(self.of(worker), seconds, why)

    def _cool(self, known: Experience, seconds: float, why: str) -> None:
        if known.cool_until != math.inf:
            known.cool_until, known.why = max(known.cool_until, self._clock() + seconds), why

    # -- choosing --------------------------------------------------------------------------------------

    def cooling(self, worker: bytes) -> float:
        """Return for how many seconds more a worker is left alone, 0 when it is not."""
        return max(0.0, self.of(worker).cool_until - self._clock())

    def order(
        self, listings: Sequence[Listing], head: RequestHead, remaining: Callable[[Listing], Nano | None]
    ) -> list[Listing]:
        """Return who may be asked, best first; sometimes a stranger first, to get to know it."""
        usable = [each for each in listings if self.cooling(each.key) == 0.0 and not _too_long(each, head)]
        if len(usable) < 2:
            return usable
        scores = {each.key: self.score(each, head, remaining(each)) for each in usable}
        usable.sort(key=lambda each: (scores[each.key], -each.offer.lockable, each.key))
        self._choices += 1
        if self._choices % self.policy.explore_every == 0:
            self._explore(usable, scores)
        return usable

    def _explore(self, usable: list[Listing], scores: dict[bytes, int]) -> None:
        strangers = [each for each in usable if self.of(each.key).requests < self.policy.known_after]
        # One at a time: getting to know a worker costs a session.
        if any(self.of(each.key).under_way for each in strangers):
            return
        most = scores[usable[0].key] * self.policy.explore_price
        found = next((each for each in strangers if scores[each.key] <= most), None)
        if found is not None:
            usable.remove(found)
            usable.insert(0, found)

    def score(self, listing: Listing, head: RequestHead, remaining: Nano | None) -> int:
        """Return what asking this worker is expected to cost, all in all, in nanoTON."""
        known, policy = self.of(listing.key), self.policy
        ttft_s = _UNKNOWN_TTFT_S if known.ttft_s is None else known.ttft_s
        price = _likely_price(listing, head)
        cost = price + int(int(policy.second_worth) * ttft_s)
        if remaining is None or remaining < price:
            cost += int(policy.opening_worth)
        return int(cost / known.success_rate)

    def explain(
        self, listings: Sequence[Listing], remaining: Callable[[Listing], Nano | None]
    ) -> tuple[Candidate, ...]:
        """Return all workers, best first, with the reasons."""
        candidates = [self._candidate(each, remaining(each)) for each in listings]
        candidates.sort(key=lambda each: (not each.usable, each.score, -each.lockable))
        return tuple(candidates)

    def _candidate(self, listing: Listing, remaining: Nano | None) -> Candidate:
        known, cooling = self.of(listing.key), self.cooling(listing.key)
        price = Nano(_likely_price(listing, TYPICAL))
        reasons = [f"{price} for a typical request"]
        if known.ttft_s is None:
            reasons.append("no experience with it yet")
        else:
            reasons.append(f"{known.ttft_s:.2f} s to the first token, lately")
        reasons.append(f"{known.success_rate:.0%} of {known.requests} requests succeeded, the last ones most")
        if remaining is None:
            reasons.append(f"no session open: opening one counts {self.policy.opening_worth}")
        else:
            reasons.append(f"{remaining} left in the session")
        if cooling == math.inf:
            reasons.append(f"left for good: {known.why}")
        elif cooling:
            reasons.append(f"left alone for {cooling:.0f} s more: {known.why}")
        return Candidate(
            worker=listing.worker,
            usable=not cooling,
            score=Nano(self.score(listing, TYPICAL, remaining)),
            price=price,
            ttft_s=known.ttft_s,
            success_rate=known.success_rate,
            requests=known.requests,
            remaining=remaining,
            lockable=listing.offer.lockable,
            reasons=tuple(reasons),
        )


def _likely_price(listing: Listing, head: RequestHead) -> int:
    output = _TYPICAL_OUTPUT if head.max_output is None else min(_TYPICAL_OUTPUT, head.max_output)
    return listing.tariff.price(head.body_bytes // LIKELY_BYTES_PER_TOKEN, 0, output)


def _too_long(listing: Listing, head: RequestHead) -> bool:
    return head.body_bytes // _FEWEST_BYTES_PER_TOKEN > listing.offer.offer.max_context
