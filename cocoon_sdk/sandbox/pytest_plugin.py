"""pytest plugin: fixtures for fresh, isolated sandboxes, with or without servers.

Registered for every project that installs this package, so it imports the sandbox (and its engine) only
when a test asks for a fixture. Owns the fixtures; what marks and options mean is `pytest_settings`', what a
failing test shows is `pytest_report`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cocoon_sdk.sandbox.pytest_report import add_traces, live_chains
from cocoon_sdk.sandbox.pytest_settings import ABI_INI, MARKER, settings_of

if TYPE_CHECKING:
    from cocoon_sdk.sandbox.adapter import SandboxChain
    from cocoon_sdk.sandbox.blockchain import Blockchain
    from cocoon_sdk.sandbox.live import LiveSandbox
    from cocoon_sdk.sandbox.live_actors import LiveActor
    from cocoon_sdk.sandbox.trace import Names

IsolatedFactory = Callable[[], "AbstractContextManager[Blockchain]"]
ActorFactory = Callable[..., "LiveActor"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what a project may set for its sandboxes."""
    parser.addini(
        ABI_INI,
        "compiled Tact ABIs (.abi.json), or tables of names, by pattern below the rootdir: they name opcodes "
        "and exit codes in the sandbox's traces",
        type="linelist",
        default=[],
    )
    parser.getgroup("sandbox").addoption(
        "--sandbox-trace",
        type=int,
        default=30,
        metavar="N",
        help="how many of a sandbox's newest transactions a failing test shows (default 30, 0 for none)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and the asynchronous fixture where pytest-asyncio is installed."""
    config.addinivalue_line("markers", MARKER)
    if config.pluginmanager.hasplugin("asyncio"):
        from cocoon_sdk.sandbox import pytest_async

        config.pluginmanager.register(pytest_async, "cocoon_sandbox_async")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Show what happened last on the chains of a test that failed."""
    outcome = yield
    add_traces(item, outcome.get_result())


# -- the chain alone --------------------------------------------------------------------------------------


@pytest.fixture
def blockchain(request: pytest.FixtureRequest) -> Iterator[Blockchain]:
    """A fresh chain for each test."""
    from cocoon_sdk.sandbox.blockchain import DEFAULT_NOW, Blockchain

    settings = settings_of(request)
    now = DEFAULT_NOW if settings.now is None else settings.now
    with live_chains(
        request.config, request.fixturename, Blockchain(now=now, config=settings.config)
    ) as chain:
        yield chain


@pytest.fixture
def sandbox_chain(blockchain: Blockchain) -> SandboxChain:
    """The `Chain` protocol over the test's `blockchain`."""
    from cocoon_sdk.sandbox.adapter import SandboxChain

    return SandboxChain(blockchain)


@pytest.fixture
def isolated(blockchain: Blockchain) -> IsolatedFactory:
    """Isolate hypothesis examples: `with isolated() as chain:` undoes what happened inside.

    Fixtures are made once per test, not once per example: without this, examples would see each other.
    """
    return blockchain.isolated


# -- with servers -----------------------------------------------------------------------------------------


@pytest.fixture
def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LiveSandbox]:
    """A fresh chain behind a toncenter API and a liteserver, in a thread of its own.

    A project may override it, with `module_sandbox.isolated()` for example: `actor`, `toncenter_url` and the
    others below follow. Not together with `blockchain`, which would be another chain.
    """
    if "blockchain" in request.fixturenames:
        raise pytest.UsageError(
            "`blockchain` and `sandbox` are two chains: use sandbox.apply(lambda chain: ...), "
            "or `sandbox_host` for servers over `blockchain`"
        )
    yield from _serving(request, tmp_path)


@pytest.fixture(scope="module")
def module_sandbox(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveSandbox]:
    """The same, one for all tests of a module; `with module_sandbox.isolated():` undoes what a test does."""
    yield from _serving(request, tmp_path_factory.mktemp("sandbox"))


@pytest.fixture(scope="session")
def session_sandbox(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveSandbox]:
    """The same, one for all tests of a run (of each worker of pytest-xdist)."""
    yield from _serving(request, tmp_path_factory.mktemp("sandbox"))


@pytest.fixture
def toncenter_url(sandbox: LiveSandbox) -> str:
    """URL of the toncenter API of the test's `sandbox`, such as `http://127.0.0.1:34567/api/v2`."""
    return sandbox.endpoint


@pytest.fixture
def liteserver_config(sandbox: LiveSandbox) -> dict[str, Any]:
    """The global configuration by which lite clients find the liteserver of the test's `sandbox`."""
    return sandbox.global_config


@pytest.fixture
def liteserver_config_path(sandbox: LiveSandbox) -> Path:
    """The same as a JSON file."""
    path = sandbox.global_config_path
    assert path is not None, "an overridden `sandbox` needs a folder"
    return path


@pytest.fixture
def actor(sandbox: LiveSandbox) -> ActorFactory:
    """Make funded wallets on the test's `sandbox`: `actor("alice", balance, mnemonic=True)`."""
    return sandbox.actor


@pytest.fixture(scope="session")
def sandbox_names(pytestconfig: pytest.Config) -> Names:
    """Names of opcodes and exit codes, from the files that the ini option `sandbox_abi` tells."""
    from cocoon_sdk.sandbox.pytest_settings import names_of

    return names_of(pytestconfig)


def _serving(request: pytest.FixtureRequest, folder: Path) -> Iterator[LiveSandbox]:
    from cocoon_sdk.sandbox.live import LiveSandbox

    settings = settings_of(request)
    sandbox = LiveSandbox(
        now=settings.now,
        block_time_s=settings.block_time,
        follow_clock=settings.follow_clock,
        config=settings.config,
        folder=folder,
        names=request.getfixturevalue("sandbox_names"),
    )
    with sandbox, live_chains(request.config, request.fixturename, sandbox):
        yield sandbox
