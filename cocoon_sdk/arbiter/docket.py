"""`Docket`: the disputes that an arbiter follows.

Owns what is believed before one is followed: a genuine escrow, a dispute, and parameters that name our key.
Must not know where the hint came from, or what happens in a hearing.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.arbiter.errors import TooManyDisputesError
from cocoon_sdk.arbiter.evidence import on_chain_of
from cocoon_sdk.arbiter.hearing import Hearing
from cocoon_sdk.arbiter.store import ArbiterStore, Followed
from cocoon_sdk.chain.base import Chain
from cocoon_sdk.contracts.disputes import Dispute, NoDisputeError, read_dispute
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.contracts.network import Network
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.errors import AccountNotFoundError, ForgedAccountError, GetterError, MalformedError
from cocoon_sdk.history import JobSearch
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.exit_codes import PendingError
from cocoon_sdk.types import Hash

_MAX_GENUINE: Final = 10_000
_PAGES: Final = 16
_SLACK_S: Final = 3600


class Docket:
    """Hearings by the digests of their disputes."""

    def __init__(
        self, chain: Chain, network: Network, key: SigningKey, store: ArbiterStore, *, most: int
    ) -> None:
        self._chain, self._network, self._key, self._store = chain, network, key, store
        self._most = most
        self._genuine: OrderedDict[bytes, None] = OrderedDict()
        self.hearings: dict[Hash, Hearing] = {}

    async def reopen(self) -> None:
        """Go on with what was followed before a restart. Raises `ChainError`."""
        for followed in await self._store.disputes(ended=False):
            if followed.digest not in self.hearings and len(self.hearings) < self._most:
                try:
                    await self.follow(followed.escrow, followed.number)
                except NoDisputeError:
                    await self._store.end(followed.digest, followed.disputed_at, "ended while we were away")

    async def follow(self, escrow: Address, number: int) -> Hearing:
        """Look at a dispute on chain and follow it. One that is followed is only looked up.

        Raises `NoDisputeError` when there is none for us, `TooManyDisputesError`, and `ChainError` when the
        endpoint fails or does not show the history yet.
        """
        known = next(
            (
                hearing
                for hearing in self.hearings.values()
                if hearing.dispute.number == number and hearing.dispute.escrow == escrow
            ),
            None,
        )
        if known is not None:
            return known
        dispute = await self._read(escrow, number)
        if dispute.index_of(self._key.verify_key) is None:
            raise NoDisputeError(
                f"the dispute about job {number} is not ours", why="its parameters name other arbiters"
            )
        await self._make_room()
        search = JobSearch(
            self._chain, escrow, number, dispute.result_hash, since=dispute.disputed_at - _life_s(dispute)
        )
        while not await search.advance(_PAGES):
            pass
        hearing = Hearing(dispute, on_chain_of(search.payload, search.result), self._key, self._store)
        await self._store.follow(
            Followed(
                dispute.digest, escrow, int(dispute.kind), number, dispute.disputed_at, ended_at=0, note=""
            )
        )
        await hearing.prepare()
        return self.hearings.setdefault(dispute.digest, hearing)

    async def _make_room(self) -> None:
        """Let go of the oldest dispute that nobody brought evidence for, if there are too many.

        Nothing is lost with it: it is looked at again when somebody asks, and if nobody does, it ends as it
        would have, in the worker's favour. So disputes that cost their clients nothing but a bond keep no
        other out. Raises `TooManyDisputesError` when all have evidence.
        """
        if len(self.hearings) < self._most:
            return
        for hearing in sorted(self.hearings.values(), key=lambda each: each.dispute.disputed_at):
            if not hearing.held and await hearing.own() is None:
                self.hearings.pop(hearing.dispute.digest, None)
                return
        raise TooManyDisputesError(
            "cannot follow another dispute",
            why=f"{self._most} are followed already",
            hint="Try again when some have ended",
        )

    async def is_over(self, hearing: Hearing) -> bool:
        """Tell whether the chain shows the dispute no more. Raises `ChainError`."""
        dispute = hearing.dispute
        entry = await Escrow.at(self._chain, dispute.escrow).job(dispute.number)
        return entry is None or entry.key_or_result != int.from_bytes(dispute.result_hash, "big")

    async def drop(self, hearing: Hearing, now: int, note: str) -> None:
        """Stop following a dispute that is over, and wipe its evidence."""
        await self._store.end(hearing.dispute.digest, now, note)
        self.hearings.pop(hearing.dispute.digest, None)

    async def _read(self, address: Address, number: int) -> Dispute:
        escrow = Escrow.at(self._chain, address)
        what = f"there is no dispute about job {number} of {address.to_str()}"
        if address.wc != 0:
            raise NoDisputeError(what, why="the account is not in workchain 0")
        try:
            if address.hash_part not in self._genuine:
                await escrow.verify_genuine(self._network)
                self._genuine[address.hash_part] = None
                if len(self._genuine) > _MAX_GENUINE:
                    self._genuine.popitem(last=False)
            return await read_dispute(self._chain, escrow, number)
        except (
            AccountNotFoundError,
            ForgedAccountError,
            GetterError,
            MalformedError,
            PendingError,
        ) as error:
            raise NoDisputeError(what, why=str(error)) from None


def _life_s(dispute: Dispute) -> int:
    """Return how long before its dispute a job can have been opened, at most."""
    return m.Params.from_cell(dispute.params).max_phases + _SLACK_S
