"""One command's run: settings, connections and keys, opened when they are needed and closed at the end.

Owns choosing adapters, and turning the end of a command into an exit code. Must not know any command.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NoReturn

from cocoon_sdk.cli.output import Output
from cocoon_sdk.errors import CocoonError, ConfigError

if TYPE_CHECKING:
    from pytoniq_core import Address

    from cocoon_sdk.chain.base import Chain
    from cocoon_sdk.cli.settings import Settings
    from cocoon_sdk.client.app import AsyncCocoon
    from cocoon_sdk.client.wallets import KeyWallet
    from cocoon_sdk.contracts.escrow import Escrow
    from cocoon_sdk.contracts.network import Network
    from cocoon_sdk.crypto import SigningKey

EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 128 + signal.SIGINT
EXIT_TERMINATED: Final = 128 + signal.SIGTERM


@dataclass(slots=True)
class GlobalOptions:
    """Options in front of the command; None leaves it to the settings."""

    endpoint: str | None = None
    network: str | None = None
    registry: str | None = None
    debug: bool = False


GLOBAL: Final = GlobalOptions()
"""What the root command was given; a process runs one command."""


@dataclass(slots=True)
class Session:
    """What a command works with. Everything is opened at its first use."""

    out: Output
    closing: AsyncExitStack
    _settings: Settings | None = None
    _chain: Chain | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """The settings. Raises `ConfigError`."""
        if self._settings is None:
            from cocoon_sdk.cli.settings import load_settings

            given = {"endpoint": GLOBAL.endpoint, "network": GLOBAL.network, "registry": GLOBAL.registry}
            if GLOBAL.endpoint is not None and GLOBAL.network is not None:
                raise ConfigError(
                    "two ways to the chain are named",
                    why="--endpoint is an HTTP API, --network are liteservers",
                    hint="Pass one of them",
                )
            if GLOBAL.endpoint is not None:
                given["network"] = ""  # what is typed wins over a network in the settings
            self._settings = load_settings(**{**given, **self.options})
        return self._settings

    @property
    def chain(self) -> Chain:
        """The network, through the endpoint or the liteservers of the settings."""
        if self._chain is None:
            chain = self._liteservers() if self.settings.network else self._toncenter()
            self.closing.push_async_callback(chain.close)
            self._chain = chain
        return self._chain

    def _toncenter(self) -> Chain:
        from cocoon_sdk.chain.toncenter import ToncenterChain

        settings = self.settings
        key = None if settings.api_key is None else settings.api_key.get_secret_value()
        return ToncenterChain(
            settings.endpoint, api_key=key, max_lag_s=settings.max_lag_s, poll_s=settings.poll_s
        )

    def _liteservers(self) -> Chain:
        from cocoon_sdk.chain.liteserver import LiteserverChain
        from cocoon_sdk.chain.liteserver_blocks import Trust
        from cocoon_sdk.chain.liteserver_config import LiteserverConfig
        from cocoon_sdk.cli.settings import config_file

        settings = self.settings
        config = LiteserverConfig.load(settings.network or "")
        anchor = config_file().with_name(f"proven-{config.init_block.root_hash.hex()[:16]}.json")
        return LiteserverChain(
            config, trust=Trust(settings.trust), anchor=anchor, max_lag_s=settings.max_lag_s
        )

    @property
    def network(self) -> Network:
        """The network that the registry names. Raises `ConfigError` when none is set."""
        found = self.known_network
        if found is None:
            raise ConfigError(
                "no network is set",
                why="the address of its registry is missing",
                hint="Pass --registry, set COCOON_REGISTRY, or write registry into the settings file",
            )
        return found

    @property
    def known_network(self) -> Network | None:
        """The network if one is set."""
        from cocoon_sdk.contracts.network import Network
        from cocoon_sdk.explain.target import parse_address

        text = self.settings.registry
        return None if text is None else Network(parse_address(text))

    @property
    def wallet(self) -> KeyWallet:
        """The owner's wallet. Raises `ConfigError` without its key, `KeyMaterialError` for a bad one."""
        from cocoon_sdk.cli.files import read_private
        from cocoon_sdk.client.wallets import KeyWallet
        from cocoon_sdk.crypto.keyfiles import read_signing_key_file

        settings = self.settings
        if settings.mnemonic_file is not None:
            words = read_private(settings.mnemonic_file)
            return KeyWallet.from_mnemonic(self.chain, words, version=settings.wallet_version)
        if settings.owner_key_file is not None:
            key = read_signing_key_file(settings.owner_key_file)
            return KeyWallet(self.chain, key, version=settings.wallet_version)
        raise ConfigError(
            "the owner's wallet is needed for this",
            why="neither its words nor its key file are set",
            hint="Set COCOON_MNEMONIC_FILE or COCOON_OWNER_KEY_FILE",
        )

    async def client(
        self, *, owner: bool = False, hot_key: bool = False, open_escrow: bool = False, **more: Any
    ) -> AsyncCocoon:
        """Return the client of the settings' escrow, with the keys that the command needs.

        Without `hot_key` a throw-away key stands in, which no contract knows: enough to read. `more` goes to
        the client as it is. Raises `ConfigError` for what is missing, with `open_escrow` also when the escrow
        is not active.
        """
        from cocoon_sdk.crypto import SigningKey, read_signing_key_file

        path = self.settings.hot_key_file
        if path is None and hot_key:
            raise ConfigError(
                "the escrow's hot key is needed for this",
                why="its key file is not set",
                hint="Make one with `cocoon key new`, then set COCOON_HOT_KEY_FILE",
            )
        key = SigningKey.generate() if path is None else read_signing_key_file(path)
        client = await self._made(key, self.wallet if owner else self.owner, **more)
        if open_escrow and not await client.escrow.is_open():
            raise ConfigError(
                "you have no open escrow",
                why=f"{client.escrow.address.to_str()} is not active",
                hint="Open it with `cocoon escrow open TON --daily-limit TON`, or choose another --index; "
                "one of the contract code before is found with --previous-code",
            )
        return client

    async def reader(self) -> AsyncCocoon:
        """Return a client that only looks at models and workers: no owner, no keys."""
        from pytoniq_core import Address as AnyAddress

        from cocoon_sdk.crypto import SigningKey

        return await self._made(SigningKey.generate(), AnyAddress((0, bytes(32))))

    async def _made(self, key: SigningKey, owner: KeyWallet | Address, **more: Any) -> AsyncCocoon:
        from cocoon_sdk.client.app import AsyncCocoon
        from cocoon_sdk.client.sessions.account import DEFAULT_DATABASE

        fields: dict[str, Any] = {
            "index": self.settings.index,
            "previous_code": self.settings.previous_code,
            "private_networks": self.settings.private_networks,
            "database": self.settings.database or DEFAULT_DATABASE,
            "arbiters": self.settings.arbiters,
        }
        client = AsyncCocoon(self.chain, self.network, key, owner=owner, **{**fields, **more})
        return await self.closing.enter_async_context(client)

    def escrow_contract(self, client: AsyncCocoon) -> Escrow:
        """Return the wrapper of the client's escrow, for what the client does not tell."""
        from cocoon_sdk.contracts.escrow import Escrow

        return Escrow.at(self.chain, client.escrow.address)

    async def now(self) -> int:
        """Return the chain's time in unix seconds."""
        return (await self.chain.head()).now

    @property
    def owner(self) -> Address:
        """The owner's address: as set, else that of the owner's wallet. Raises `ConfigError`."""
        from cocoon_sdk.explain.target import parse_address

        text = self.settings.owner
        return self.wallet.address if text is None else parse_address(text)


