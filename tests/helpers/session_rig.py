"""Sessions on the rig: a scripted client of the real escrow, and what serving it writes on the worker's side.

Owns the client's moves and the shortest form of serving: look, keep the voucher, book. The wire between both
has tests of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.crypto import SigningKey
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.getters import EscrowGetters
from cocoon_sdk.protocol.vouchers import SessionRef, Voucher, voucher_key
from cocoon_sdk.sandbox import SandboxChain
from cocoon_sdk.types import Nano
from cocoon_worker.service import WorkerService
from cocoon_worker.sessions.records import SessionEntry, SessionKey
from cocoon_worker.sessions.watch import note_facts
from tests.helpers.suite import Client, Worker
from tests.helpers.worker_rig import Rig

DAY_S = 86_400
DEPOSIT = Nano.ton(2)


@dataclass
class OpenedSession:
    """A session as its client knows it."""

    client: Client
    worker: Worker
    id: int
    signer: SigningKey

    @property
    def key(self) -> SessionKey:
        return SessionKey(signing.account_id(self.client.address), self.id)

    @property
    def view(self) -> m.Session | None:
        """The escrow's entry."""
        found: m.Session | None = self.client.get(EscrowGetters.session(self.id))
        return found

    @property
    def ref(self) -> SessionRef:
        return SessionRef(self.client.domain(), self.id, self.worker.address)

    def voucher(self, amount: int) -> Voucher:
        return Voucher.sign(self.signer, self.ref, Nano(amount))

    def close(self) -> None:
        self.client.act(signing.close_session(self.id))

    def settle(self) -> None:
        self.client.act(signing.settle_session(self.id))

    def top_up(self, amount: int) -> None:
        self.client.act(signing.top_up_session(self.id, Nano(amount)))

    def redeem(self, amount: int) -> None:
        """Redeem as a stranger does, from a wallet."""
        voucher = self.voucher(amount)
        escrow = Escrow.at(SandboxChain(self.client.suite.chain), self.client.address)
        message = escrow.redeem(self.id, voucher.amount, voucher.signature)
        self.client.owner.send(message.to, message.value, message.body)


def open_session(
    rig: Rig, client: Client, name: str, *, deposit: int = DEPOSIT, life_s: int = 2 * DAY_S
) -> OpenedSession:
    """Open a session for the named worker."""
    number = client.get_state().next_id
    worker = rig.account(name)
    signer = voucher_key(client.key, client.address, number)
    expiry = rig.blockchain.now + life_s
    action = signing.open_session(number, worker.address, signer.verify_key, Nano(deposit), expiry)
    client.act(action)
    opened = OpenedSession(client, worker, number, signer)
    assert opened.view is not None
    return opened


async def serve(
    service: WorkerService, session: OpenedSession, amount: int, *, booked: int | None = None
) -> SessionEntry:
    """Let the worker serve for so much: look at the chain, keep the voucher, book the work."""
    context = service.context
    desk = context.sessions
    facts = await desk.survey.look(session.client.address, session.id, max_age_s=0)
    note_facts(desk.book, facts, context.time.maybe(), guard=context.config.sessions.guard)
    voucher = session.voucher(amount)
    desk.book.put_voucher(session.key, voucher.amount, voucher.signature)
    known = entry(service, session)
    desk.book.put_progress(session.key, Nano(amount if booked is None else booked), known.next_rid + 1)
    return entry(service, session)


def entry(service: WorkerService, session: OpenedSession) -> SessionEntry:
    """Return what the worker's book says."""
    found = service.context.sessions.book.entry(session.key)
    assert found is not None
    return found


def settings(**changes: Any) -> dict[str, Any]:
    """Return settings of sessions: amounts in TON as text."""
    return {"redeem_threshold": "0.5", "least_redeem": "0.01", **changes}
