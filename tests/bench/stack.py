"""A whole network for timing: sandbox, worker and gateway, each in a process of its own, over one upstream.

Real everything: contracts, session, vouchers on disk, encryption. The sandbox lives in the measuring process,
which does nothing else while a load runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from cocoon_sdk.client.app import AsyncCocoon
from cocoon_sdk.client.wallets import KeyWallet
from cocoon_sdk.contracts.worker_stake import WorkerStake
from cocoon_sdk.crypto.keyfiles import write_key_file
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.demo.engines import first_model
from cocoon_sdk.demo.localnet import LOOPBACK, LocalNetwork
from cocoon_sdk.demo.staffing import until
from cocoon_sdk.types import Nano
from cocoon_sdk.verify.manifest import ModelManifest
from cocoon_worker.setup import create_stake

PATIENCE_S: Final = 60.0
_COCOON: Final = str(Path(sys.executable).parent / "cocoon")
_PRIVATE: Final = f"{LOOPBACK}/32"
_TICKS: Final = os.sysconf("SC_CLK_TCK")

# Prices as a small model has them: the default increment lasts for some 400 short answers.
_WORKER: Final = """\
registry = "{registry}"
owner = "{owner}"
operator_key_file = "{folder}/operator.key"
prekey_dir = "{folder}/prekeys"
data_dir = "{folder}/worker"

[chain]
url = "{chain}"

[engine]
kind = "openai"
url = "{upstream}"
{engine_key}

[[offers]]
model = "{model}"
model_id = "{model_id}"
input_price = "0.05"
output_price = "0.1"
minimum_price = "0.001"
max_context = 2048
max_output_tokens = 512

[policy]
max_concurrent = 128

[endpoint]
host = "127.0.0.1"
port = {port}
public_url = "http://127.0.0.1:{port}"
"""


@dataclass(slots=True)
class Child:
    """One process under measurement."""

    process: subprocess.Popen[str]

    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self.process.poll() is not None

    def cpu_s(self) -> float:
        """CPU time that it has used so far, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


@dataclass(slots=True)
class Stack:
    """A gateway over a worker over `upstream`. `url` is the gateway's, as an OpenAI client takes it."""

    url: str
    model: str
    worker: Child
    gateway: Child


@contextlib.contextmanager
def child(*command: str, log: Path, env: dict[str, str] | None = None) -> Iterator[Child]:
    """Run a command of `cocoon`; ended by SIGTERM."""
    with log.open("w") as errors:
        process = subprocess.Popen(
            [_COCOON, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **(env or {})},
        )
        try:
            yield Child(process)
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.asynccontextmanager
async def stack(upstream: str, model: str, folder: Path, *, key: str = "") -> AsyncIterator[Stack]:
    """Stand up everything in front of `upstream`, an OpenAI base URL for `model` (and `key`)."""
    listed = first_model(ModelManifest(name=model, dtype="none", engine="bench"))
    async with LocalNetwork([listed]) as local:
        await local.deploy()
        owner = local.wallet("worker", SigningKey.generate(), Nano.ton(20))
        operator, port = SigningKey.generate(), free_port()
        write_key_file(folder / "operator.key", operator)
        stake = WorkerStake.from_owner(local.connect(), local.network, owner.address)
        await owner.send(create_stake(stake, operator.verify_key, amount=Nano.ton(5), gas=Nano.ton(2)))

        async def is_staked() -> bool:
            with contextlib.suppress(Exception):
                return (await stake.state()).stake > 0
            return False

        await until(stake.chain, is_staked, "the stake did not become active")
        config = _WORKER.format(
            registry=local.network.registry.to_str(),
            owner=owner.address.to_str(),
            folder=folder,
            chain=local.endpoint,
            upstream=upstream,
            engine_key=f'api_key = "{key}"' if key else "",
            model=model,
            model_id=listed.model_id.hex(),
            port=port,
        )
        (folder / "worker.toml").write_text(config)
        hot_key = SigningKey.generate()
        write_key_file(folder / "hot.key", hot_key)
        client_wallet = local.wallet("client", SigningKey.generate(), Nano.ton(50))
        await _open_escrow(local, hot_key, client_wallet)
        env = {
            "COCOON_CONFIG": str(folder / "client.toml"),
            "COCOON_ENDPOINT": local.endpoint,
            "COCOON_REGISTRY": local.network.registry.to_str(),
            "COCOON_OWNER": client_wallet.address.to_str(),
            "COCOON_HOT_KEY_FILE": str(folder / "hot.key"),
            "COCOON_PRIVATE_NETWORKS": json.dumps([_PRIVATE]),
        }
        (folder / "client.toml").write_text("")
        with contextlib.ExitStack() as processes:
            worker = processes.enter_context(
                child(
                    "worker",
                    "run",
                    str(folder / "worker.toml"),
                    log=folder / "worker.log",
                )
            )
            await answers(f"http://{LOOPBACK}:{port}/health", worker.has_ended)
            served = free_port()
            gateway = processes.enter_context(
                child(
                    "gateway",
                    "--port",
                    str(served),
                    "--database",
                    str(folder / "gateway.db"),
                    "--json",
                    log=folder / "gateway.log",
                    env=env,
                )
            )
            await answers(f"http://{LOOPBACK}:{served}/health", gateway.has_ended)
            yield Stack(f"http://{LOOPBACK}:{served}/v1", model, worker, gateway)


async def _open_escrow(local: LocalNetwork, hot_key: SigningKey, wallet: KeyWallet) -> None:
    client = AsyncCocoon(local.connect(), local.network, hot_key, owner=wallet, database=":memory:")
    await client.escrow.open(Nano.ton(40), Nano.ton(40))


async def answers(url: str, has_ended: Callable[[], bool], *, patience_s: float = PATIENCE_S) -> None:
    """Wait until a server says that it is well. Raises `RuntimeError` when it ended, or does not."""
    deadline = time.monotonic() + patience_s
    async with aiohttp.ClientSession() as http:
        while time.monotonic() < deadline and not has_ended():
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(url) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.2)
    raise RuntimeError(f"{url} did not become well")


def free_port() -> int:
    """Pick a free loopback port."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