def run(
    work: Callable[[Session], Awaitable[None]], *, as_json: bool = False, swift: bool = False, **options: Any
) -> None:
    """Run a command to its end; leaves with an exit code when it fails or is interrupted.

    `swift` is for servers: they run on uvloop where it is installed, which takes a third off the time that a
    streamed token costs.

    A `CocoonError` becomes one clean message and exit code 1; Ctrl-C cancels the work, lets it clean up, and
    gives 130; SIGTERM 143.
    """
    out = Output(as_json=as_json)
    try:
        with asyncio.Runner(loop_factory=_swift_loop() if swift else None) as runner:
            runner.run(_main(work, out, options))
    except CocoonError as error:
        if GLOBAL.debug:
            raise
        out.error(error)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        _leave(out, "interrupted", EXIT_INTERRUPTED)
    except _Terminated:
        _leave(out, "terminated", EXIT_TERMINATED)


def _swift_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


class _Terminated(Exception):
    """SIGTERM arrived and the work was cleaned up."""


async def _main(work: Callable[[Session], Awaitable[None]], out: Output, options: dict[str, Any]) -> None:
    task = asyncio.current_task()
    assert task is not None
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        async with AsyncExitStack() as closing:
            await work(Session(out, closing, options=options))
    except asyncio.CancelledError:
        if terminated:
            raise _Terminated from None
        raise  # Ctrl-C: asyncio turns it into KeyboardInterrupt


def _leave(out: Output, word: str, code: int) -> NoReturn:
    out.note(word)
    sys.exit(code)
