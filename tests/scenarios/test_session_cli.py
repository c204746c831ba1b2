"""`cocoon worker sessions|redeem` and `cocoon session redeem|watch`, as people type them, over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cocoon_sdk.client.wallets import KeyWallet
from cocoon_sdk.clock import SystemClock
from cocoon_sdk.crypto import write_key_file
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.toncenter.server import ToncenterServer
from cocoon_sdk.types import Nano
from cocoon_worker.service import WorkerService
from tests.helpers.session_rig import DAY_S, OpenedSession, entry, open_session, serve, settings
from tests.helpers.suite import key_of
from tests.helpers.worker_rig import Rig
from tests.scenarios.test_worker_sessions import redeemed

_COCOON = "from cocoon_sdk.cli.main import main; main()"


@dataclass
class Desk:
    """A worker's machine: its settings, and a wallet that anybody could have."""

    rig: Rig
    folder: Path
    env: dict[str, str]

    def service(self) -> WorkerService:
        return self.rig.service("bob", sessions=settings())

    @property
    def config(self) -> str:
        return str(self.folder / "worker.toml")

    async def types(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _COCOON, *arguments,
            env=self.env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == code, (out + err).decode()
        return out.decode(), err.decode()

    async def reads(self, *arguments: str, code: int = 0) -> Any:
        return json.loads((await self.types(*arguments, "--json", code=code))[0])


def write_settings(rig: Rig, folder: Path, url: str) -> None:
    bob = rig.account("bob")
    write_key_file(folder / "operator.key", bob.key)
    write_key_file(folder / "tower.key", key_of("tower"))
    model = rig.suite.model_id.hex()
    (folder / "cocoon.toml").write_text("")
    (folder / "worker.toml").write_text(
        f"""
registry = "{rig.suite.network.registry.to_str()}"
owner = "{bob.owner.address.to_str()}"
operator_key_file = "{folder}/operator.key"
prekey_dir = "{folder}/bob/prekeys"
data_dir = "{folder}/bob/data"
chain.url = "{url}"
engine.kind = "echo"
[[offers]]
model = "echo-model"
model_id = "{model}"
input_price = "1"
output_price = "1"
minimum_price = "0.01"
"""
    )


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    rig = Rig(tmp_path, blockchain=Blockchain(now=SystemClock().now()))
    async with Node(rig.blockchain) as node, ToncenterServer(node) as api:
        url = f"{api.url}/api/v2"
        write_settings(rig, tmp_path, url)
        tower = KeyWallet(rig.chain, key_of("tower"))
        rig.suite.governor.send(tower.address, Nano.ton(5), bounce=False)
        env = {
            **os.environ,
            "COCOON_ENDPOINT": url,
            "COCOON_REGISTRY": rig.suite.network.registry.to_str(),
            "COCOON_OWNER_KEY_FILE": str(tmp_path / "tower.key"),
            "COCOON_POLL_S": "0.05",
            "COCOON_CONFIG": str(tmp_path / "cocoon.toml"),
        }
        yield Desk(rig, tmp_path, env)


async def earn(desk: Desk, *amounts: str) -> list[OpenedSession]:
    """Let the worker earn so much in one session each, and stop."""
    alice = desk.rig.suite.client("alice")
    async with desk.service() as service:
        sessions = [open_session(desk.rig, alice, "bob") for _ in amounts]
        for session, amount in zip(sessions, amounts, strict=True):
            await serve(service, session, Nano.ton(amount))
        await service.settle()
    return sessions


async def test_operator_can_list_export_and_redeem(desk: Desk) -> None:
    first, second = await earn(desk, "0.2", "0.3")
    document = await desk.reads("worker", "sessions", "--config", desk.config)
    found = {each["session"]: each for each in document["sessions"]}
    assert found[str(first.key)]["unredeemed_nano"] == "200000000"
    assert document["totals_nano"]["unredeemed"] == "500000000"
    shown, _ = await desk.types("worker", "sessions", "--config", desk.config)
    assert "0.3" in shown

    refused = await desk.reads("worker", "redeem", "--config", desk.config, code=1)
    assert refused["error"]["type"] == "NotConfirmedError"
    dry = await desk.reads("worker", "redeem", "--config", desk.config, "--dry-run")
    assert len(dry["moves"]) == 2
    assert redeemed(first) == 0

    name = str(second.key)
    document = await desk.reads("worker", "redeem", name, "--config", desk.config, "--yes")
    assert [(each["session"], each["paid_nano"]) for each in document["redeemed"]] == [(name, "300000000")]
    assert (redeemed(first), redeemed(second)) == (0, Nano.ton("0.3"))
    error = await desk.reads("worker", "redeem", "nonsense", "--config", desk.config, code=1)
    assert error["error"]["type"] == "MalformedError"


async def test_anybody_can_redeem_and_watch_with_exported_vouchers(desk: Desk) -> None:
    first, second = await earn(desk, "0.2", "0.01")
    vouchers = str(desk.folder / "vouchers")
    exported = await desk.reads("worker", "sessions", "--config", desk.config, "--export", vouchers)
    assert len(exported["files"]) == 2

    waiting = await desk.reads("session", "watch", vouchers, "--rounds", "1", "--yes")
    outlooks = {each["session"]: each["outlook"] for each in waiting["vouchers"]}
    assert outlooks == {str(first.key): "open", str(second.key): "nothing due"}
    refused = await desk.reads("session", "watch", vouchers, code=1)
    assert refused["error"]["type"] == "NotConfirmedError"

    first.close()
    desk.rig.warp(DAY_S - 3600)
    seen = await desk.reads("session", "watch", vouchers, "--rounds", "1", "--yes")
    outlooks = {each["session"]: each["outlook"] for each in seen["vouchers"]}
    assert outlooks == {str(first.key): "nothing due", str(second.key): "nothing due"}
    assert (redeemed(first), redeemed(second)) == (Nano.ton("0.2"), 0)

    (desk.folder / "vouchers" / "broken.voucher.json").write_text("{}")
    _, notes = await desk.types("session", "redeem", vouchers, "--least", "0.005", "--yes")
    assert "broken.voucher.json" in notes
    assert redeemed(second) == Nano.ton("0.01")
    async with desk.service() as service:
        await service.settle()
        assert entry(service, first).paid == Nano.ton("0.2")
        assert entry(service, second).paid == Nano.ton("0.01")
