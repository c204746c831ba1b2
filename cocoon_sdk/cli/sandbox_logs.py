"""`cocoon sandbox logs`: what happened, decoded, as a tree.

Owns turning transactions from the control API back into traces, and their JSON form.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cocoon_sdk.errors import MalformedError

if TYPE_CHECKING:
    from cocoon_sdk.cli.session import Session
    from cocoon_sdk.sandbox.control import ControlClient
    from cocoon_sdk.sandbox.trace import Names
    from cocoon_sdk.sandbox.transactions import Transaction

FOLLOW_WAIT_S: Final = 20


async def show_logs(
    session: Session,
    client: ControlClient,
    *,
    address: str | None,
    transaction: str | None,
    limit: int,
    follow: bool,
    abis: Iterable[Path],
) -> None:
    """Show one trace, the newest transactions, or (with `follow`) those and whatever comes."""
    names = _names(await client.call("status"), abis)
    if transaction is not None:
        found = await client.call("trace", hash=transaction)
        _show(session, _read(found, {}), names)
        return
    wanted = {} if address is None else {"address": address}
    found = await client.call("transactions", limit=limit, **wanted)
    senders: dict[str, Transaction] = {}
    first = _read(found, senders)
    if first or not follow:
        _show(session, first, names, lines=follow)
    while follow:
        found = await client.call(
            "transactions", limit=1000, after_lt=found["last_lt"], wait_s=FOLLOW_WAIT_S, **wanted
        )
        new = _read(found, senders)
        if new:
            _show(session, new, names, lines=True)


def _names(status: dict[str, Any], abis: Iterable[Path]) -> Names:
    from pytoniq_core import Address

    from cocoon_sdk.cli.sandbox_abi import suite_names
    from cocoon_sdk.sandbox.abi_names import read_abi
    from cocoon_sdk.sandbox.blockchain import FAUCET
    from cocoon_sdk.sandbox.trace import Names

    accounts = {Address(text): name for name, text in status.get("names", {}).items()}
    names = Names(accounts={FAUCET: "faucet", **accounts})
    if status.get("registry"):
        names |= suite_names()
    for path in abis:
        names |= read_abi(path)
    return names


def _read(answer: dict[str, Any], senders: dict[str, Transaction]) -> list[Transaction]:
    from cocoon_sdk.sandbox.cells import native_from_boc
    from cocoon_sdk.sandbox.reading import read_transactions

    try:
        cells = [
            (int(item["key"], 16), native_from_boc(base64.b64decode(item["boc"])))
            for item in answer["transactions"]
        ]
    except (KeyError, ValueError, TypeError) as error:
        raise MalformedError("the sandbox's answer makes no sense", why=str(error)[:80]) from error
    return read_transactions(cells, senders=senders)


def _show(session: Session, transactions: list[Transaction], names: Names, *, lines: bool = False) -> None:
    from cocoon_sdk.sandbox.trace import Trace

    if session.out.as_json and lines:
        for transaction in transactions:  # one document a line, for whoever reads a stream
            print(json.dumps(transaction_json(transaction, names)), flush=True)
    elif session.out.as_json:
        session.out.result({"transactions": [transaction_json(each, names) for each in transactions]})
    else:
        session.out.stdout.print(Trace(transactions, names).tree())


def transaction_json(transaction: Transaction, names: Names) -> dict[str, Any]:
    """Return a transaction for machines: amounts in nanoTON as text, hashes in hex."""
    message = transaction.in_msg
    code, action = transaction.exit_code, transaction.action_result_code
    return {
        "lt": str(transaction.lt),
        "hash": transaction.hash.hex(),
        "now": transaction.now,
        "account": transaction.address.to_str(),
        "account_name": names.account(transaction.address),
        "parent": None if transaction.parent is None else transaction.parent.hash.hex(),
        "message": message.hash.hex(),
        "from": None if message.src is None else message.src.to_str(),
        "value": str(int(message.value)),
        "bounced": message.bounced,
        "op": None if message.op is None else f"0x{message.op:08x}",
        "op_name": names.op(message.op),
        "skipped": transaction.skipped,
        "exit_code": code,
        "exit_name": None if code is None else names.exit_code(code),
        "action_result_code": action,
        "action_result_name": None if action is None else names.exit_code(action),
        "success": transaction.success,
        "gas_used": transaction.gas_used,
        "total_fees": str(int(transaction.total_fees)),
        "forward_fees": str(int(transaction.forward_fees)),
        "out": [
            {
                "message": out.hash.hex(),
                "to": None if out.dst is None else out.dst.to_str(),
                "value": str(int(out.value)),
                "op": None if out.op is None else f"0x{out.op:08x}",
                "op_name": names.op(out.op),
            }
            for out in transaction.out_msgs
        ],
    }
