"""What whole flows cost on the mainnet configuration: transactions, gas and fees, measured on the sandbox.

    python -m tests.gas             print a table, write build/gas.json
    python -m tests.gas --update    also renew tests/gas_snapshot.json (`make gas UPDATE=1`)

A fee here is everything that a transaction takes: `Transaction.cost`, forward fees included, in nanoTON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.opcodes import OP_NAMES
from cocoon_sdk.sandbox import Blockchain, Transaction
from cocoon_sdk.types import Nano
from tests.helpers.suite import Client, Suite, Worker, hash_of

ROOT = Path(__file__).resolve().parent.parent
SNAPSHOT = ROOT / "tests" / "gas_snapshot.json"
REPORT = ROOT / "build" / "gas.json"

PRICE = Nano.ton("0.2")
ACTIVE_JOBS = 50
BATCH_ITEMS = 100


@dataclass
class Flow:
    """Transactions of one flow, in order."""

    name: str
    items: int = 1
    transactions: list[Transaction] = field(default_factory=list)

    @property
    def gas(self) -> int:
        return sum(tx.gas_used for tx in self.transactions)

    @property
    def fees(self) -> int:
        return sum(int(tx.cost) for tx in self.transactions)

    def add(self, transactions: list[Transaction], refusal: ExitCode | None = None) -> None:
        """Append transactions. Raises `AssertionError` when one failed: its fees would mean nothing.

        `refusal` is the exit code with which one of them has to refuse what it got.
        """
        for tx in transactions:
            assert tx.exit_code in (0, None, refusal), (self.name, tx)
            assert tx.action_result_code in (0, None), (self.name, tx)
        self.transactions.extend(transactions)


def _setup() -> tuple[Suite, Client, Worker]:
    suite = Suite(Blockchain())
    return suite, suite.client("alice"), suite.worker("bob", stake=Nano.ton(1000))


def _directed(flow: Flow, suite: Suite, client: Client, worker: Worker, items: int = 1) -> None:
    number, opened = client.open(suite.directed_terms(worker, PRICE, items=items))
    flow.add(opened)
    flow.add(worker.submit(client, number, PRICE))
    flow.add(client.act(signing.accept_result(number)))


def _beside_jobs(suite: Suite, client: Client, worker: Worker) -> None:
    for _ in range(ACTIVE_JOBS):
        number, _opened = client.open(suite.directed_terms(worker, PRICE))
        worker.submit(client, number, PRICE)


def directed_1() -> Flow:
    """Open, submit, accept: nothing else active."""
    flow = Flow("job_directed_1")
    _directed(flow, *_setup())
    return flow


def directed_50() -> Flow:
    """The same beside 50 submitted jobs at the escrow and what they lock at the stake."""
    flow = Flow("job_directed_50")
    suite, client, worker = _setup()
    _beside_jobs(suite, client, worker)
    _directed(flow, suite, client, worker)
    return flow


def cooperative_1() -> Flow:
    """Open; the worker's signature instead of a submission."""
    flow = Flow("job_cooperative_1")
    suite, client, worker = _setup()
    number, opened = client.open(suite.directed_terms(worker, PRICE))
    flow.add(opened)
    signature = worker.sign_result(client, number, PRICE)
    flow.add(client.act(signing.accept_signed(number, PRICE, hash_of("result"), signature)))
    return flow


def open_1() -> Flow:
    """An open job: three workers claim, one gets it, the claims of two come back."""
    flow = Flow("job_open_1")
    suite, client, winner = _setup()
    losers = [suite.worker("carol"), suite.worker("dave")]
    number, opened = client.open(suite.open_terms(PRICE))
    flow.add(opened)
    claims = [(worker, worker.claim_action(client, number)) for worker in losers]
    flow.add(winner.claim(client, number))
    for worker, claim in claims:
        flow.add(worker.act(claim), refusal=ExitCode.TAKEN)
    flow.add(winner.submit_claimed(client, number, PRICE))
    flow.add(client.act(signing.accept_result(number)))
    return flow


def batch_100() -> Flow:
    """One job whose payload and result are Merkle roots over 100 items."""
    flow = Flow("job_batch_100", items=BATCH_ITEMS)
    suite, client, worker = _setup()
    _directed(flow, suite, client, worker, items=BATCH_ITEMS)
    return flow


def _session_open(name: str, *, busy: bool) -> Flow:
    flow = Flow(name)
    suite, client, worker = _setup()
    if busy:
        _beside_jobs(suite, client, worker)
    _number, opened = client.open_session(worker, Nano.ton(2))
    flow.add(opened)
    return flow


