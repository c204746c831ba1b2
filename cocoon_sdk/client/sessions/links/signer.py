"""Whether the receipts of a link count: a guarded session's have to be signed by its worker's stake.

Owns comparing a link's key with the stake's, once for each link and guard, and what is asked of a worker
before it is greeted anew. Must not know requests, or how links are made.

Arbiters count the keys only that the stake had from the moment its collateral was in the session. A worker
whose key is replaced just before that, and which goes on signing with the old one on links that are open,
would hand out receipts that nobody can hold against it. The key that the stake has when its guard has been
seen is one of those that count.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from pytoniq_core import Address

from cocoon_sdk.client.sessions.errors import DishonestWorkerError, UnknownTermsError
from cocoon_sdk.client.sessions.funds.holding import HeldSession
from cocoon_sdk.client.sessions.links.link import Link
from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.errors import CocoonError

log: Final = logging.getLogger("cocoon.sessions")

_AGAIN_S: Final = 30.0
"""After a chain that did not answer, it is asked again at the earliest so many seconds later."""


class StakeKeys(Protocol):
    """Where the chain's word on a worker's key comes from (`SessionManager`)."""

    async def stake_key(self, worker: Address) -> int:
        """Return the operator key that a stake has now. Raises `ChainError`."""
        ...


class SignerCheck:
    """Looks after the key of one session's links. `distrusted`: its last link had another than the stake."""

    def __init__(self, keys: StakeKeys, held: HeldSession, clock: Callable[[], float]) -> None:
        self._keys, self._held, self._clock = keys, held, clock
        self._checked: tuple[Link, int] | None = None
        self._running = False
        self._not_before = clock()
        self.distrusted = False

    def begin(self, link: Link) -> Coroutine[Any, Any, None] | None:
        """Return the check of a link, to be run beside its answers; None when there is nothing to check."""
        guard = self._held.guard
        if not guard or link.error is not None or self._running or self._clock() < self._not_before:
            return None
        if self._checked is not None and self._checked[0] is link and self._checked[1] == guard:
            return None
        self._running = True
        return self._check(link, guard)

    async def _check(self, link: Link, guard: int) -> None:
        try:
            key = await self._keys.stake_key(self._held.ref.worker)
        except CocoonError as error:
            self._not_before = self._clock() + _AGAIN_S
            log.info("cannot tell who signs for session %d: %s", self._held.ref.session_id, error)
            return
        finally:
            self._running = False
        if key == link.operator.to_int():
            self._checked, self.distrusted = (link, guard), False
            return
        self.distrusted = True
        log.warning(
            "session %d: its worker signs with another key than its stake's", self._held.ref.session_id
        )
        link.drop(
            UnknownTermsError(
                "the worker's receipts would count for nothing",
                why="its stake has another operator key than the one that signs them",
            )
        )

    async def before_greeting(self, operator: VerifyKey) -> None:
        """Ask the chain for the key once more if the last link had a wrong one; no latency otherwise.

        Raises `UnknownTermsError` when the offer names another key than the stake has: it has to be read
        again. Raises `ChainError`.
        """
        if self.distrusted and await self._keys.stake_key(self._held.ref.worker) != operator.to_int():
            why = "its stake has another operator key by now"
            raise UnknownTermsError("the worker's announcement is out of date", why=why)

    def stranger(self) -> DishonestWorkerError:
        """Return the error for a worker that was greeted by its stake's key, and does not have it."""
        why = "it signs with another key than its stake has: nobody could hold its receipts against it"
        return DishonestWorkerError("the worker is not honest", why=why)
