"""Who may ask now: concurrency, rates and budgets, and the account of each request.

Owns admission and what a finished request is charged to its key. Must not know HTTP. Nothing here waits,
except for a chunk of a key's budget where the last one is used up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cocoon_sdk.client.sessions import EMBEDDING, Bill, ServedModel
from cocoon_sdk.client.sessions.bounds import TEMPLATE_TOKENS, RequestHead
from cocoon_sdk.gateway.budgets import Budgets, Reservation
from cocoon_sdk.gateway.catalogue import Catalogue
from cocoon_sdk.gateway.config import GatewayConfig
from cocoon_sdk.gateway.errors import (
    BudgetReachedError,
    BusyError,
    ModelNotAllowedError,
    ModelNotFoundError,
    RateLimitError,
    ShuttingDownError,
)
from cocoon_sdk.gateway.keys import ApiKey
from cocoon_sdk.gateway.limits import Bucket
from cocoon_sdk.gateway.metrics import OTHER, Metrics
from cocoon_sdk.gateway.requests import Prepared
from cocoon_sdk.protocol.pricing import Tariff
from cocoon_sdk.types import Nano

HEADROOM: Final = 2
"""How much dearer than the cheapest worker the one that serves may be, where a budget bounds the price."""
NOTHING: Final = Bill()


class Tally:
    """How many of something there are; one can wait until there are none."""

    __slots__ = ("_none", "count")

    def __init__(self) -> None:
        self.count = 0
        self._none = asyncio.Event()
        self._none.set()

    def more(self) -> None:
        """Count one more."""
        self.count += 1
        self._none.clear()

    def less(self) -> None:
        """Count one less."""
        self.count -= 1
        if not self.count:
            self._none.set()

    async def none(self) -> None:
        """Wait until there are none."""
        await self._none.wait()


@dataclass(slots=True)
class _Counts:
    """One key at this gateway."""

    under_way: int = 0
    requests: Bucket | None = None
    tokens: Bucket | None = None


@dataclass(slots=True)
class Place:
    """A request's place among those under way; `leave` frees it."""

    _under_way: Tally
    _counts: _Counts
    key: ApiKey | None
    _held: bool = True

    def leave(self) -> None:
        """Free the place; a second call does nothing."""
        if self._held:
            self._held = False
            self._counts.under_way -= 1
            self._under_way.less()


@dataclass(slots=True)
class Ticket:
    """One admitted request: what it may cost at most (None: no bound), and its account."""

    model: str
    max_price: Nano | None
    _counts: _Counts
    _metrics: Metrics
    _now: Callable[[], float]
    _unsettled: Tally
    _reservation: Reservation | None
    _label: str
    started: float
    _settled: bool = False

    def first_piece(self) -> None:
        """Note that the first piece of a streamed answer is there."""
        self._metrics.model(self._label).ttft.observe(self._now() - self.started)

    def settle(self, bill: Bill) -> None:
        """Charge the key for what was really used; a second call does nothing."""
        if self._settled:
            return
        self._settled = True
        self._unsettled.less()
        if self._reservation is not None:
            self._reservation.settle(int(bill.cost))
        if self._counts.tokens is not None:
            self._counts.tokens.take(bill.usage.input_tokens + bill.usage.output_tokens)
        self._metrics.served(self._label, bill, self._now() - self.started)


