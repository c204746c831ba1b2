"""A watchtower: redeems a worker's vouchers when the worker itself does not.

Owns what is looked at and when it acts: the worker comes first, since a redemption from here costs its sender
gas and earns it nothing; the money always goes to the worker. Must not know files or command lines. Needs
saved vouchers, a chain and any wallet; no key of the worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.contracts.network import Network
from cocoon_sdk.contracts.sender import OwnerMessage, OwnerWallet
from cocoon_sdk.errors import AccountNotFoundError, ForgedAccountError, GetterError, MalformedError
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.exit_codes import PendingError
from cocoon_sdk.protocol.session_states import SessionStatus, close_delay_of, settles_at, turns_at
from cocoon_sdk.protocol.signing import account_id
from cocoon_sdk.protocol.voucher_file import SavedVoucher
from cocoon_sdk.types import Nano

DEFAULT_LEAST: Final = Nano.ton("0.05")
"""Less than this is not worth what a redemption from a wallet costs."""
DEFAULT_BEFORE_S: Final = 12 * 3600
"""How long before the client can settle a watchtower acts."""


class Outlook(StrEnum):
    """What a watchtower makes of a voucher."""

    NOTHING_DUE = "nothing due"
    OPEN = "open"
    """The session is open or disputed: whatever happens, the worker has its whole delay."""
    WORKER_FIRST = "worker first"
    """The session is over, and the worker still has plenty of time."""
    DUE = "due"
    """Redeem it now."""
    ENDED = "ended"
    REFUSED = "refused"
    """The voucher is not one of this escrow's session, or the account is no genuine escrow."""


@dataclass(frozen=True, slots=True)
class Watched:
    """One voucher as the chain shows its session. `settle_at` is when the rest can be lost, in unix time."""

    saved: SavedVoucher
    outlook: Outlook
    due: Nano = field(default_factory=lambda: Nano(0))
    settle_at: int = 0
    why: str = ""


class Watchtower:
    """Looks at vouchers and redeems them for their workers.

    Redeems what is worth at least `least` nanoTON from `before_s` seconds before it can be lost; `before_s`
    is at most half of the network's delay after closing, so that the worker can be first.
    """

    def __init__(
        self,
        chain: Chain,
        network: Network,
        *,
        least: Nano = DEFAULT_LEAST,
        before_s: int = DEFAULT_BEFORE_S,
    ) -> None:
        self._chain, self._network = chain, network
        self._least, self._before_s = least, before_s
        self._genuine: set[bytes] = set()

    async def look(self, saved: SavedVoucher) -> Watched:
        """Return what is to be done about a voucher. Raises `ChainError` when the endpoint fails."""
        if saved.session.domain.global_id != await self._chain.global_id():
            return Watched(saved, Outlook.REFUSED, why="it is of another network")
        escrow = Escrow.at(self._chain, saved.escrow)
        try:
            if bytes(saved.escrow.hash_part) not in self._genuine:
                await escrow.verify_genuine(self._network)
                self._genuine.add(bytes(saved.escrow.hash_part))
            view = await escrow.session(saved.session.session_id)
        except (AccountNotFoundError, ForgedAccountError, GetterError, MalformedError, PendingError) as error:
            return Watched(saved, Outlook.REFUSED, why=str(error))
        if view is None:
            return Watched(saved, Outlook.ENDED)
        if view.worker != account_id(saved.session.worker) or view.voucher_key != saved.voucher_key.to_int():
            return Watched(saved, Outlook.REFUSED, why="the session has another worker or voucher key")
        return self._judge(saved, view, (await self._chain.head()).now)

    def _judge(self, saved: SavedVoucher, view: m.Session, now: int) -> Watched:
        delay, settle_at = close_delay_of(view), settles_at(view)
        # A verdict can come at any moment; it leaves the whole delay, as a close does.
        is_running = view.status == SessionStatus.DISPUTED and now < turns_at(view)
        waits = is_running or (view.status == SessionStatus.OPEN and now < view.deadline)
        due = Nano(max(0, min(saved.claim, view.deposit) - view.redeemed))
        if due < self._least:
            return Watched(saved, Outlook.NOTHING_DUE, due, settle_at)
        if waits:
            return Watched(saved, Outlook.OPEN, due, settle_at)
        early = now < settle_at - min(self._before_s, delay // 2)
        return Watched(saved, Outlook.WORKER_FIRST if early else Outlook.DUE, due, settle_at)

    def message(self, saved: SavedVoucher) -> OwnerMessage:
        """Return the message that redeems a voucher, from any wallet."""
        return Escrow.at(self._chain, saved.escrow).redeem(
            saved.session.session_id, saved.claim, saved.voucher.signature, forgo=saved.forgo
        )

    async def redeem(self, vouchers: Sequence[SavedVoucher], wallet: OwnerWallet) -> None:
        """Send redemptions; the caller looks again to see what came of them. Raises what `wallet` raises."""
        await wallet.send([self.message(saved) for saved in vouchers])
