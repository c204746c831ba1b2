"""`cocoon sandbox up`: a network on this machine until Ctrl-C.

Owns what a sandbox is made of here: chain, servers, control, and (unless told otherwise) the contract suite
with funded wallets and an echo worker; and what of that a restart takes up again.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.types import Nano

if TYPE_CHECKING:
    from cocoon_sdk.cli.session import Session
    from cocoon_sdk.demo.engines import ReadyEngine
    from cocoon_sdk.demo.localnet import LocalNetwork
    from cocoon_sdk.sandbox.blockchain import Blockchain
    from cocoon_sdk.sandbox.host import SandboxHost
    from cocoon_sdk.sandbox.node import Node

ACTORS: Final = ("client", "worker")
MAX_ACCOUNTS: Final = 1000
IDLE_S: Final = 2.0
"""Time between the empty blocks of a sandbox where nothing happens, in seconds."""
_CHAIN_FILE: Final = "chain.sqlite3"
_SETUP_FILE: Final = "sandbox.json"


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What `up` was told. `funds` is what each wallet starts with; `still` keeps the clock from running."""

    folder: Path
    ephemeral: bool
    port: int
    adnl_port: int
    block_time_s: float | None
    still: bool
    suite: bool
    worker: bool
    accounts: int
    funds: Nano
    fork: Path | None


async def up(session: Session, options: UpOptions) -> None:
    """Start, print what there is, and serve until cancelled."""
    from cocoon_sdk.sandbox.control import ControlServer
    from cocoon_sdk.sandbox.storage import SandboxFolder
    from cocoon_sdk.sandbox.storage.folder import read_document, write_document

    closing = session.closing
    folder = options.folder
    closing.enter_context(SandboxFolder(folder))
    if options.ephemeral:
        closing.callback(_remove, folder)
    kept = {} if options.ephemeral else read_document(folder / _SETUP_FILE) or {}
    running = _Running(session, options, kept)
    host = await running.start()
    document = {
        **host.endpoints(),
        "folder": str(folder),
        "registry": kept.get("registry"),
        "models": kept.get("models", []),
        "actors": kept.get("actors", []),
        "accounts": kept.get("accounts", []),
        "worker": running.stake,
    }
    if running.is_new:
        await host.node.set_base()
    await host.node.set_block_time(options.block_time_s)
    about = {**document, "names": running.names()}
    if not options.ephemeral:
        write_document(folder / _SETUP_FILE, kept)
    control = ControlServer(
        host.node, folder, about, kept=not options.ephemeral, rewound=running.restart_worker
    )
    await closing.enter_async_context(control)
    session.out.result(document, shown(document))
    session.out.note("Serving until Ctrl-C. Look with `cocoon sandbox status` and `cocoon sandbox logs -f`.")
    await asyncio.Event().wait()


