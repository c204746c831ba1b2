"""`AsyncModels`: which models a network knows, by id or by name.

Owns resolving what a caller calls a model. Must not know who serves it.
"""

from __future__ import annotations

from typing import Any

from cocoon_sdk.client.context import ClientContext
from cocoon_sdk.contracts.registry import RegisteredModel, model_id_of
from cocoon_sdk.errors import MalformedError, UnknownModelError
from cocoon_sdk.protocol.hashing import HASH_BYTES
from cocoon_sdk.types import Hash


class AsyncModels:
    """The models that the registry lists; get it as `AsyncCocoon.models`."""

    def __init__(self, context: ClientContext) -> None:
        self._context = context

    async def list(self) -> tuple[RegisteredModel, ...]:
        """Return all models of the network."""
        return await self._context.registry.models()

    async def get(self, model: str | bytes) -> RegisteredModel:
        """Return a model by its id (32 bytes, or 64 hexadecimal digits) or by its registered name.

        Raises `UnknownModelError` when there is none, or several of that name.
        """
        model_id = _as_id(model)
        if model_id is not None:
            found = await self._context.registry.model(model_id)
            if found is not None:
                return found
            listed: tuple[RegisteredModel, ...] = ()
        else:
            listed = tuple(entry for entry in await self.list() if entry.name == model)
        if len(listed) == 1:
            return listed[0]
        name = model if isinstance(model, str) else bytes(model).hex()
        raise UnknownModelError(
            f"no such model: {name[:200]}",
            why=f"the registry lists {len(listed) or 'none'} under that {'id' if model_id else 'name'}",
            hint="See models.list(); a model's id is the hash of its manifest",
        )

    @staticmethod
    def id_of(manifest: dict[str, Any]) -> Hash:
        """Return the id of a model from its manifest. Raises `MalformedError` when it is no JSON."""
        return model_id_of(manifest)


def _as_id(model: str | bytes) -> Hash | None:
    if isinstance(model, bytes):
        if len(model) != HASH_BYTES:
            raise MalformedError("not a model id", why=f"{len(model)} bytes instead of {HASH_BYTES}")
        return Hash(model)
    digits = set("0123456789abcdef")
    if len(model) == 2 * HASH_BYTES and set(model.lower()) <= digits:
        return Hash(bytes.fromhex(model))
    return None
