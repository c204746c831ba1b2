"""Waiting until an owner's messages have arrived, and saying what came of them.

Owns nothing but the wait; the exit codes become named errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from cocoon_sdk.errors import ChainTimeoutError

if TYPE_CHECKING:
    from pytoniq_core import Address

    from cocoon_sdk.chain.base import Chain
    from cocoon_sdk.contracts.sender import OwnerMessage

WAIT_S: Final = 180.0
_BLOCK_WAIT_S: Final = 10.0


async def wait_arrival(
    chain: Chain,
    account: Address,
    sender: Address,
    messages: Sequence[OwnerMessage],
    after_lt: int,
    what: str,
    *,
    wait_s: float = WAIT_S,
) -> None:
    """Wait until `account` has taken all `messages` of `sender`.

    Raises the named error of an exit code when one was refused, `ChainTimeoutError` after `wait_s` seconds.
    """
    from cocoon_sdk.history import walk
    from cocoon_sdk.protocol.exit_codes import error_for_exit_code

    wanted = {message.body.hash for message in messages if message.body is not None}
    try:
        async with asyncio.timeout(wait_s):
            head = await chain.head()
            while wanted:
                async for transaction in walk(chain, account, after_lt=after_lt):
                    incoming = transaction.in_message
                    if incoming is None or incoming.src != sender or incoming.body.hash not in wanted:
                        continue
                    if not transaction.success and transaction.exit_code is not None:
                        raise error_for_exit_code(transaction.exit_code, f"cannot {what}")
                    wanted.discard(incoming.body.hash)
                if wanted:
                    head = await chain.wait_head(head.seqno, _BLOCK_WAIT_S)
    except TimeoutError:
        raise ChainTimeoutError(
            f"cannot tell whether this worked: {what}",
            why=f"{account.to_str()} showed nothing after {wait_s:g} s",
            hint="Look at the account before you try again",
        ) from None