def _session_redeem(name: str, *, busy: bool) -> Flow:
    """A redemption that is not the first, as most are; what happened in between changes nothing."""
    flow = Flow(name)
    suite, client, worker = _setup()
    if busy:
        _beside_jobs(suite, client, worker)
    number, _opened = client.open_session(worker, Nano.ton(2))
    worker.redeem(client, number, PRICE)
    flow.add(worker.redeem(client, number, 2 * PRICE))
    return flow


def session_open_1() -> Flow:
    """Reserve a deposit for one worker."""
    return _session_open("session_open", busy=False)


def session_redeem_1() -> Flow:
    """The operator redeems a voucher for any number of requests."""
    return _session_redeem("session_redeem", busy=False)


def session_open_50() -> Flow:
    """The same beside 50 submitted jobs."""
    return _session_open("session_open_50", busy=True)


def session_redeem_50() -> Flow:
    """The same beside 50 submitted jobs."""
    return _session_redeem("session_redeem_50", busy=True)


FLOWS: tuple[Callable[[], Flow], ...] = (
    directed_1,
    directed_50,
    cooperative_1,
    open_1,
    batch_100,
    session_open_1,
    session_redeem_1,
    session_open_50,
    session_redeem_50,
)
GOALS = {
    "job_directed_1": 16_000_000,
    "job_directed_50": 19_000_000,
    "job_cooperative_1": 10_000_000,
    "session_open": 3_000_000,
    "session_redeem": 8_000_000,
}
"""The most that a flow may cost, in nanoTON."""
IN_README = {
    "job_directed_1": "directed job: open, offer, submit, accept",
    "job_directed_50": "the same with 50 other jobs active",
    "job_cooperative_1": "cooperative end: the worker hands over a signed result",
    "job_open_1": "open job, three workers compete",
    "job_batch_100": "batch of 100, per item",
    "session_open": "session: open, for any number of requests",
    "session_redeem": "session: redeem what they cost, at any time",
}
"""What the README calls the flows that it shows."""


def measure() -> list[Flow]:
    """Run every flow on a fresh chain."""
    return [run() for run in FLOWS]


def figures(flows: list[Flow]) -> dict[str, dict[str, int]]:
    """Return {flow: {transactions, gas, fees_nano}}."""
    return {
        flow.name: {"transactions": len(flow.transactions), "gas": flow.gas, "fees_nano": flow.fees}
        for flow in flows
    }


def _operation(tx: Transaction) -> str:
    if tx.in_msg.bounced:
        return "bounce"
    return "external" if tx.in_msg.is_external_in else OP_NAMES.get(tx.op or 0, "?")


def _print(flows: list[Flow], before: dict[str, dict[str, int]]) -> None:
    console = Console()
    table = Table(title="Fees on the mainnet configuration, nanoTON")
    for column in ("flow", "transaction"):
        table.add_column(column)
    for column in ("gas", "import", "forward", "fees", "per item", "snapshot"):
        table.add_column(column, justify="right")
    for flow in flows:
        for tx in flow.transactions:
            table.add_row(
                "",
                _operation(tx),
                f"{tx.gas_used:,}",
                f"{int(tx.import_fee):,}",
                f"{int(tx.forward_fees):,}",
                f"{int(tx.cost):,}",
                "",
                "",
            )
        known = before.get(flow.name, {}).get("fees_nano")
        change = "-" if known is None else f"{flow.fees - known:+,}"
        table.add_row(
            f"[bold]{flow.name}",
            f"{len(flow.transactions)} in all",
            f"{flow.gas:,}",
            "",
            "",
            f"[bold]{flow.fees:,}",
            f"{flow.fees // flow.items:,}",
            change,
            end_section=True,
        )
    console.print(table)


def read_snapshot() -> dict[str, dict[str, int]]:
    """Return the committed figures; empty when there are none yet."""
    if not SNAPSHOT.exists():
        return {}
    snapshot: dict[str, dict[str, int]] = json.loads(SNAPSHOT.read_text("utf-8"))
    return snapshot


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.gas", description=__doc__)
    parser.add_argument("--update", action="store_true", help="renew the committed snapshot")
    options = parser.parse_args()
    flows = measure()
    _print(flows, read_snapshot())
    text = json.dumps(figures(flows), indent=2) + "\n"
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(text, "utf-8")
    if options.update:
        SNAPSHOT.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
