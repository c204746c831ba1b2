"""`Courier`: brings complete verdicts to the escrow, when it is our turn and nobody was faster.

Owns whose turn it is, and when a verdict that did not get through is sent again. Must not know how a verdict
came about. The wallet pays gas only: whoever hands a verdict in cannot change it.
"""

from __future__ import annotations

import structlog

from cocoon_sdk.arbiter.docket import Docket
from cocoon_sdk.arbiter.hearing import Hearing
from cocoon_sdk.chain.base import Chain
from cocoon_sdk.contracts.disputes import resolve_message
from cocoon_sdk.contracts.sender import OwnerWallet
from cocoon_sdk.errors import ChainError, ConfigError
from cocoon_sdk.types import Hash

log = structlog.get_logger("cocoon.arbiter")


class Courier:
    """Hands verdicts in from `wallet`; arbiters do it one after the other, `every_s` apart."""

    def __init__(self, chain: Chain, docket: Docket, wallet: OwnerWallet, every_s: int) -> None:
        self._chain, self._docket, self._wallet, self._every_s = chain, docket, wallet, every_s
        self._complete_at: dict[Hash, int] = {}

    def forget(self, digest: Hash) -> None:
        """Forget a dispute that is over."""
        self._complete_at.pop(digest, None)

    async def hand_in(self, hearing: Hearing, now: int) -> bool:
        """Send the verdict if there is one and it is our turn.

        True when the dispute should be looked at: it may be over by now. Raises `ChainError` and
        `StorageError`.
        """
        dispute = hearing.dispute
        found = await hearing.complete()
        if found is None:
            return False
        (pay, slash), signatures = found
        complete_at = self._complete_at.setdefault(dispute.digest, now)
        # Everybody begins with another arbiter, so that the gas is not always the same one's.
        turn = (hearing.index - dispute.digest[0]) % len(dispute.members)
        if now < complete_at + turn * self._every_s:
            return False
        if not await self._docket.is_shown(dispute):
            return True
        self._complete_at[dispute.digest] = now + len(dispute.members) * self._every_s
        message = await resolve_message(self._chain, dispute, pay, slash, signatures)
        try:
            await self._wallet.send([message])
        except (ChainError, ConfigError) as error:
            log.error("verdict_not_sent", dispute=dispute.digest.hex()[:16], why=str(error))
            return False
        log.info("verdict_sent", dispute=dispute.digest.hex()[:16], pay=pay, slash=slash)
        return True