class _Running:
    """The parts of one run. `kept` is what the folder remembers; new things are added to it."""

    def __init__(self, session: Session, options: UpOptions, kept: dict[str, Any]) -> None:
        self._session, self._options, self._kept = session, options, kept
        self._folder = options.folder
        self.is_new = False
        self.stake: str | None = None
        self._local: LocalNetwork | None = None
        self._ready: ReadyEngine | None = None
        self._working = AsyncExitStack()

    async def start(self) -> SandboxHost:
        """Start everything; it ends with the session."""
        from cocoon_sdk.sandbox.host import SandboxHost

        ports = self._kept.get("ports", [0, 0])
        host = SandboxHost(
            self._node(),
            port=self._options.port or _free_again(ports[0]),
            adnl_port=self._options.adnl_port or _free_again(ports[1]),
            folder=self._folder,
        )
        if self._options.suite:
            await self._suite(host)
        else:
            await self._session.closing.enter_async_context(host)
        self._kept["ports"] = [host.port, host.adnl_port]
        await self._accounts(host)
        return host

    def _node(self) -> Node:
        from cocoon_sdk.clock import SystemClock
        from cocoon_sdk.sandbox.node import Node
        from cocoon_sdk.sandbox.storage import SqliteVault

        options = self._options
        file = self._folder / _CHAIN_FILE
        self.is_new = not file.exists()
        if options.fork is not None and not self.is_new:
            raise ConfigError(
                "a sandbox cannot start from saved accounts here",
                why=f"{self._folder} holds a chain already",
                hint="Leave --fork out to go on with it, or choose another --folder",
            )
        blockchain = _forked(options.fork)
        clock = None if options.still else SystemClock()
        vault = None if options.ephemeral else SqliteVault(file)
        try:
            return Node(blockchain, clock=clock, idle_s=IDLE_S, vault=vault)
        except BaseException:
            if vault is not None:
                vault.close()
            raise

    # -- the suite ----------------------------------------------------------------------------------------

    async def _suite(self, host: SandboxHost) -> None:
        from pytoniq_core import Address

        from cocoon_sdk.demo.engines import EngineChoice, prepare
        from cocoon_sdk.demo.localnet import LocalNetwork
        from cocoon_sdk.logs import log_to_file

        kept, session = self._kept, self._session
        log_to_file(self._folder / "worker.log")
        self._ready = ready = await prepare(EngineChoice.ECHO, self._folder, session.out.note)
        network = LocalNetwork([ready.model], clock=host.node.clock, host=host)
        self._local = local = await session.closing.enter_async_context(network)
        session.closing.push_async_callback(self._working.aclose)
        if kept.get("registry"):
            local.resume(Address(kept["registry"]))
        else:
            with session.out.step("Deploying registry and market"):
                await local.deploy()
            kept["registry"] = local.network.registry.to_str()
            kept["models"] = [{"name": ready.model.name, "id": ready.model.model_id.hex()}]
            kept["actors"] = [self._actor(name) for name in ACTORS]
        for actor in kept["actors"]:
            self._write_settings(actor)
        if self._options.worker:
            with session.out.step("Starting an echo worker"):
                await self._work()

    async def _work(self) -> None:
        """Run a worker until the sandbox ends; its stake is made at the first start."""
        from pytoniq_core import Address

        from cocoon_sdk.crypto import SigningKey
        from cocoon_sdk.demo.staffing import rehire, stake_worker

        local, ready = self._local, self._ready
        assert local is not None
        assert ready is not None
        if "worker_owner" in self._kept:
            staff = rehire(local, ready, Address(self._kept["worker_owner"]), self._folder)
        else:
            wallet = local.wallet("echo worker's wallet", SigningKey.generate(), Nano.ton(10))
            staff = await stake_worker(local, ready, wallet, self._folder)
            self._kept["worker_owner"] = wallet.address.to_str()
        self.stake = staff.stake.to_str()
        service = await self._working.enter_async_context(staff.service(local))
        await service.settle()
        working = asyncio.create_task(service.run(), name="worker")

        async def end() -> None:
            service.stop()
            await asyncio.gather(working, return_exceptions=True)

        self._working.push_async_callback(end)

    async def restart_worker(self) -> None:
        """Let the worker forget what did not happen, after the chain went back."""
        import shutil

        from cocoon_sdk.demo.engines import EngineChoice, prepare

        if self.stake is None:
            return
        await self._working.aclose()
        self._working = AsyncExitStack()
        self._session.closing.push_async_callback(self._working.aclose)
        await asyncio.to_thread(shutil.rmtree, self._folder / "worker", ignore_errors=True)
        self._ready = await prepare(EngineChoice.ECHO, self._folder, self._session.out.note)
        await self._work()

    def _actor(self, name: str) -> dict[str, Any]:
        """Make a funded wallet with a hot key for the command line."""
        from cocoon_sdk.crypto import SigningKey, write_key_file

        assert self._local is not None
        owner, hot = SigningKey.generate(), SigningKey.generate()
        owner_file, hot_file = self._folder / f"{name}-owner.key", self._folder / f"{name}-hot.key"
        write_key_file(owner_file, owner)
        write_key_file(hot_file, hot)
        wallet = self._local.wallet(name, owner, self._options.funds)
        return {
            "name": name,
            "wallet": wallet.address.to_str(is_bounceable=False),
            "balance": str(self._options.funds),
            "owner_key_file": str(owner_file),
            "hot_key_file": str(hot_file),
            "config": str(self._folder / f"{name}.toml"),
        }

    def _write_settings(self, actor: dict[str, Any]) -> None:
        """Write the settings of an actor; the endpoint may differ from the last run's."""
        from cocoon_sdk.sandbox.storage.folder import write_private_text

        assert self._local is not None
        lines = {
            "endpoint": self._local.endpoint,
            "registry": self._kept["registry"],
            "owner_key_file": actor["owner_key_file"],
            "hot_key_file": actor["hot_key_file"],
            # What was signed belongs to this chain, and goes with it.
            "database": str(self._folder / f"{actor['name']}-sessions.db"),
        }
        text = "".join(f'{key} = "{value}"\n' for key, value in lines.items())
        text += 'private_networks = ["127.0.0.0/8"]\npoll_s = 0.1\n'
        write_private_text(Path(actor["config"]), text)

    # -- plain accounts -----------------------------------------------------------------------------------

    async def _accounts(self, host: SandboxHost) -> None:
        """Make funded wallets for any client: 24 words in a private file each."""
        from cocoon_sdk.cli.files import write_private
        from cocoon_sdk.crypto import new_mnemonic
        from cocoon_sdk.crypto.mnemonics import signing_key_from_mnemonic
        from cocoon_sdk.sandbox.actors import wallet_state_init
        from cocoon_sdk.sandbox.messages import contract_address

        accounts = self._kept.setdefault("accounts", [])
        for number in range(len(accounts) + 1, self._options.accounts + 1):
            words = await asyncio.to_thread(new_mnemonic)
            file = self._folder / f"account-{number}.words"
            write_private(file, " ".join(words) + "\n")
            key = signing_key_from_mnemonic(words).verify_key
            address = contract_address(wallet_state_init(bytes.fromhex(key.hex)))
            await host.node.faucet(address, self._options.funds)
            accounts.append(
                {
                    "name": f"account {number}",
                    "wallet": address.to_str(is_bounceable=False),
                    "version": "v4r2",
                    "balance": str(self._options.funds),
                    "mnemonic_file": str(file),
                }
            )

    def names(self) -> dict[str, str]:
        """Return what accounts are called, for traces."""
        known = {} if self._local is None else self._local.names
        found = {name: address.to_str() for address, name in known.items()}
        for each in (*self._kept.get("actors", []), *self._kept.get("accounts", [])):
            found[each["name"]] = each["wallet"]
        return found


