"""`Docket`: the disputes that an arbiter follows.

Owns what is believed before one is followed: a genuine escrow, a dispute, and parameters that name our key;
and when one is over. Must not know where the hint came from, what happens in a hearing, or when to try again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.arbiter.errors import TooManyDisputesError, UnfinishedError
from cocoon_sdk.arbiter.evidence import OnChain, on_chain_of
from cocoon_sdk.arbiter.hearing import Hearing
from cocoon_sdk.arbiter.store import ArbiterStore, Followed
from cocoon_sdk.chain.base import Chain
from cocoon_sdk.contracts.disputes import Dispute, NoDisputeError, read_any_dispute
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.contracts.network import Network
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.errors import (
    AccountNotFoundError,
    ChainUnavailableError,
    ForgedAccountError,
    GetterError,
    MalformedError,
)
from cocoon_sdk.history import HistoryNotFoundError, JobSearch
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.disputes import DisputeKind
from cocoon_sdk.protocol.exit_codes import PendingError
from cocoon_sdk.protocol.job_states import EntryStatus
from cocoon_sdk.protocol.session_states import SessionStatus, entries_of
from cocoon_sdk.types import Hash

_MAX_GENUINE: Final = 10_000
_MAX_SEARCHES: Final = 16_384
"""Histories whose reading was cut off, a kilobyte each. More than the looks between two looks at a place that
waits (`backlog`): so none that goes on is forgotten, whatever was begun and came to nothing."""
PAGES: Final = 16
"""Pages of a history that one look reads before others have their turn."""
_SLACK_S: Final = 3600
_LOOKS: Final = 2
"""How often in a row the chain must show a dispute no more before it is over: one answer may be wrong."""


class Docket:
    """Hearings by the digests of their disputes; at most `at_a_time` ask the chain at once."""

    def __init__(
        self,
        chain: Chain,
        network: Network,
        key: SigningKey,
        store: ArbiterStore,
        *,
        most: int,
        at_a_time: int = 4,
    ) -> None:
        self._chain, self._network, self._key, self._store = chain, network, key, store
        self._most = most
        self._turns = asyncio.Semaphore(at_a_time)
        self._preparing = asyncio.Lock()  # each reads its evidence: after a restart there may be many
        self._genuine: OrderedDict[bytes, None] = OrderedDict()
        self._searches: OrderedDict[Hash, JobSearch] = OrderedDict()
        self._seen: dict[Hash, int] = {}
        self._gone: dict[Hash, int] = {}
        self.hearings: dict[Hash, Hearing] = {}

    def known(self, escrow: Address, number: int) -> Hearing | None:
        """Return the hearing of a dispute that is followed."""
        return next(
            (
                hearing
                for hearing in self.hearings.values()
                if hearing.dispute.number == number and hearing.dispute.escrow == escrow
            ),
            None,
        )

    async def follow(self, escrow: Address, number: int) -> Hearing:
        """Look at a dispute on chain and follow it. One that is followed is only looked up.

        One look reads at most `PAGES` pages of its history, each by turns with other looks. Raises
        `NoDisputeError` when the endpoint shows none for us, `TooManyDisputesError`, `UnfinishedError` when
        the history is longer, and `ChainError` when the endpoint fails or does not show the history yet: then
        the next call goes on.
        """
        known = self.known(escrow, number)
        if known is not None:
            return known
        async with self._turns:
            dispute, seqno = await self._read(escrow, number)
        if dispute.index_of(self._key.verify_key) is None:
            raise NoDisputeError(
                f"the dispute about {number} is not ours", why="its parameters name other arbiters"
            )
        if len(self.hearings) >= self._most:
            await self._dispensable()
        # Kept before its history is read, which may take long when somebody has filled it.
        await self._store.follow(
            Followed(
                dispute.digest,
                escrow,
                int(dispute.kind),
                number,
                dispute.disputed_at,
                ended_at=0,
                note="",
                seen_seqno=seqno,
                ends_at=dispute.ends_at,
            )
        )
        hearing = Hearing(dispute, await self._on_chain(dispute), self._key, self._store)
        async with self._preparing:
            known = self.hearings.get(dispute.digest)
            if known is not None:
                return known
            await hearing.prepare()
            await self._make_room()
            # One at a time, and at once after there is room: whoever is next counts this one.
            self._seen.setdefault(dispute.digest, seqno)
            self.hearings[dispute.digest] = hearing
        return hearing

    async def _on_chain(self, dispute: Dispute) -> OnChain:
        if dispute.kind is not DisputeKind.JOB:
            return OnChain(None, None)
        search = self._searches.get(dispute.digest)
        if search is None:
            since = dispute.disputed_at - m.Params.from_cell(dispute.params).max_phases - _SLACK_S
            search = JobSearch(self._chain, dispute.escrow, dispute.number, dispute.result_hash, since=since)
            self._searches[dispute.digest] = search
            if len(self._searches) > _MAX_SEARCHES:
                self._searches.popitem(last=False)
        self._searches.move_to_end(dispute.digest)
        try:
            for _ in range(PAGES):
                async with self._turns:
                    if await search.advance(1):
                        break
            else:
                raise UnfinishedError(
                    f"the history before the dispute about {dispute.number} of {dispute.escrow.to_str()}",
                    why=f"it was not found in {search.seen} transactions",
                    hint="The next look goes on",
                )
        except HistoryNotFoundError:
            self._searches.pop(dispute.digest, None)  # from the top again: the endpoint may have lagged
            raise
        self._searches.pop(dispute.digest, None)
        return on_chain_of(search.payload, search.result)

    async def _make_room(self) -> None:
        """Let go of a dispute that can be spared, if there are too many. Raises `TooManyDisputesError`."""
        if len(self.hearings) >= self._most:
            self.hearings.pop((await self._dispensable()).dispute.digest, None)

    async def _dispensable(self) -> Hearing:
        """Return the oldest dispute that nobody brought evidence for.

        Nothing is lost with it: it is looked at again when somebody asks, and if nobody does, it ends as it
        would have, in the worker's favour. So disputes that cost their clients nothing but a bond keep no
        other out. Raises `TooManyDisputesError` when all have evidence.
        """
        for hearing in sorted(self.hearings.values(), key=lambda each: each.dispute.disputed_at):
            if not hearing.held and await hearing.own() is None and not hearing.held:  # nor came it meanwhile
                return hearing
        raise TooManyDisputesError(
            "cannot follow another dispute",
            why=f"{self._most} are followed already",
            hint="Try again when some have ended",
        )

    # -- the end -------------------------------------------------------------------------------------------

    async def is_shown(self, what: Dispute | Followed) -> bool:
        """Tell whether the endpoint shows a dispute now. Raises `ChainError`."""
        view = await Escrow.at(self._chain, what.escrow).state()
        return _shows(view, what.number) == what.disputed_at

    async def is_over(self, what: Dispute | Followed) -> bool:
        """Tell whether the chain shows a dispute no more that it once showed. Raises `ChainError`.

        An answer from before the dispute, of an endpoint that lags, does not say so: each dispute begins with
        an external of its escrow, so whoever has seen fewer of them has not seen it yet.
        """
        view = await Escrow.at(self._chain, what.escrow).state()
        if _shows(view, what.number) == what.disputed_at:
            self._gone.pop(what.digest, None)
            return False
        seen = what.seen_seqno if isinstance(what, Followed) else self._seen.get(what.digest, 0)
        if view.seqno < seen:
            return False
        self._gone[what.digest] = self._gone.get(what.digest, 0) + 1
        return self._gone[what.digest] >= _LOOKS

    async def drop(self, digest: Hash, now: int, note: str) -> None:
        """Stop following a dispute that is over, and wipe its evidence."""
        await self._store.end(digest, now, note)
        self.hearings.pop(digest, None)
        for table in (self._gone, self._seen, self._searches):
            table.pop(digest, None)

    # -- reading -------------------------------------------------------------------------------------------

    async def _read(self, address: Address, number: int) -> tuple[Dispute, int]:
        """Return the dispute, and how many externals its escrow had taken when it was seen."""
        escrow = Escrow.at(self._chain, address)
        what = f"there is no dispute about {number} of {address.to_str()}"
        if address.wc != 0:
            raise NoDisputeError(what, why="the account is not in workchain 0")
        try:
            if address.hash_part not in self._genuine:
                await escrow.verify_genuine(self._network)
                self._genuine[address.hash_part] = None
                if len(self._genuine) > _MAX_GENUINE:
                    self._genuine.popitem(last=False)
            dispute = await read_any_dispute(self._chain, escrow, number)
            view = await escrow.state()
        except (
            AccountNotFoundError,
            ForgedAccountError,
            GetterError,
            MalformedError,
            PendingError,
        ) as error:
            raise NoDisputeError(what, why=str(error)) from None
        if _shows(view, number) != dispute.disputed_at:
            raise ChainUnavailableError(
                f"the dispute about {number} of {address.to_str()}",
                why="the endpoint's answers do not agree with each other",
            )
        return dispute, view.seqno


def _shows(view: m.EscrowView, number: int) -> int | None:
    """Return when a job or session was disputed, as one answer of the escrow has it; None when it is not."""
    entry = entries_of(view.entries).get(number)
    if entry is None or entry.status not in (EntryStatus.DISPUTED, SessionStatus.DISPUTED):
        return None
    return entry.deadline
