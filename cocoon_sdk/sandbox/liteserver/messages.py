"""`sendMessage`: an external message into the node, and the words in which a refusal goes back.

Owns the texts, which wallets and explorers search for exit codes.
"""

from __future__ import annotations

import asyncio

from cocoon_sdk.errors import ExternalRejectedError, MalformedError
from cocoon_sdk.sandbox.cells import native_from_boc
from cocoon_sdk.sandbox.liteserver.errors import QueryError
from cocoon_sdk.sandbox.liteserver.ids import Answer
from cocoon_sdk.sandbox.messages import Message
from cocoon_sdk.sandbox.node import Node

_REJECTED_BY_ACCOUNT = -701
_PREFIX = "cannot apply external message to current state : "
_NOT_RUN = (
    "External message was not accepted: cannot run message on account: inbound external message rejected by"
)


async def send_message(node: Node, body: bytes) -> Answer:
    """Give a message to the node; raises `QueryError` when it is not accepted."""
    try:
        # A client that hangs up does not take its message back.
        await asyncio.shield(node.send(body))
    except MalformedError as error:
        raise QueryError(
            f"{_PREFIX}external message is not a valid bag of cells", QueryError.FAILED
        ) from error
    except ExternalRejectedError as error:
        raise _refusal(body, error) from error
    return "sendMsgStatus", {"status": 1}


def _refusal(body: bytes, error: ExternalRejectedError) -> QueryError:
    try:
        receiver = Message(native_from_boc(body)).dst
    except MalformedError:
        receiver = None
    if receiver is None:
        return QueryError(f"{_PREFIX}{error}", QueryError.FAILED)
    account = receiver.hash_part.hex().upper()
    if error.exit_code is None:
        text = f"{_NOT_RUN} account {account} before smart-contract execution: {error.why}"
    else:
        text = f"{_NOT_RUN} transaction {account}:\nexitcode={error.exit_code}, {error.why}"
    return QueryError(_PREFIX + text, _REJECTED_BY_ACCOUNT)
