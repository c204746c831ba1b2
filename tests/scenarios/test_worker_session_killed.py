"""The whole worker as a process of its own, killed with SIGKILL in the middle of answers: nobody loses more
than an increment, and what was handed over is paid for on chain.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cocoon_sdk.clock import SystemClock
from cocoon_sdk.crypto import write_key_file
from cocoon_sdk.crypto.channel import WorkerName
from cocoon_sdk.protocol import session_wire as wire
from cocoon_sdk.protocol.terms import SamplingClass, Terms
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.sandbox.ledger import Ledger
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.toncenter.server import ToncenterServer
from cocoon_sdk.types import Hash, Nano
from cocoon_worker.database import Database
from cocoon_worker.sessions.book import SessionBook
from cocoon_worker.sessions.records import SessionEntry, SessionState
from tests.helpers.session_client import TestClient
from tests.helpers.session_rig import OpenedSession, open_session
from tests.helpers.worker_rig import Rig

INCREMENT = Nano(1_000_000)
WORDS = " ".join(f"word{number}" for number in range(120))
_PATIENCE_S = 60


class Process:
    """A worker's machine: the journal stays when the process is killed."""

    def __init__(self, rig: Rig, folder: Path, url: str) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        write_key_file(folder / "operator.key", rig.account("bob").key)
        (folder / "worker.toml").write_text(
            f"""
registry = "{rig.suite.network.registry.to_str()}"
owner = "{rig.account("bob").owner.address.to_str()}"
operator_key_file = "{folder}/operator.key"
prekey_dir = "{folder}/prekeys"
data_dir = "{folder}/data"
chain.url = "{url}"
engine.kind = "echo"
endpoint.port = {self.port}
policy.poll_s = 0.05
[[offers]]
model = "echo-model"
model_id = "{rig.suite.model_id.hex()}"
engine_model = "echo"
input_price = "0.1"
output_price = "50"
minimum_price = "0.01"
"""
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run it until it is killed, or end it."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cocoon_worker.main", str(self.folder / "worker.toml"),
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        said = b""
        async with asyncio.timeout(_PATIENCE_S):
            while b"worker started" not in said:
                line = await process.stderr.readline()
                assert line, said.decode()
                said += line
        draining = asyncio.create_task(process.stderr.read())
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
            await draining

    def entry(self, session: OpenedSession) -> SessionEntry:
        """Read what is on the disk."""
        database = Database(self.folder / "data" / "journal.sqlite", read_only=True)
        try:
            found = SessionBook(database).entry(session.key)
            assert found is not None
            return found
        finally:
            database.close()


def client_of(rig: Rig, process: Process, session: OpenedSession) -> TestClient:
    stake = rig.account("bob")
    terms = Terms(
        model_id=Hash(rig.suite.model_id),
        model_entry_hash=Hash(bytes(32)),
        input_price=Nano.ton("0.1"),
        cached_input_price=Nano.ton("0.1"),
        output_price=Nano.ton(50),
        minimum_price=Nano.ton("0.01"),
        sampling=SamplingClass.UNVERIFIED,
    )
    return TestClient(
        url=f"http://127.0.0.1:{process.port}",
        worker=WorkerName(rig.blockchain.global_id, bytes(stake.address.hash_part)),
        operator=stake.key.verify_key,
        ref=session.ref,
        signer=session.signer,
        terms=terms,
        deposit=Nano.ton(1),
        increment=INCREMENT,
    )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[tuple[Rig, Process]]:
    rig = Rig(tmp_path, blockchain=Blockchain(now=SystemClock().now()))
    async with Node(rig.blockchain) as node, ToncenterServer(node) as api:
        yield rig, Process(rig, tmp_path, f"{api.url}/api/v2")


async def test_worker_process_killed_in_mid_answer_has_the_voucher_of_every_byte_it_sent(
    world: tuple[Rig, Process],
) -> None:
    rig, machine = world
    session = open_session(rig, rig.suite.client("alice"), "bob", deposit=Nano.ton(1))
    client = client_of(rig, machine, session)
    request = {"model": "echo-model", "max_tokens": 500, "messages": [{"role": "user", "content": WORDS}]}
    for pieces in (1, 7, 40, 90):
        async with machine.running() as process, client.connected():
            assert client.session_failed is None
            assert client.welcome is not None
            left = pieces

            def kill(_: wire.Delta, process: asyncio.subprocess.Process = process) -> None:
                nonlocal left
                left -= 1
                if not left:
                    os.kill(process.pid, signal.SIGKILL)

            client.on_delta = kill
            answer = await client.ask(**request)
            await client.end_of_session()
            assert answer.failed is None
            assert await process.wait() == -signal.SIGKILL
            assert answer.done is None
            assert len(answer.deltas) >= pieces
        on_disk = machine.entry(session)
        # Every byte that arrived is paid for by what is on the worker's disk, and the client's is no worse.
        assert client.ledger.accounted <= on_disk.signed <= client.ledger.signed
        assert session.voucher(on_disk.signed).signature == on_disk.signature
        assert client.ledger.signed - client.ledger.accounted <= INCREMENT

    client.on_delta = None
    async with machine.running(), client.connected():
        answer = await client.end(await client.ask(**request))
        assert answer.done is not None
        assert answer.text.split()[-1] == WORDS.split()[-1]
        assert client.ledger.lost <= INCREMENT
    # The last voucher, which paid ahead, may not have arrived any more; all that was used is paid for.
    known = machine.entry(session)
    assert client.ledger.used <= known.signed <= client.ledger.signed
    # Claimed is what the worker counted, not what was paid ahead.
    best = known.payable
    assert client.ledger.accounted <= best <= known.signed
    session.close()
    async with machine.running():
        async with asyncio.timeout(_PATIENCE_S):
            while session.view is not None or machine.entry(session).paid < best:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    found = machine.entry(session)
    assert (found.state is SessionState.OPEN, found.paid, found.unredeemed) == (False, best, 0)
    stake = rig.account("bob").get_state()
    assert stake.earned + stake.fee_due == best
    Ledger.of(rig.blockchain).assert_balanced()
