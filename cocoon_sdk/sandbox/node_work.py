"""What waits for a node's next block: messages and actions, in the order they came, and bounded.

Owns the queue and how its callers are answered. Must not know blocks, time or storage.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from cocoon_sdk.errors import ChainUnavailableError, CocoonError, ExternalRejectedError
from cocoon_sdk.sandbox.blockchain import Blockchain

_log = logging.getLogger(__name__)


class Job:
    """One thing to do on the chain. `answer` is None when nobody waits any more: its failure is logged."""

    __slots__ = ("_error", "_value", "action", "answer", "key", "what")

    def __init__(
        self,
        action: Callable[[Blockchain], Any],
        what: str,
        *,
        key: bytes | None = None,
        answer: asyncio.Future[Any] | None = None,
    ) -> None:
        self.action, self.what, self.key, self.answer = action, what, key, answer
        self._value: Any = None
        self._error: Exception | None = None

    def perform(self, blockchain: Blockchain) -> None:
        """Do it, and remember how it went until the block is sealed."""
        try:
            self._value = self.action(blockchain)
        except Exception as error:  # an action is its caller's code: whatever it raises is its caller's
            self._error = error

    def settle(self, failure: Exception | None = None) -> None:
        """Answer whoever waits; `failure` overrules a success, since what was not sealed did not happen."""
        error = self._error or failure
        if self.answer is None:
            if error is not None:
                _log.warning("%s was dropped: %s", self.what, error)
        elif self.answer.done():
            return  # its caller was cancelled; the action itself took place
        elif error is not None:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(self._value)


class Waiting:
    """Jobs that wait for a block, oldest first; at most `limit`."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError("at least one message must be able to wait")
        self._limit = limit
        self._jobs: deque[Job] = deque()
        self._keys: set[bytes] = set()

    def add(self, job: Job) -> None:
        """Take a job. Raises `ExternalRejectedError` when too many wait."""
        if len(self._jobs) >= self._limit:
            raise ExternalRejectedError(
                f"{job.what} was not taken",
                why=f"{self._limit} messages wait for the next block already",
                hint="send again after the next block",
            )
        self._jobs.append(job)
        if job.key is not None:
            self._keys.add(job.key)

    def take(self, limit: int) -> list[Job]:
        """Remove and return the oldest jobs."""
        taken = [self._jobs.popleft() for _ in range(min(limit, len(self._jobs)))]
        self._keys.difference_update(job.key for job in taken if job.key is not None)
        return taken

    def drop(self, error: CocoonError | None = None) -> None:
        """Throw away what waits, telling whoever asked for it."""
        for job in self.take(len(self._jobs)):
            job.settle(
                error
                or ChainUnavailableError(f"{job.what} did not happen", why="the sandbox went elsewhere first")
            )

    def __contains__(self, key: bytes) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._jobs)
