"""The models that workers serve now, as requests need to know them: at once.

Owns a short-lived copy. Must not know how they are found. A copy that is a little old is used while a newer
one is fetched beside, so that no request waits for the chain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from cocoon_sdk.client.sessions import ServedModel
from cocoon_sdk.errors import CocoonError

FRESH_S: Final = 5.0
USABLE_S: Final = 60.0


class ModelSource(Protocol):
    """Where models are found (`InferenceClient`)."""

    async def models(self) -> tuple[ServedModel, ...]:
        """Return the models that at least one worker serves."""
        ...


class Catalogue:
    """Models by name. `now` is a steady time in seconds."""

    def __init__(self, source: ModelSource, now: Callable[[], float]) -> None:
        self._source, self._now = source, now
        self._models: Mapping[str, ServedModel] = {}
        self._by_id: Mapping[str, ServedModel] = {}
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self.trouble: CocoonError | None = None
        """Why the newest look failed; None when it did not."""

    async def models(self) -> Mapping[str, ServedModel]:
        """Return all models by name. Raises what finding them raised when no usable copy is left."""
        age = self._now() - self._read_at
        if age >= FRESH_S:
            reading = self._read()
            if age >= USABLE_S:
                await asyncio.shield(reading)
                if self.trouble is not None:
                    raise self.trouble
        return self._models

    async def find(self, name: str) -> ServedModel | None:
        """Return a model by its name, or by its id as workers' clients take it (hexadecimal digits).

        Looks anew for one that is missing, at most once in `FRESH_S`.
        """
        await self.models()
        found = self._known(name)
        if found is None and self._reading is not None:
            await asyncio.shield(self._reading)
            found = self._known(name)
        return found

    def _known(self, name: str) -> ServedModel | None:
        return self._models.get(name) or self._by_id.get(name.lower())

    def _read(self) -> asyncio.Task[None]:
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._look())
        return self._reading

    async def _look(self) -> None:
        try:
            found = await self._source.models()
            self._models = {model.name: model for model in found}
            self._by_id = {model.model_id.hex(): model for model in found}
            self._read_at = self._now()
            self.trouble = None
        except CocoonError as error:
            self.trouble = error
        finally:
            self._reading = None

    async def close(self) -> None:
        """Stop looking."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
