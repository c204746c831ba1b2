"""Who offers a model now, without asking the chain for every request.

Owns keeping lists of offers fresh: what is known is used at once and renewed beside the request. Must not
know what workers did for us, or sessions.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from pytoniq_core import Address

from cocoon_sdk.client.discovery import WorkerList, WorkerOffer
from cocoon_sdk.client.sessions.bounds import Tariff
from cocoon_sdk.client.sessions.values import ServedModel
from cocoon_sdk.contracts.registry import RegisteredModel
from cocoon_sdk.errors import CocoonError, UnknownModelError

log: Final = logging.getLogger("cocoon.sessions")

FRESH_S: Final = 30.0
"""Younger lists are used as they are."""
USABLE_S: Final = 900.0
"""Older lists are not used any more; between both, a list is used while it is renewed."""
MISSING_S: Final = 5.0
"""How long a model that the registry does not list is not asked for again."""
MAX_MODELS: Final = 1024
_PARALLEL: Final = 4


class OfferSource(Protocol):
    """Where offers are read (`AsyncWorkers`)."""

    async def list(self, model: str | bytes) -> WorkerList:
        """Return who serves a model."""
        ...


class ModelSource(Protocol):
    """Where models are read (`AsyncModels`)."""

    async def list(self) -> tuple[RegisteredModel, ...]:
        """Return all models."""
        ...


@dataclass(frozen=True, slots=True)
class Listing:
    """An offer with its prices ready for use. `key` is the worker's account, to look it up by."""

    offer: WorkerOffer
    tariff: Tariff
    key: bytes

    @classmethod
    def of(cls, offer: WorkerOffer) -> Listing:
        """Make an offer ready."""
        return cls(offer, Tariff(offer.terms), bytes(offer.address.hash_part))

    @property
    def worker(self) -> Address:
        """The worker's stake."""
        return self.offer.address


@dataclass(slots=True)
class _Entry:
    listings: tuple[Listing, ...]
    why_ignored: str
    read_at: float
    outdated: bool = False


class Catalogue:
    """Offers by model; close it when done."""

    def __init__(
        self, workers: OfferSource, models: ModelSource, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._workers, self._models, self._clock = workers, models, clock
        self._entries: dict[str, _Entry] = {}
        self._missing: dict[str, tuple[float, UnknownModelError]] = {}
        self._reading: dict[str, asyncio.Task[_Entry]] = {}

    async def offers(self, model: str) -> tuple[Listing, ...]:
        """Return the offers of workers that have an endpoint, cheapest first.

        Raises `UnknownModelError` and `ChainError` when nothing usable is known.
        """
        entry = self._entries.get(model)
        if entry is not None and not entry.outdated:
            age = self._clock() - entry.read_at
            if age < FRESH_S:
                return entry.listings
            if age < USABLE_S:
                self._renew(model)
                return entry.listings
        missing = self._missing.get(model)
        if missing is not None and self._clock() - missing[0] < MISSING_S:
            error = missing[1]
            raise UnknownModelError(error.what, why=error.why, hint=error.hint)
        return (await asyncio.shield(self._renew(model))).listings

    def why_ignored(self, model: str) -> str:
        """Return one line that says who was left out of the list, for error messages."""
        entry = self._entries.get(model)
        return entry.why_ignored if entry is not None else ""

    def outdated(self, model: str) -> None:
        """Read a model's offers again before they are used next: a worker does not know its terms."""
        entry = self._entries.get(model)
        if entry is not None:
            entry.outdated = True

    async def served(self) -> tuple[ServedModel, ...]:
        """Return the models that at least one worker with an endpoint serves, by name."""
        limit = asyncio.Semaphore(_PARALLEL)

        async def look(entry: RegisteredModel) -> ServedModel | None:
            name = entry.name or entry.model_id.hex()
            async with limit:
                try:
                    return _served(name, await self.offers(name))
                except UnknownModelError:
                    return None  # several models of that name: it can be asked for by its id only

        found = await asyncio.gather(*(look(entry) for entry in (await self._models.list())[:MAX_MODELS]))
        return tuple(sorted((each for each in found if each), key=lambda each: each.name))

    async def close(self) -> None:
        """Stop reading."""
        tasks = list(self._reading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _renew(self, model: str) -> asyncio.Task[_Entry]:
        task = self._reading.get(model)
        if task is None:
            task = asyncio.create_task(self._read(model), name="cocoon sessions: offers")
            self._reading[model] = task
            task.add_done_callback(lambda done: self._read_ended(model, done))
        return task

    def _read_ended(self, model: str, task: asyncio.Task[_Entry]) -> None:
        del self._reading[model]
        if not task.cancelled() and isinstance(error := task.exception(), CocoonError):
            log.info("cannot read who offers %s: %s", model, error)

    async def _read(self, model: str) -> _Entry:
        try:
            found = await self._workers.list(model)
        except UnknownModelError as error:
            if len(self._missing) >= MAX_MODELS:
                self._missing.clear()
            self._missing[model] = self._clock(), error
            raise
        listings = tuple(Listing.of(offer) for offer in found if offer.endpoint)
        entry = _Entry(listings, found.why_ignored(), self._clock())
        if len(self._entries) >= MAX_MODELS:
            self._entries.clear()
        self._entries[model] = entry
        return entry


def _served(name: str, listings: tuple[Listing, ...]) -> ServedModel | None:
    if not listings:
        return None
    offers = [listing.offer for listing in listings]
    return ServedModel(
        name=name,
        model_id=bytes(offers[0].model.model_id),
        workers=len(offers),
        cheapest=offers[0].terms,
        max_context=max(offer.offer.max_context for offer in offers),
        max_output_tokens=max(offer.offer.max_output_tokens for offer in offers),
        announced_at=max(offer.announced_at for offer in offers),
    )
