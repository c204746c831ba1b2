"""Facts about accounts: our stake, offering escrows, their entries; the payload of a job.

Owns reading the chain for decisions. Must not decide anything, nor know the journal. Every answer is a fact
at the endpoint's newest block and may be outdated a moment later: contracts check again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.contracts.accounts import derived_from, peer_codes
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.contracts.network import Network
from cocoon_sdk.contracts.worker_stake import WorkerStake
from cocoon_sdk.crypto import BoxKey
from cocoon_sdk.data import DataSource, LocationRefusedError, decode_data, read_data
from cocoon_sdk.errors import (
    AccountNotFoundError,
    DecryptionError,
    GetterError,
    HashMismatchError,
    MalformedError,
)
from cocoon_sdk.history import OpenJobAction, sending_transaction, steps_of
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import open_payload, read_payload_header
from cocoon_sdk.protocol.claims import claim_bond
from cocoon_sdk.protocol.signing import account_id
from cocoon_sdk.types import Nano
from cocoon_worker.admission import EscrowFacts, JobView, PayloadFacts, Refusal, StakeFacts
from cocoon_worker.records import JobKey, JobRecord, PayloadRecord

_MAX_KNOWN_ESCROWS: Final = 4096


@dataclass(frozen=True, slots=True)
class KnownEscrow:
    """A genuine escrow: what its address derives from, and what its signatures are bound to."""

    owner: int
    index: int
    epoch: int
    previous_code: bool
    """Our stake's owner holds its code as the previous one."""
    own_previous_code: bool
    """Its owner holds our stake's code as the previous one."""
    accepts_us: bool
    takes_parts: bool = False
    """It runs this package's code, which pays a part of a voucher."""


@dataclass(frozen=True, slots=True)
class JobSurvey:
    """Everything about one job that is on chain."""

    escrow: KnownEscrow | None
    view: m.Job | None = field(repr=False)
    terms: m.JobTerms | None = field(repr=False)

    @property
    def facts(self) -> EscrowFacts:
        """The offering account as admission sees it."""
        return EscrowFacts(self.escrow is not None, self.escrow is not None and self.escrow.accepts_us)

    @property
    def entry(self) -> JobView | None:
        """The entry as admission sees it."""
        return None if self.view is None or self.terms is None else job_view(self.view, self.terms)


def job_view(view: m.Job, terms: m.JobTerms) -> JobView:
    """Return an entry as admission sees it."""
    return JobView(
        status=view.status,
        worker=view.worker,
        operator_key=view.key_or_result,
        deadline=view.deadline,
        price=Nano(view.price),
        window=view.window,
        collateral=Nano(view.collateral),
        bond=claim_bond(view.price, view.params),
        params_hash=bytes(view.params.hash),
        model_id=terms.model_id.to_bytes(32, "big"),
        terms_hash=terms.terms_hash.to_bytes(32, "big"),
        items=terms.items,
        work_period=terms.work_period,
    )


def stake_facts(
    view: m.StakeView,
    account: int,
    locks: int,
    committed: Nano,
    committed_locks: int,
    claim_gas: Nano,
    committed_gas: Nano,
) -> StakeFacts:
    """Return our stake as admission sees it."""
    return StakeFacts(
        account=account,
        active=view.active,
        operator_key=view.operator_key,
        params_hash=b"" if view.params is None else bytes(view.params.hash),
        lockable=Nano(view.lockable),
        locked=Nano(view.locked),
        max_locked=Nano(view.max_locked),
        bucket=Nano(view.bucket),
        locks=locks,
        gas=Nano(view.gas),
        committed=committed,
        committed_locks=committed_locks,
        claim_gas=claim_gas,
        committed_gas=committed_gas,
    )


