"""An engine that takes nothing: for a process that only settles what a worker has earned already.

Owns the refusals. It is what `cocoon worker redeem` runs with while the worker is stopped.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from cocoon_sdk.errors import EngineUnavailableError
from cocoon_worker.engine.base import EngineChunk, EngineHealth, EngineRequest, EngineResult, EngineState


class RestingEngine:
    """Never ready; every request raises `EngineUnavailableError`."""

    async def start(self) -> None:
        """Nothing is started."""

    async def stop(self) -> None:
        """Nothing was started."""

    async def health(self) -> EngineHealth:
        """Say that it rests."""
        return EngineHealth(ready=False, state=EngineState.STOPPED, detail="it only settles")

    def models(self) -> tuple[str, ...]:
        """Serve no model."""
        return ()

    async def run(self, request: EngineRequest, *, deadline_s: float) -> EngineResult:
        """Refuse."""
        raise _resting()

    async def stream(self, request: EngineRequest, *, deadline_s: float) -> AsyncGenerator[EngineChunk, None]:
        """Refuse."""
        for chunk in await self._nothing():
            yield chunk

    async def _nothing(self) -> list[EngineChunk]:
        raise _resting()

    async def count_tokens(self, request: EngineRequest) -> int | None:
        """Cannot tell."""
        return None


def _resting() -> EngineUnavailableError:
    return EngineUnavailableError(
        "the engine takes no requests", why="this process only settles", hint="Start the worker"
    )
