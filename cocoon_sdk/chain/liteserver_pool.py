"""A pool of liteservers: connections, limits, and asking until an answer holds.

Owns what happens between a question and an answer that was checked: order of the servers, rate limits,
failover, distrust of those that lie, agreement of several. Must not know what questions mean, or how a
connection is made (`liteserver_client`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pytoniq.liteclient.client import LiteServerError

from cocoon_sdk.chain.liteserver_client import FollowingClient, ReconnectingBalancer
from cocoon_sdk.chain.liteserver_config import Liteserver, LiteserverConfig
from cocoon_sdk.chain.liteserver_limits import PoolLimits, TokenBucket
from cocoon_sdk.chain.proofs import ProofError
from cocoon_sdk.clock import Clock
from cocoon_sdk.errors import (
    ChainError,
    ChainStaleError,
    ChainTimeoutError,
    ChainUnavailableError,
)

T = TypeVar("T")
Answer = dict[str, Any]

_LOG = logging.getLogger(__name__)
_LAG: Final = 2
"""Blocks that a server may be behind the foremost one before others are asked first."""
_MAX_WHY: Final = 300


class ServerRefusedError(ChainUnavailableError):
    """Servers answered with an error of their own; `answer` is its text, `code` its number."""

    def __init__(self, what: str, *, code: int, answer: str) -> None:
        super().__init__(what, why=answer[:_MAX_WHY])
        self.code, self.answer = code, answer


class _LostError(ChainUnavailableError):
    """A connection ended before the answer came."""


class ServersDisagreeError(ChainError):
    """Servers contradict each other, and no side has enough of them."""


@dataclass
class _Server:
    config: Liteserver
    client: FollowingClient
    gate: asyncio.Semaphore
    bucket: TokenBucket | None
    latency: float = 0.0
    distrusted_until: int = 0

    def __str__(self) -> str:
        return str(self.config)


@dataclass
class _Outcome:
    """What the servers asked so far have said: every different answer with the servers that gave it."""

    votes: list[tuple[Any, list[_Server]]] = field(default_factory=list)
    failures: list[tuple[_Server, Exception]] = field(default_factory=list)

    def vote(self, server: _Server, value: object) -> None:
        for known, voters in self.votes:
            if known == value:
                voters.append(server)
                return
        self.votes.append((value, [server]))

    @property
    def only_lost(self) -> bool:
        """Whether nobody has said anything, and every connection ended."""
        return not self.votes and all(isinstance(error, _LostError) for _, error in self.failures)

    def missing(self, quorum: int) -> int:
        return quorum - max((len(voters) for _, voters in self.votes), default=0)


class LiteserverPool:
    """Asks the servers of a configuration. Connects at the first question; bound to that event loop."""

    def __init__(
        self,
        config: LiteserverConfig,
        *,
        limits: PoolLimits,
        clock: Clock,
        chance: random.Random | None = None,
    ) -> None:
        self.config, self.limits, self._clock = config, limits, clock
        self._chance = chance or random.Random()  # noqa: S311  # which servers share the load is no secret
        self._starting = asyncio.Lock()
        self._servers: list[_Server] = []
        self._balancer: ReconnectingBalancer | None = None
        self._waiters: set[asyncio.Future[None]] = set()
        self._closed = False

    @property
    def newest_seqno(self) -> int:
        """Seqno of the foremost block that a connected server claims to have; 0 without any."""
        blocks = [server.client.newest for server in self._servers if self._is_usable(server)]
        return max((block.seqno for block in blocks if block), default=0)

    async def ask(
        self, name: str, data: Answer, read: Callable[[Answer], T], *, wait_seqno: int = 0, quorum: int = 1
    ) -> T:
        """Ask `liteServer.<name>` until `quorum` servers give answers that `read` makes the same thing of.

        Each server first waits until it has masterchain block `wait_seqno`. `read` raises `ProofError` for
        an answer that does not hold; its server is then left alone for a while. Raises
        `ServerRefusedError`, `ServersDisagreeError`, `ProofError`, `ChainTimeoutError` or
        `ChainUnavailableError` when no answer holds.
        """
        outcome = _Outcome()
        await self._ask_around(outcome, name, data, read, wait_seqno, quorum)
        if outcome.only_lost:
            # Connections ended before anything was said: what is connected by now is asked once more.
            outcome = _Outcome()
            await self._ask_around(outcome, name, data, read, wait_seqno, quorum)
        if outcome.missing(quorum) > 0:
            raise self._failure(name, outcome, quorum)
        outcome.votes.sort(key=lambda vote: -len(vote[1]))
        for _, voters in outcome.votes[1:]:
            for server in voters:
                self._distrust(server, f"{name}: it contradicts {quorum} others")
        winner: T = outcome.votes[0][0]
        return winner

    async def _ask_around(
        self,
        outcome: _Outcome,
        name: str,
        data: Answer,
        read: Callable[[Answer], object],
        wait_seqno: int,
        quorum: int,
    ) -> None:
        """Ask the best servers, as many at once as answers are missing, until there are enough."""
        waiting = (await self.usable())[: max(self.limits.attempts, quorum)]
        while waiting and (missing := outcome.missing(quorum)) > 0:
            asked, waiting = waiting[:missing], waiting[missing:]
            answers = await asyncio.gather(
                *(self._ask_one(server, name, data, wait_seqno) for server in asked), return_exceptions=True
            )
            for server, answer in zip(asked, answers, strict=True):
                self._count(outcome, server, answer, read)

    async def tell(self, name: str, data: Answer, count: int) -> list[Answer | Exception]:
        """Ask `count` servers at once and return what each answered or failed with; nothing is repeated."""
        servers = (await self.usable())[:count]
        answers = await asyncio.gather(
            *(self._ask_one(server, name, data, 0) for server in servers), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, Exception):
                raise answer
        return [answer for answer in answers if isinstance(answer, dict | Exception)]

    async def wait_for_change(self, timeout_s: float) -> None:
        """Wait until a server has a new block, or connects, or the time is over."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=timeout_s)
        finally:
            self._waiters.discard(waiter)
        self._check_open()

    async def usable(self) -> list[_Server]:
        """Return the servers that may be asked, best first. Raises `ChainUnavailableError` without any."""
        await self._start()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.limits.connect_timeout_s
        while not (found := self._ranked()) and (remaining := deadline - loop.time()) > 0:
            if self._distrusted == len(self._servers):
                break  # no connection will help
            await self.wait_for_change(remaining)
        if not found:
            distrusted = self._distrusted
            lied = f"; {distrusted} of them gave answers that do not hold" if distrusted else ""
            raise ChainUnavailableError(
                f"none of {len(self._servers)} liteservers can be asked",
                why=f"no connection to those of {self.config.origin}{lied}",
                hint="Check the connection, or take a current list of liteservers from a file",
            )
        return found

    async def close(self) -> None:
        """End all connections; further questions raise `ChainUnavailableError`."""
        self._closed = True
        self._changed()
        async with self._starting:
            balancer, self._balancer = self._balancer, None
            if balancer is not None:
                await balancer.close_all()

    # -- connections ----------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise ChainUnavailableError(
                "the liteservers cannot be asked", why="the chain was closed", hint="Make a new one"
            )

    async def _start(self) -> None:
        self._check_open()
        async with self._starting:
            self._check_open()
            if self._balancer is not None:
                return
            chosen = list(self.config.servers)
            if len(chosen) > self.limits.servers:
                chosen = self._chance.sample(chosen, self.limits.servers)
            self._servers = [self._server(server) for server in chosen]
            balancer = ReconnectingBalancer([server.client for server in self._servers])
            await balancer.start_up()
            self._balancer = balancer

    def _server(self, config: Liteserver) -> _Server:
        limits = self.limits
        # Rates spare other people's servers; one's own on the same machine needs none.
        rate = None if config.is_local else limits.requests_per_s
        return _Server(
            config,
            FollowingClient(config, limits, self._changed),
            asyncio.Semaphore(limits.concurrency),
            None if rate is None else TokenBucket(rate, limits.burst),
        )

    def _changed(self) -> None:
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    @property
    def _distrusted(self) -> int:
        return sum(server.distrusted_until > self._clock.now() for server in self._servers)

    def _is_usable(self, server: _Server) -> bool:
        return server.client.usable and server.distrusted_until <= self._clock.now()

    def _ranked(self) -> list[_Server]:
        servers = [server for server in self._servers if self._is_usable(server)]
        foremost = self.newest_seqno

        def rank(server: _Server) -> tuple[bool, float]:
            newest = server.client.newest
            return newest is None or newest.seqno < foremost - _LAG, server.latency

        return sorted(servers, key=rank)

    # -- one question ---------------------------------------------------------------------------------------

    async def _ask_one(self, server: _Server, name: str, data: Answer, wait_seqno: int) -> Answer:
        self._check_open()
        loop = asyncio.get_running_loop()
        async with server.gate:
            if server.bucket is not None and (pause := server.bucket.reserve(loop.time())):
                await self._clock.sleep(pause)
            started = loop.time()
            answer: Answer
            try:
                if wait_seqno:
                    wait_ms = int(min(self.limits.wait_s, self.limits.timeout_s * 0.8) * 1000)
                    answer = await server.client.wait_masterchain_seqno(wait_seqno, wait_ms, name, data)
                else:
                    answer = await server.client.liteserver_request(name, data)
            except TimeoutError:
                # A server that does not answer is as good as gone: a new connection, or another server.
                await server.client.give_up()
                raise ChainTimeoutError(f"{name}: {server} did not answer") from None
            except LiteServerError as error:
                code = error.code if isinstance(error.code, int) else 0
                raise ServerRefusedError(name, code=code, answer=str(error.message)) from None
            except Exception as error:  # a connection that ends shows itself in half a dozen exceptions
                await server.client.give_up()
                why = f"{type(error).__name__}: {str(error)[:_MAX_WHY]}"
                raise _LostError(f"{name}: {server} cannot be asked", why=why) from error
            took = loop.time() - started
            server.latency = took if not server.latency else 0.8 * server.latency + 0.2 * took
            if not isinstance(answer, dict):
                raise ChainUnavailableError(f"{name}: {server} answered in no known form")
            return answer

    def _count(
        self,
        outcome: _Outcome,
        server: _Server,
        answer: Answer | BaseException,
        read: Callable[[Answer], Any],
    ) -> None:
        try:
            if isinstance(answer, BaseException):
                raise answer
            outcome.vote(server, read(answer))
        except ProofError as error:
            self._distrust(server, str(error))
            outcome.failures.append((server, error))
        except ChainError as error:
            outcome.failures.append((server, error))

    def _distrust(self, server: _Server, why: str) -> None:
        _LOG.warning("liteserver %s is left alone for %d s: %s", server, self.limits.distrust_s, why)
        server.distrusted_until = self._clock.now() + self.limits.distrust_s

    def _failure(self, name: str, outcome: _Outcome, quorum: int) -> ChainError:
        if len(outcome.votes) > 1:
            return ServersDisagreeError(
                f"{name}: liteservers contradict each other",
                why=f"no {quorum} of those asked gave the same answer",
                hint="Wait for the next block, or name servers that you trust",
            )
        errors = [error for _, error in outcome.failures]
        for kind in (ProofError, ServerRefusedError, ChainStaleError):
            for error in errors:
                if isinstance(error, kind):
                    return error
        why = "; ".join(f"{server}: {error}" for server, error in outcome.failures)[:_MAX_WHY]
        if errors and all(isinstance(error, ChainTimeoutError) for error in errors):
            return ChainTimeoutError(f"{name}: no liteserver answered in time", why=why)
        return ChainUnavailableError(
            f"{name}: no answer that {quorum} liteserver(s) agree on", why=why or "too few can be asked"
        )