class Gate:
    """Admits requests. `now` is a steady time in seconds."""

    def __init__(
        self,
        config: GatewayConfig,
        budgets: Budgets,
        catalogue: Catalogue,
        metrics: Metrics,
        now: Callable[[], float],
    ) -> None:
        self._config, self._budgets, self._catalogue = config, budgets, catalogue
        self._metrics, self._now = metrics, now
        self._counts: dict[str, _Counts] = {}
        self._anonymous = _Counts()
        self.under_way = Tally()
        """Requests that hold a place."""
        self.unsettled = Tally()
        """Requests whose final bill is not there yet; it may come after the request has left."""
        self.closing = asyncio.Event()
        """Set when nothing new is taken any more."""

    def enter(self, key: ApiKey | None) -> Place:
        """Take a place among the requests under way, before a body is read.

        Raises `ShuttingDownError`, `BusyError`, or `RateLimitError`.
        """
        if self.closing.is_set():
            raise ShuttingDownError(
                "the gateway is shutting down", hint="Ask again when it is back", retry_after_s=5
            )
        if self.under_way.count >= self._config.max_concurrent:
            why = f"{self.under_way.count} requests are under way"
            raise BusyError("the gateway is busy", why=why, retry_after_s=1)
        counts = self._anonymous if key is None else self._of(key)
        if key is not None and counts.under_way >= self._config.max_concurrent_per_key:
            why = f"{counts.under_way} requests of this API key are under way"
            raise BusyError("too many requests at once", why=why, retry_after_s=1)
        self._check_rates(counts)
        counts.under_way += 1
        self.under_way.more()
        return Place(self.under_way, counts, key)

    async def admit(self, place: Place, request: Prepared) -> Ticket:
        """Check model and money of a request.

        Raises `ModelNotAllowedError`, `ModelNotFoundError` (for a key with a budget), `BudgetReachedError`,
        `RequestRefusedError` for a body that no worker could serve, and what finding the models raises.
        """
        key = place.key
        if key is not None and not key.allows(request.model):
            raise ModelNotAllowedError(
                f"the API key {key.name!r} may not use this model",
                why=f"it may use {', '.join(sorted(key.limits.models)[:20])}",
                param="model",
            )
        head = RequestHead.read(request.kind, request.body)
        served = await self._catalogue.find(request.model)
        max_price, reservation = self._config.max_price, None
        if key is not None:
            purse = self._budgets.of(key)
            if purse.limited:
                if served is None:
                    # Without a price nothing can be set aside, and whoever is asked next may know a worker.
                    raise ModelNotFoundError(
                        "there is no such model",
                        why="no worker serves it now",
                        hint="See the names at /v1/models",
                    )
                reservation = await self._reserve(key, head, served)
                max_price = reservation.amount
            else:
                reservation = await purse.reserve(Nano(0))
        self.unsettled.more()
        return Ticket(
            model=request.model,
            max_price=max_price,
            _counts=place._counts,
            _metrics=self._metrics,
            _now=self._now,
            _unsettled=self.unsettled,
            _reservation=reservation,
            _label=OTHER if served is None else served.name,
            started=self._now(),
        )

    async def _reserve(self, key: ApiKey, head: RequestHead, served: ServedModel) -> Reservation:
        """Set aside what the request may cost at a dear worker; where that is not left, at the cheapest."""
        most = ceiling(head, served)
        limit = self._config.max_price
        wanted = [Nano(HEADROOM * most), most] if limit is None else [min(Nano(HEADROOM * most), limit)]
        purse = self._budgets.of(key)
        try:
            return await purse.reserve(wanted[0])
        except BudgetReachedError:
            if len(wanted) == 1:
                raise
        return await purse.reserve(wanted[1])

    def _of(self, key: ApiKey) -> _Counts:
        counts = self._counts.get(key.id)
        if counts is None:
            counts = self._counts.setdefault(key.id, _Counts())
        counts.requests = self._bucket(counts.requests, key.limits.requests_per_minute)
        counts.tokens = self._bucket(counts.tokens, key.limits.tokens_per_minute)
        return counts

    def _bucket(self, bucket: Bucket | None, per_minute: int | None) -> Bucket | None:
        if per_minute is None:
            return None
        if bucket is None or bucket.per_minute != per_minute:
            return Bucket(per_minute, self._now)
        return bucket

    def _check_rates(self, counts: _Counts) -> None:
        for word, bucket in (("requests", counts.requests), ("tokens", counts.tokens)):
            if bucket is not None and (wait := bucket.wait_s()):
                raise RateLimitError(
                    f"the API key's {word} of this minute are used up",
                    why=f"it allows {bucket.per_minute} {word} a minute",
                    retry_after_s=wait,
                )
        if counts.requests is not None:
            counts.requests.take(1)


def ceiling(head: RequestHead, served: ServedModel) -> Nano:
    """Return the most that a request can cost at the cheapest worker, in nanoTON.

    No token is shorter than a byte of the body, and a chat template adds little; the answer has at most the
    tokens that were asked for, or that the model gives.
    """
    written = 0
    if head.kind != EMBEDDING:
        written = served.max_output_tokens
        if head.max_output is not None:
            written = min(written, head.max_output)
        written *= head.choices
    return Nano(Tariff(served.cheapest).price(head.body_bytes + TEMPLATE_TOKENS, 0, written))
