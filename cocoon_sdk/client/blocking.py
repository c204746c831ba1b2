"""Running async objects from code that does not await: a private event loop, and thin typed wrappers.

Owns the loop's thread and the making of wrappers. Must not know what is wrapped.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from cocoon_sdk.errors import ConfigError

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")


class LoopThread:
    """An event loop that runs on a thread of its own until `close`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="cocoon", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        # Here and not in `close`, whose thread may be running a loop of its own.
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for it; an interrupt here cancels it there."""
        if self._loop.is_closed() or threading.current_thread() is self._thread:
            work.close()
            raise ConfigError("cannot run this call", why="the client was closed, or calls itself")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Stop the loop and wait for its thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()


class Blocking(Generic[A]):
    """A wrapper of an async object, with the loop that it lives on."""

    def __init__(self, inner: A, thread: LoopThread) -> None:
        self._inner, self._thread = inner, thread

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._inner!r}>"


def blocking(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Blocking[A], P], T]:
    """Make the blocking counterpart of an async method: same arguments, same docstring."""

    @functools.wraps(method)
    def call(self: Blocking[A], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._thread.run(method(self._inner, *args, **kwargs))

    return call
