"""Steps that tests of disputed sessions share, and the amounts that a dispute moves.

Owns no assertions but those that make a step what it says.
"""

from __future__ import annotations

from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.session_states import settles_at
from cocoon_sdk.sandbox import Transaction
from cocoon_sdk.types import Nano
from tests.helpers.audit import World
from tests.helpers.suite import Client, Worker

DEPOSIT = Nano.ton(1)
PAID = Nano.ton("0.2")
BOND = Nano.ton("0.2")
ANNOUNCEMENT = Nano.ton("0.01")
FEE = 3 * (Nano.ton("0.15") // 3)
FLOOR = Nano.ton("0.015")
VERDICT_GAS = Nano.ton("0.1")


def session_of(client: Client, number: int) -> m.Session:
    session = client.session(number)
    assert session is not None
    return session


def resolve(client: Client, worker: Worker, number: int, slash: int, **changes: object) -> list[Transaction]:
    verdict = client.suite.session_verdict(client, worker, number, slash, **changes)
    return client.suite.chain.actor("anyone").send(client.address, VERDICT_GAS, verdict.to_cell())


def earned(worker: Worker) -> int:
    state = worker.get_state()
    return int(state.earned + state.fee_due)


def ended(world: World, client: Client, number: int) -> None:
    """Let the session's time pass, and settle it."""
    world.chain.set_now(settles_at(session_of(client, number)))
    client.act(signing.settle_session(number))
    assert client.get_state().reserved == 0