class Survey:
    """Reads the chain for one stake. Every method raises what `Chain` raises when the endpoint fails."""

    def __init__(self, chain: Chain, network: Network, stake: WorkerStake, source: DataSource) -> None:
        self._chain, self._network, self._source = chain, network, source
        self.stake = stake
        self.account = account_id(stake.address)
        self._escrows: OrderedDict[tuple[int, bytes], KnownEscrow] = OrderedDict()
        self._identity: m.AccountIdentity | None = None

    async def job(self, key: JobKey, stake: m.StakeView) -> JobSurvey:
        """Return what is on chain about a job; a forged escrow is not asked for it."""
        escrow = await self.escrow(key.escrow, stake)
        if escrow is None:
            return JobSurvey(None, None, None)
        view = await self.entry(key)
        try:
            terms = None if view is None else m.JobTerms.from_cell(view.terms)
        except MalformedError:
            terms = None
        return JobSurvey(escrow, view, terms)

    async def entry(self, key: JobKey) -> m.Job | None:
        """Return a genuine escrow's entry; None when it has none."""
        return await Escrow.at(self._chain, key.address).job(key.id)

    async def escrow(self, account: int, stake: m.StakeView) -> KnownEscrow | None:
        """Return who an account is if it derives as an escrow that our stake's owner deals with."""
        if stake.peers is None:
            return None
        place = (account, bytes(stake.peers.hash))
        if place in self._escrows:
            self._escrows.move_to_end(place)
            return self._escrows[place]
        known = await self._look_at(account, peer_codes(stake.peers))
        if known is None or not known.accepts_us:
            return known  # not kept: the endpoint may lag, and the escrow's owner may accept us later
        self._escrows[place] = known
        while len(self._escrows) > _MAX_KNOWN_ESCROWS:
            self._escrows.popitem(last=False)
        return known

    async def _look_at(self, account: int, peers: m.Codes) -> KnownEscrow | None:
        escrow = Escrow.at(self._chain, JobKey(account, 0).address)
        try:
            identity = await escrow.identity()
            genuine = derived_from(
                peers, self._network.registry, identity.owner, identity.index, escrow.address
            )
            if genuine is None:
                return None
            state = await escrow.state()
        except (AccountNotFoundError, GetterError, MalformedError):
            return None
        if not state.active or state.peers is None:
            return None
        if self._identity is None:
            self._identity = await self.stake.identity()
        own = derived_from(
            peer_codes(state.peers),
            self._network.registry,
            self._identity.owner,
            self._identity.index,
            self.stake.address,
        )
        return KnownEscrow(
            owner=account_id(genuine.owner),
            index=genuine.index,
            epoch=state.epoch,
            previous_code=genuine.previous_code,
            own_previous_code=own is not None and own.previous_code,
            accepts_us=own is not None,
            takes_parts=self._network.escrow(genuine.owner, genuine.index).address == escrow.address,
        )

    # -- payloads ----------------------------------------------------------------------------------------

    async def payload(
        self, job: JobRecord, schemes: Collection[str]
    ) -> tuple[PayloadRecord | None, PayloadFacts | None]:
        """Fetch a job's payload as it travels; or say why it cannot be had.

        Raises `HistoryNotFoundError` (try again: the endpoint may lag) and `ResultUnavailableError` (try
        again: its place does not answer).
        """
        transaction = await sending_transaction(self._chain, job.key.address, job.notice_lt)
        actions = [step.action for step in steps_of(transaction, job.key.id)]
        opened = next((action for action in actions if isinstance(action, OpenJobAction)), None)
        if opened is None or opened.data is None:
            return None, PayloadFacts(None, Refusal.NO_PAYLOAD, "the job was opened without a payload")
        try:
            data = await read_data(decode_data(opened.data, schemes=schemes), self._source)
            header = read_payload_header(data)
        except (HashMismatchError, LocationRefusedError, MalformedError) as error:
            return None, PayloadFacts(None, Refusal.NO_PAYLOAD, str(error))
        return PayloadRecord(data, header.prekey_id or b""), None


def open_facts(
    payload: PayloadRecord, keys: Collection[BoxKey], payload_hash: bytes, limit: int
) -> PayloadFacts:
    """Open a payload and check it against the job's hash."""
    try:
        return PayloadFacts(open_payload(payload.data, keys, payload_hash, max_text_bytes=limit))
    except (DecryptionError, HashMismatchError, MalformedError) as error:
        return PayloadFacts(None, Refusal.PAYLOAD, str(error))