def _forked(path: Path | None) -> Blockchain | None:
    if path is None:
        return None
    from cocoon_sdk.sandbox.storage.account_set import AccountSet

    return AccountSet.read(path).blockchain()


def _free_again(port: int) -> int:
    """Return a port of the last run if nobody took it meanwhile; 0 for any other."""
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return 0
    return port


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def shown(document: dict[str, Any]) -> str:
    """Return what `up` prints for people."""
    lines = [
        f"endpoint       {document['endpoint']}  (toncenter v2: TonClient, tonutils, tonweb)",
        f"liteserver     {document['adnl']}  (ADNL; key {document['adnl_key']})",
        f"global config  {document['global_config']}",
        f"folder         {document['folder']}",
    ]
    if document["registry"]:
        lines.append(f"registry       {document['registry']}")
        lines += [f"model          {model['name']} ({model['id']})" for model in document["models"]]
        lines.append(f"worker         {document['worker'] or 'none'}")
    for actor in document["actors"]:
        lines += [
            "",
            f"{actor['name']}  {actor['wallet']} got {actor['balance']}",
            f"  export COCOON_CONFIG={actor['config']}",
        ]
    for account in document["accounts"]:
        lines += [
            "",
            f"{account['name']}  {account['wallet']} got {account['balance']}",
            f"  24 words of its {account['version']} wallet: {account['mnemonic_file']}",
        ]
    return "\n".join(lines)
