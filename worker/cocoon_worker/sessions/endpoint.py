"""Where clients connect: `/v1/session` on the worker's HTTP endpoint.

Owns the bounds on connections, one connection for each session, what frames lead to, idle and stalled
connections, and leaving. Must not know engines' answers or prices. Whoever has not shown a session costs
little memory, a bounded time, and one of few places.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import Final

from aiohttp import web

from cocoon_sdk.crypto.channel import CHANNEL_OVERHEAD_BYTES, MAX_CHANNEL_MESSAGE_BYTES, WorkerName
from cocoon_sdk.errors import ChainError, DecryptionError, MalformedError
from cocoon_sdk.protocol.session_wire import (
    SUBPROTOCOL,
    Ask,
    Cancel,
    ClientFrame,
    Failed,
    FailureCode,
    Hello,
    Leaving,
    Pay,
    Prove,
    Welcome,
)
from cocoon_worker.context import Context
from cocoon_worker.errors import JournalError
from cocoon_worker.sessions.account import CANCELLED, BadVoucherError, SessionAccount, failure
from cocoon_worker.sessions.admittance import RETRY_S, EndError, cannot_write, find_session, shake_hands
from cocoon_worker.sessions.connection import Connection
from cocoon_worker.sessions.errors import SessionRefusedError
from cocoon_worker.sessions.intake import AskRefusedError, Intake, make_shops
from cocoon_worker.sessions.records import SessionKey
from cocoon_worker.sessions.request import Counter, SessionRequest
from cocoon_worker.sessions.share import EngineShare
from cocoon_worker.sessions.survey import SessionFacts
from cocoon_worker.sessions.tally import Bucket, SessionTally
from cocoon_worker.sessions.watch import note_facts

_MAX_MESSAGE: Final = MAX_CHANNEL_MESSAGE_BYTES + CHANNEL_OVERHEAD_BYTES + 64
_MAX_ACCOUNTS: Final = 8192
"""Sessions kept in memory; the longest unconnected ones are forgotten beyond that."""
_OVER: Final = "its client closes it, or it has ended"
_HEARTBEAT_S: Final = 30.0
_SWEEP_S: Final = 1.0
_CLOSE_S: Final = 2.0
_HANDSHAKES: Final = (50.0, 200.0)
"""Handshakes a second in the long run, and at once."""
_NUISANCES: Final = (20.0, 200.0)
"""Frames of one connection that come to nothing: a second in the long run, and at once."""
_LEAST_RAISE: Final = 1_000
"""A voucher that adds less, in nanoTON, is kept, but counts as a nuisance: it costs a check and a commit."""


class SessionEndpoint:
    """Serves the sessions of one worker; `handle` is the route."""

    def __init__(self, context: Context, share: EngineShare) -> None:
        self._context, self._share = context, share
        self._config = context.config.sessions.serving
        self._desk = context.sessions
        self._shops = make_shops(context.offers)
        self._tally = SessionTally(context.metrics.registry)
        self._name = WorkerName(context.global_id, bytes(context.stake.address.hash_part))
        self._counter = Counter(
            engine=context.engine,
            share=share,
            config=self._config,
            operator=context.operator,
            tally=self._tally,
            log=context.log,
        )
        self._accounts: dict[SessionKey, SessionAccount] = {}
        self._sockets: set[web.WebSocketResponse] = set()
        self._handshakes = 0
        self._bucket = Bucket(*_HANDSHAKES, asyncio.get_running_loop().time())
        self._leaving: str | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._desk.on_over.append(self._over)
        self._sweeper = asyncio.create_task(self._sweep_always(), name="session-sweeper")
        self._watch()

    def _watch(self) -> None:
        watch = self._tally.watch
        watch("cocoon_session_connections", "Connections of sessions", lambda: len(self._sockets))
        watch("cocoon_session_handshakes", "Connections without a session yet", lambda: self._handshakes)
        watch("cocoon_session_running", "Requests in the engine", lambda: self._share.running)
        watch("cocoon_session_waiting", "Requests that wait for the engine", lambda: self._share.waiting)
        watch("cocoon_session_requests_open", "Requests under way", lambda: self.busy)
        watch(
            "cocoon_session_unpaid_ton",
            "Work under way or lost that is not signed for (TON)",
            lambda: sum(each.ledger.ahead + each.ledger.lost for each in self._accounts.values()) / 1e9,
        )

    # -- life ----------------------------------------------------------------------------------------------

    @property
    def busy(self) -> int:
        """Requests under way in all sessions."""
        return sum(len(account.requests) for account in self._accounts.values())

    def leave(self, why: str = "the worker stops") -> None:
        """Take nothing new: clients are told, what is under way goes on."""
        self._leaving = why
        for account in self._accounts.values():
            if account.connection is not None:
                account.connection.leave(why)

    async def stop(self) -> None:
        """End every connection, and with it what is under way."""
        self._leaving = self._leaving or "the worker stops"
        self._sweeper.cancel()
        if self._over in self._desk.on_over:
            self._desk.on_over.remove(self._over)
        ends = [
            account.detach(account.connection, Leaving(self._leaving))
            for account in list(self._accounts.values())
            if account.connection is not None
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await asyncio.gather(*ends, *self._ending, return_exceptions=True)
        for socket in list(self._sockets):
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(_CLOSE_S):
                    await socket.close()

    def _over(self, key: SessionKey) -> None:
        """Learn that a session closes or has ended: nothing is served in it any more."""
        account = self._accounts.get(key)
        if account is None:
            return
        account.over_on_chain = True  # also for a connection that is just coming in
        if account.connection is not None:
            self._end(account, account.connection, failure(FailureCode.SESSION, _OVER))

    def _end(self, account: SessionAccount, connection: Connection, last: Failed | Leaving) -> None:
        task = asyncio.create_task(account.detach(connection, last))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _sweep_always(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            self.sweep(asyncio.get_running_loop().time())

    def sweep(self, now: float) -> None:
        """End connections that nobody reads, or that were quiet for too long; `now` on the loop's clock."""
        config = self._config
        for account in list(self._accounts.values()):
            connection = account.connection
            if connection is None:
                continue
            if connection.sending_since and now - connection.sending_since > config.stall_s:
                self._tally.refused.labels("stalled").inc()
                connection.abort()
            elif not account.requests and (
                self._leaving is not None or now - connection.heard_at > config.idle_s
            ):
                self._end(account, connection, Leaving(self._leaving or "the connection was idle"))

    # -- getting in ----------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection, from its upgrade to its end."""
        refusal = self._refusal()
        if refusal is not None:
            self._tally.refused.labels(refusal).inc()
            return web.json_response({"status": refusal}, status=503, headers={"Retry-After": "5"})
        socket = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,),
            compress=False,
            heartbeat=_HEARTBEAT_S,
            max_msg_size=_MAX_MESSAGE,
            timeout=_CLOSE_S,
        )
        self._handshakes += 1
        entered = None
        try:
            async with asyncio.timeout(self._config.handshake_s):
                await socket.prepare(request)
                self._sockets.add(socket)
                entered = await self._let_in(socket, request.transport)
        except (TimeoutError, ConnectionError):
            self._tally.refused.labels("handshake").inc()
        finally:
            self._handshakes -= 1
            if entered is None:
                self._sockets.discard(socket)
        if entered is None:
            if request.transport is not None:
                request.transport.close()
            return socket
        try:
            await self._serve(*entered)
        finally:
            self._sockets.discard(socket)
        return socket

    def _refusal(self) -> str | None:
        if self._leaving is not None or self._context.draining:
            return "leaving"
        full = len(self._sockets) >= self._config.max_connections + self._config.max_handshakes
        if full or self._handshakes >= self._config.max_handshakes:
            return "full"
        return None if self._bucket.take(asyncio.get_running_loop().time()) else "handshakes"

    async def _let_in(
        self, socket: web.WebSocketResponse, transport: asyncio.Transport | None
    ) -> tuple[SessionAccount, Connection, list[ClientFrame]] | None:
        """Shake hands and find the session. None: this connection has ended."""
        if socket.ws_protocol != SUBPROTOCOL:
            await socket.close(code=1002, message=b"subprotocol")
            return None
        try:
            channel, hello, frames = await shake_hands(socket, self._name, self._context.operator)
        except (DecryptionError, MalformedError):
            self._tally.refused.labels("handshake").inc()
            await socket.close(code=1002)
            return None
        connection = Connection(socket, transport, channel)
        try:
            facts = await find_session(self._context, hello, channel.binding)
            account = self._account(facts)
            async with account.taking_over:
                await self._take_over(account, connection, hello)
        except EndError as end:
            self._tally.refused.labels(end.last.code).inc()
            await connection.end(end.last)
            return None
        except BaseException:
            connection.abort()
            raise
        return account, connection, frames

    def _account(self, facts: SessionFacts) -> SessionAccount:
        config = self._context.config.sessions
        try:
            entry = note_facts(self._desk.book, facts, self._context.time.maybe(), guard=config.guard)
        except JournalError:
            raise EndError(cannot_write()) from None
        account = self._accounts.pop(facts.key, None)
        if account is None:
            most = int(self._config.max_unpaid)
            account = SessionAccount(entry, facts.ref, self._desk.book, most, self._tally)
            self._forget_some()
        self._accounts[facts.key] = account
        account.note(entry)
        return account

    def _forget_some(self) -> None:
        for key in list(self._accounts)[: max(0, len(self._accounts) - _MAX_ACCOUNTS + 1)]:
            account = self._accounts[key]
            if account.connection is None and not account.requests:
                del self._accounts[key]

    async def _take_over(self, account: SessionAccount, connection: Connection, hello: Hello) -> None:
        connected = sum(each.connection is not None for each in self._accounts.values())
        if account.connection is None and connected >= self._config.max_connections:
            raise EndError(failure(FailureCode.BUSY, "too many are connected", retry_after_s=RETRY_S))
        try:
            if account.connection is not None:
                replaced = failure(FailureCode.REPLACED, "another connection of the session took over")
                await account.detach(account.connection, replaced)
            # Behind all waiting: what was read of the chain may be outdated by now, or was from the start.
            if account.over_on_chain:
                raise EndError(failure(FailureCode.SESSION, _OVER))
            known = account.ledger.signed
            if hello.amount:
                account.admit(hello.amount, hello.signature)
        except BadVoucherError as error:
            raise EndError(failure(FailureCode.BAD_VOUCHER, str(error))) from None
        except JournalError:
            raise EndError(cannot_write()) from None
        ledger = account.ledger
        account.resume(hello.accounted, known)
        account.connection = connection
        connection.before_write = partial(self._save, account)
        self._desk.connected.add(account.key)
        connection.send(Welcome(ledger.signed, ledger.booked, account.next_rid, ledger.max_unpaid))
        self._context.log.debug("session connected", session=str(account.key))

    # -- frames --------------------------------------------------------------------------------------------

    async def _serve(
        self, account: SessionAccount, connection: Connection, frames: list[ClientFrame] | None
    ) -> None:
        bucket = Bucket(*_NUISANCES, asyncio.get_running_loop().time())
        last: Failed | None = None
        try:
            while frames is not None and account.connection is connection:
                for frame in frames:
                    if account.connection is not connection:
                        break
                    await self._take(account, connection, bucket, frame)
                frames = await connection.receive()
        except EndError as end:
            last = end.last
        except (DecryptionError, MalformedError) as error:
            last = failure(FailureCode.BAD_REQUEST, str(error))
        finally:
            await self._part(account, connection, last)

    async def _part(self, account: SessionAccount, connection: Connection, last: Failed | None) -> None:
        try:
            await account.detach(connection, last)
        except JournalError as error:
            self._context.log.error("cannot keep a session's progress", why=error.what)
        finally:
            if account.connection is None:
                self._desk.connected.discard(account.key)

    async def _take(
        self, account: SessionAccount, connection: Connection, bucket: Bucket, frame: ClientFrame
    ) -> None:
        match frame:
            case Ask():
                useful = self._ask(account, frame)
            case Pay():
                useful = await self._pay(account, frame)
            case Cancel():
                request = account.requests.get(frame.rid)
                useful = request is not None
                if request is not None:
                    request.stop(CANCELLED)
            case Prove():
                request = account.requests.get(frame.rid)
                useful = request is not None and request.prove()
            case _:
                useful = False
        if not useful and not bucket.take(asyncio.get_running_loop().time()):
            raise EndError(failure(FailureCode.BUSY, "too many frames come to nothing", retry_after_s=60))

    def _ask(self, account: SessionAccount, ask: Ask) -> bool:
        try:
            account.number(ask.rid)
            if self._leaving is not None:
                raise AskRefusedError(FailureCode.BUSY, self._leaving)
            if self._context.time.maybe() + self._context.config.sessions.least_left_s >= account.expires:
                raise AskRefusedError(FailureCode.SESSION, "the session expires soon: open another")
            if len(account.requests) >= self._config.max_requests:
                why = f"{len(account.requests)} requests of the session are under way"
                raise AskRefusedError(FailureCode.BUSY, why, retry_after_s=1)
            intake = Intake.read(ask, self._shops)
            account.check_ever(0)
        except AskRefusedError as error:
            account.send(failure(error.code, error.why, rid=ask.rid, retry_after_s=error.retry_after_s))
            self._tally.ended(error.code, (0, 0, 0))
            return False
        request = account.requests[ask.rid] = SessionRequest(self._counter, account, ask, intake)
        request.start()
        return True

    async def _pay(self, account: SessionAccount, frame: Pay) -> bool:
        try:
            if frame.amount > account.ledger.deposit:
                await self._look_for_deposit(account)
            before = account.ledger.signed
            return account.paid(frame) and frame.amount - before >= _LEAST_RAISE
        except BadVoucherError as error:
            self._tally.vouchers.labels("bad").inc()
            raise EndError(failure(FailureCode.BAD_VOUCHER, str(error))) from None
        except JournalError as error:
            self._context.log.error("cannot keep a voucher", why=error.what)
            raise EndError(cannot_write()) from None

    async def _look_for_deposit(self, account: SessionAccount) -> None:
        """See whether the deposit was topped up. An endpoint that fails leaves it as it is known."""
        with contextlib.suppress(ChainError, SessionRefusedError):
            facts = await self._desk.survey.look(account.key.escrow, account.key.session_id, max_age_s=0)
            account.note(note_facts(self._desk.book, facts, self._context.time.maybe()))

    def _save(self, account: SessionAccount) -> None:
        try:
            account.save()
        except JournalError as error:
            # The client has what is charged; a restart before the next save makes it the worker's loss.
            self._context.log.error("cannot keep a session's progress", why=error.what)
