"""`ArbiterService`: one arbiter's life, over any chain, judge and clock.

Owns starting, the loop over all disputes, and stopping. Must not choose adapters or read the environment, or
know how cases are judged and verdicts sent. `step` is one round of the loop and can be called by itself:
tests drive an arbiter with it, without real time.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from types import TracebackType
from typing import Final, Self

import structlog
from pytoniq_core import Address

from cocoon_sdk.arbiter.config import ArbiterConfig
from cocoon_sdk.arbiter.courier import Courier
from cocoon_sdk.arbiter.docket import Docket
from cocoon_sdk.arbiter.evidence import Case
from cocoon_sdk.arbiter.finding import DisputeFinder
from cocoon_sdk.arbiter.following import Following
from cocoon_sdk.arbiter.gossip import Gossip
from cocoon_sdk.arbiter.hearing import Hearing
from cocoon_sdk.arbiter.judgements import Judgements, Pending
from cocoon_sdk.arbiter.judging import Judge, Judgement
from cocoon_sdk.arbiter.receipts import SessionCase
from cocoon_sdk.arbiter.server import ArbiterServer
from cocoon_sdk.arbiter.store import ArbiterStore
from cocoon_sdk.chain.base import Chain
from cocoon_sdk.client.arbiters import Arbiters
from cocoon_sdk.clock import Clock, SystemClock
from cocoon_sdk.contracts.network import Network
from cocoon_sdk.contracts.sender import OwnerWallet
from cocoon_sdk.crypto.keys import BoxKey, SigningKey
from cocoon_sdk.errors import ChainError, CocoonError, ConfigError
from cocoon_sdk.protocol.disputes import ArbiterInfo, Evidence, Opinions, open_evidence
from cocoon_sdk.storage import StorageError
from cocoon_sdk.types import Hash

_MAX_PAUSE_S: Final = 30.0
_HOUSEKEEPING_S: Final = 3600
_CALM_S: Final = 60
"""How long nothing may fail until storage counts as well again."""
_LOOK_S: Final = 15.0
"""How long somebody who tells us of a dispute waits for our look at it."""
log = structlog.get_logger("cocoon.arbiter")


class ArbiterService:
    """One arbiter. Use it with `async with`, then `run()`, or `step()` by hand.

    `key` signs verdicts and nothing else; `box_key` opens evidence; `wallet` hands verdicts in, if there is
    one. It closes `store`, `judge` and `peers`; the chain stays the caller's. Entering raises `ConfigError`,
    `StorageError` or `ChainError`.
    """

    def __init__(
        self,
        config: ArbiterConfig,
        chain: Chain,
        network: Network,
        key: SigningKey,
        box_key: BoxKey,
        store: ArbiterStore,
        judge: Judge,
        peers: Arbiters,
        *,
        wallet: OwnerWallet | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._config, self._chain, self._network = config, chain, network
        self._key, self._box_key, self._store = key, box_key, store
        self._judge, self._peers = judge, peers
        self._clock: Clock = clock or SystemClock()
        self._docket = Docket(chain, network, key, store, most=config.max_disputes)
        finder = DisputeFinder(chain, network, store.finding, self._clock)
        self._following = Following(self._docket, finder, store, self._wake, self.storage_failed)
        self._closing = contextlib.AsyncExitStack()
        self._locks: dict[Hash, asyncio.Lock] = {}
        self._looked_at: dict[Hash, int] = {}
        self._problem, self._problem_at = "", 0
        self._gossip = Gossip(peers, config.gossip_s, self._wake)
        self._judgements = Judgements(
            judge, chain, config.max_judging, config.retry_s, self._wake, self.storage_failed
        )
        self._courier = None if wallet is None else Courier(chain, self._docket, wallet, config.courier_s)
        self._news, self._stopping = asyncio.Event(), asyncio.Event()
        self._seqno, self._now, self._cleaned_at = -1, 0, 0
        self._info: ArbiterInfo | None = None
        self._server: ArbiterServer | None = None

    @property
    def port(self) -> int:
        """The endpoint's port."""
        return 0 if self._server is None else self._server.port

    # -- life ----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._closing.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._judgements.close()
        await self._closing.aclose()

    async def _start(self) -> None:
        self._closing.push_async_callback(self._store.close)
        self._closing.push_async_callback(self._judge.close)
        self._closing.push_async_callback(self._peers.close)
        await self._store.prepare()
        self._now = (await self._chain.head()).now
        self._info = ArbiterInfo(
            network=await self._chain.global_id(),
            key=self._key.verify_key,
            box_key=self._box_key.public_key,
            url=self._config.public_url,
            since=self._now,
        ).signed(self._key)
        self._closing.push_async_callback(self._gossip.close)
        self._closing.push_async_callback(self._following.close)
        await self._following.start(self._now)
        self._server = ArbiterServer(self, self._config)
        try:
            await self._server.start()
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {self._config.host} port {self._config.port}",
                why=error.strerror or str(error),
                hint="Choose another port",
            ) from None
        self._closing.push_async_callback(self._server.stop)
        log.info("arbiter_started", key=self._key.verify_key.hex, port=self.port, peers=len(self._peers.urls))

    def stop(self) -> None:
        """Ask `run` to end; everything is on disk already."""
        self._stopping.set()
        self._news.set()

    def _wake(self) -> None:
        """Have `run` take its next step now."""
        self._news.set()

    async def run(self) -> None:
        """Work until `stop`. Endpoint failures are outlasted."""
        failures = 0
        while not self._stopping.is_set():
            try:
                await self.step()
                failures = 0
            except (ChainError, StorageError) as error:
                if isinstance(error, StorageError):
                    self.storage_failed(error)
                failures += 1
                log.warning("round_failed", why=str(error))
            pause = self._config.poll_s
            if failures:
                pause = min(_MAX_PAUSE_S, pause * 2.0 ** min(failures - 1, 8))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), pause)

    # -- what the endpoint asks ----------------------------------------------------------------------------

    def info(self) -> ArbiterInfo:
        """Return who we are. Raises `ConfigError` before the arbiter was entered."""
        if self._info is None:
            raise ConfigError("the arbiter is not running", hint="Use it with `async with`")
        return self._info

    def hearing(self, digest: Hash) -> Hearing | None:
        """Return a dispute that is followed."""
        return self._docket.hearings.get(digest)

    def hearings(self) -> list[Hearing]:
        """Return all that are followed, oldest first."""
        return sorted(self._docket.hearings.values(), key=lambda hearing: hearing.dispute.disputed_at)

    async def follow(self, escrow: Address, number: int) -> Hearing:
        """Look at a dispute on chain and follow it. Raises what `Following.follow` raises."""
        return await self._following.follow(escrow, number, _LOOK_S)

    @property
    def problem(self) -> str:
        """What keeps this arbiter from remembering anything new, such as a full disk; empty for nothing."""
        return self._problem

    def storage_failed(self, error: StorageError) -> None:
        """Say so, and go on: what could not be kept is refused, or done again when there is room."""
        if not self._problem:
            log.error("storage_failed", why=str(error), hint=error.hint)
        self._problem, self._problem_at = str(error), self._now

    def opened(self, sealed: bytes) -> Evidence:
        """Decrypt evidence. Raises `DecryptionError` or `MalformedError`."""
        return open_evidence(sealed, self._box_key)

    async def take(self, hearing: Hearing, evidence: Evidence) -> None:
        """Check and keep evidence. Raises `EvidenceError`."""
        async with self._lock(hearing):
            await hearing.take(evidence, (await self._chain.head()).now)
        self._news.set()

    async def opinions(self, digest: Hash) -> Opinions:
        """Return all that is known to be signed in a dispute, one that has ended too, for `kept_s`."""
        return await self._store.votes.opinions(digest)

    async def hear(self, hearing: Hearing, opinions: Opinions) -> Opinions:
        """Take what another arbiter knows to be signed, and return what we know. Raises `OpinionError`."""
        async with self._lock(hearing):
            await hearing.hear(opinions)
            await hearing.advance(self._now)
            return await hearing.opinions()

    def _lock(self, hearing: Hearing) -> asyncio.Lock:
        return self._locks.setdefault(hearing.dispute.digest, asyncio.Lock())

    # -- one round -----------------------------------------------------------------------------------------

    async def step(self) -> None:
        """Hear of new disputes, and bring each one on as far as it goes now.

        What fails with one dispute is logged and tried again in the next round. Raises `ChainError` and
        `StorageError` when it is about all of them: nothing is lost, call again.
        """
        self._news.clear()
        head = await self._chain.head()
        self._now = max(self._now, head.now)
        if self._now >= self._cleaned_at + _HOUSEKEEPING_S:
            self._cleaned_at = self._now
            await self._store.forget(self._now - self._config.kept_s)
            await self._following.reopen(self._now)
        self._judgements.step(self._now)
        for hearing in self.hearings():
            try:
                await self._bring_on(hearing)
            except StorageError as error:
                self.storage_failed(error)
            except CocoonError as error:
                log.error("dispute_failed", dispute=hearing.dispute.digest.hex()[:16], why=str(error))
            except Exception as error:
                # What parties wrote may be anything, and must not end the work on all other disputes. The
                # error's text may quote them.
                name = type(error).__name__
                log.error("dispute_failed", dispute=hearing.dispute.digest.hex()[:16], error=name)
        self._following.step(self._now)
        if self._problem and self._now >= self._problem_at + _CALM_S:
            self._problem = ""
            log.info("storage_recovered")

    async def look_through(self, escrow: Address) -> None:
        """Follow every dispute of one escrow. Raises `ChainError` and `StorageError`."""
        await self._following.look_through(escrow)

    async def settle(self, rounds: int = 20) -> None:
        """Take steps until nothing is under way. For tests, where the chain answers at once."""
        for _ in range(rounds):
            await self.step()
            markets = self._following.pumping
            if markets is not None:
                await asyncio.wait({markets})
            tasks = [*self._judgements.tasks.values(), *self._following.tasks, *self._gossip.tasks]
            if not tasks:
                return
            await asyncio.gather(*tasks, return_exceptions=True)
        await self.step()

    async def _bring_on(self, hearing: Hearing) -> None:
        digest = hearing.dispute.digest
        if await self._is_over(hearing):
            return
        async with self._lock(hearing):
            # Evidence takes a while to read: not every few seconds while its content cannot be judged.
            if not self._judgements.has(digest):
                await self._weigh(hearing)
            await hearing.advance(self._now)
        await self._gossip.exchange(hearing, self._now, self._lock(hearing))
        if hearing.is_doubled:
            log.error(
                "key_used_elsewhere",
                dispute=digest.hex()[:16],
                why="a vote under our key is not in our store",
                hint="Run one arbiter per key, and keep its data",
            )
        if self._courier is not None and await self._courier.hand_in(hearing, self._now):
            self._looked_at.pop(digest, None)

    async def _weigh(self, hearing: Hearing) -> None:
        """Vote on what the evidence alone decides; the rest waits for the judge, and its evidence on disk."""
        weighed = await hearing.weigh(self._now)
        if weighed is None:
            return
        if weighed.ground is not None:
            await hearing.vote(weighed.ground, due=weighed.due)
            log.info("voted", dispute=hearing.dispute.digest.hex()[:16], ground=weighed.ground)
        elif weighed.case is not None:
            self._judgements.put(
                Pending(
                    hearing.dispute,
                    weighed.case.signers if isinstance(weighed.case, SessionCase) else None,
                    functools.partial(self._case, hearing),
                    functools.partial(self._vote, hearing),
                )
            )

    async def _case(self, hearing: Hearing) -> Case | SessionCase | None:
        """Read what is to be judged once more; None when we have voted meanwhile."""
        weighed = await hearing.weigh(self._now)
        return None if weighed is None else weighed.case

    async def _vote(self, hearing: Hearing, judgement: Judgement) -> None:
        async with self._lock(hearing):
            await hearing.vote(judgement.ground, measured=judgement.measured)

    # -- the end -------------------------------------------------------------------------------------------

    async def _is_over(self, hearing: Hearing) -> bool:
        """Look now and then whether the dispute goes on; drop it when it is over."""
        digest = hearing.dispute.digest
        timed_out = self._now >= hearing.times.ends_at
        if not timed_out:
            if self._now < self._looked_at.get(digest, 0) + self._config.look_s:
                return False
            self._looked_at[digest] = self._now
            if not await self._docket.is_over(hearing.dispute):
                return False
        note = "arbitration timed out" if timed_out else "ended on chain"
        await self._docket.drop(digest, self._now, note)
        log.info("dispute_over", dispute=digest.hex()[:16], how=note)
        self._judgements.forget(digest)
        self._gossip.forget(digest)
        if self._courier is not None:
            self._courier.forget(digest)
        self._locks.pop(digest, None)
        self._looked_at.pop(digest, None)
        return True
