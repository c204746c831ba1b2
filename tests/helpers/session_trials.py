"""A guarded session before arbiters: both of its sides, what its client shows, and what happens to the money.

The worker's receipts are signed by hand, its client disputes through the SDK.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cocoon_sdk.client.sessions.account import AsyncSessions
from cocoon_sdk.client.sessions.funds.holding import HeldSession
from cocoon_sdk.contracts.disputes import Dispute, read_session_dispute
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.disputes import Ground, Item, ItemKind
from cocoon_sdk.protocol.session_evidence import EvidenceRecord, SessionEvidence
from cocoon_sdk.protocol.session_states import SessionStatus
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.protocol.vouchers import SessionRef, Voucher
from cocoon_sdk.types import Nano
from tests.helpers.arbiters import Court, Purse, commitment, paid_arbiters, purse
from tests.helpers.client_sessions import SessionTown
from tests.helpers.sdk import completion
from tests.helpers.session_records import signed_record
from tests.helpers.suite import key_of

ARBITER_FEE = int(Nano.ton("0.15"))
COMPENSATION = int(Nano.ton("0.015"))
PAID = 700_000


@dataclass
class Session:
    """A guarded session, both of its sides, and what its client shows of it."""

    town: SessionTown
    court: Court
    sessions: AsyncSessions
    held: HeldSession
    signed_ahead: Voucher
    records: list[EvidenceRecord] = field(default_factory=list)
    named: SessionRef | None = None
    """Which session the evidence says that it is about, where that is a lie."""

    @property
    def ref(self) -> SessionRef:
        return self.held.ref

    @property
    def number(self) -> int:
        return self.ref.session_id

    @property
    def key(self) -> SigningKey:
        return self.town.worker.account.key

    def record(
        self,
        rid: int,
        *,
        key: SigningKey | None = None,
        session: SessionRef | None = None,
        sampling: SamplingClass = SamplingClass.REPLAYABLE,
        committed: bool = True,
    ) -> EvidenceRecord:
        """Return what the worker signs for one request."""
        return signed_answer(
            self.town, session or self.ref, rid, key or self.key, sampling=sampling, committed=committed
        )

    @property
    def evidence(self) -> SessionEvidence:
        return SessionEvidence.of(self.named or self.ref, self.records)

    async def another(self) -> Session:
        """Open one more guarded session with the same worker, with an answer of its own."""
        return await prepared(self.town, self.court, self.sessions)

    def replace_key(self, name: str) -> None:
        replace_key(self.town, name)

    def pad(self, count: int) -> None:
        """Fill the histories of both accounts."""
        anybody = self.town.town.chain.actor("anybody", Nano.ton(1000))
        for _ in range(count):
            anybody.send(self.town.worker.address, Nano.ton("0.01"))
            anybody.send(self.town.client.escrow.address, Nano.ton("0.01"))

    async def dispute(self) -> Dispute:
        """Dispute what was recorded, and return how the chain has it."""
        await self.sessions.dispute(self.number, self.evidence.digest())
        client = self.town.client
        return await read_session_dispute(Escrow.at(client.chain, client.escrow.address), self.number)

    async def show(self, dispute: Dispute, data: bytes | None = None) -> list[str]:
        """Bring the evidence to every arbiter; return what they did not like."""
        item = Item(ItemKind.SESSION, self.evidence.to_bytes() if data is None else data)
        sent = await self.court.arbiters().send_evidence(dispute, [item])
        return [each.problem for each in sent if each.problem]

    def purse(self) -> Purse:
        return purse(self.town.town, self.town.client, self.town.worker)

    @property
    def status(self) -> SessionStatus:
        entry = self.town.on_chain(self.number)
        assert entry is not None
        return SessionStatus(entry.status)

    async def tried(self) -> tuple[Dispute, Purse, Purse]:
        """Dispute with the evidence, let the arbiters work, and look at all money before and after."""
        dispute = await self.dispute()
        assert await self.show(dispute) == []
        before = self.purse()
        await self.court.rounds()
        return dispute, before, self.purse()


def signed_answer(
    town: SessionTown,
    session: SessionRef,
    rid: int,
    key: SigningKey,
    *,
    sampling: SamplingClass,
    committed: bool,
) -> EvidenceRecord:
    """Return one answer with a receipt, as whoever has the key signs it."""
    return signed_record(
        session,
        rid,
        key,
        town.worker.terms(sampling=sampling),
        kind="chat.completion",
        body={"messages": [{"role": "user", "content": "What is the capital of France?"}]},
        pieces=[completion("Paris.")],
        commitment=commitment() if committed else None,
        input_tokens=12,
        output_tokens=5,
    )


def replace_key(town: SessionTown, name: str) -> None:
    """Let the worker's owner set another operator key, and announce it."""
    account = town.worker.account
    account.from_owner(m.SetKey(query_id=0, key=key_of(name).verify_key.to_int()))
    account.key = key_of(name)
    assert account.get_state().operator_key == account.key.verify_key.to_int()
    town.worker.announce()


async def guarded(town: SessionTown, sessions: AsyncSessions) -> HeldSession:
    """Open a session, let its worker lock collateral, and redeem something of it."""
    held = await sessions.acquire(await town.offer(), Nano(1000))
    town.worker.account.accept_session(town.town.driver(town.client), held.ref.session_id)
    town.redeem(held, await held.sign(PAID))
    return held


async def prepared(town: SessionTown, court: Court, sessions: AsyncSessions) -> Session:
    """Open a guarded session, and let its worker sign one answer."""
    held = await guarded(town, sessions)
    made = Session(town, court, sessions, held, await held.sign(PAID + 1000))
    made.records.append(made.record(1))
    return made


async def started(court: Court, says: Ground | None = Ground.HONEST) -> None:
    for index in range(3):
        await court.start(index, says=says, wallet=index == 0)


def check_money(session: Session, before: Purse, after: Purse, *, slashed: int) -> None:
    """Hold every account that a verdict touches against its numbers, to the nanoTON."""
    assert (after.stake, after.locked) == (before.stake - slashed, 0)
    assert (after.earned, after.fee_due) == (before.earned, before.fee_due)
    assert after.burned - before.burned == max(0, slashed - ARBITER_FEE - COMPENSATION)
    assert len(paid_arbiters(session.town.town, before, after, share=ARBITER_FEE // 3)) == 3
