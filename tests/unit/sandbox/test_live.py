"""`LiveSandbox`: calls reach the other thread, errors come back, and nothing outlives it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from nacl.signing import SigningKey
from pytoniq_core import Address, begin_cell
from pytoniq_core.crypto.keys import mnemonic_is_valid, mnemonic_to_private_key

from cocoon_sdk.chain.base import AccountStatus
from cocoon_sdk.errors import (
    AccountNotFoundError,
    ChainTimeoutError,
    ChainUnavailableError,
    ConfigError,
    ExternalRejectedError,
)
from cocoon_sdk.sandbox import LiveSandbox, Node, external_message
from cocoon_sdk.sandbox.vault import UnknownSnapshotError
from cocoon_sdk.types import Nano

START = 1_900_000_000
NOBODY = Address((0, b"\x17" * 32))


def test_program_without_a_loop_can_do_everything(tmp_path: Path) -> None:
    with LiveSandbox(now=START, folder=tmp_path) as sandbox:
        alice = sandbox.actor("alice", Nano.ton(5))
        assert (alice.balance, alice.name) == (Nano.ton(5), "alice")
        sandbox.faucet(NOBODY.to_str(), 7)
        assert alice.send(NOBODY, 5, bounce=False)[0].success
        assert sandbox.account(NOBODY).balance > 0
        assert sandbox.warp(60).gen_utime == sandbox.now == START + 60
        assert sandbox.mine(2).seqno == sandbox.head.seqno
        assert sandbox.run_getter(alice.address, "seqno") == [1]
        assert "alice -> EQ" in str(sandbox.trace())
        assert sandbox.global_config_path == tmp_path / "global-config.json"


def test_snapshots_and_isolation_can_be_nested() -> None:
    with LiveSandbox(now=START) as sandbox:
        alice = sandbox.actor("alice")
        sandbox.snapshot("mine")
        with sandbox.isolated():
            alice.send(NOBODY, 5)
            inside = alice.balance
            with sandbox.isolated():
                alice.send(NOBODY, 5)
                assert alice.balance < inside
            assert alice.balance == inside
        assert alice.balance == Nano.ton(1000)
        sandbox.restore("mine")
        sandbox.reset()
        assert sandbox.account(alice.address).status is AccountStatus.NONEXIST
        with pytest.raises(UnknownSnapshotError):
            sandbox.restore("mine")


def test_actor_with_words_has_the_key_that_wallets_derive_from_them() -> None:
    with LiveSandbox() as sandbox:
        alice = sandbox.actor("alice", mnemonic=True)
        assert alice.mnemonic is not None
        assert mnemonic_is_valid(list(alice.mnemonic))
        assert mnemonic_to_private_key(list(alice.mnemonic))[1] == alice.secret_key
        assert bytes(SigningKey(alice.private_key).verify_key) == alice.public_key
        assert alice.address != sandbox.actor("alice").address
        assert sandbox.actor("alice", mnemonic=True).mnemonic == alice.mnemonic
        assert alice.send(NOBODY, 5, bounce=False)[0].success


def test_errors_of_the_chain_come_back_as_they_are() -> None:
    with LiveSandbox() as sandbox:
        with pytest.raises(ExternalRejectedError):
            sandbox.send(external_message(NOBODY, begin_cell().end_cell()))
        with pytest.raises(AccountNotFoundError):
            sandbox.run_getter(NOBODY, "seqno")
        with pytest.raises(ConfigError):
            sandbox.warp(-1)

        async def slow(_: Node) -> None:
            raise TimeoutError("its own")

        with pytest.raises(TimeoutError, match="its own"):
            sandbox.run(slow)
        assert sandbox.mine() is sandbox.head


def test_caller_cannot_wait_for_ever() -> None:
    async def never(_: Node) -> None:
        await asyncio.Event().wait()

    with LiveSandbox() as sandbox, pytest.raises(ChainTimeoutError, match=r"it had 0\.01 s"):
        sandbox.run(never, timeout_s=0.01)


def test_its_own_thread_cannot_wait_for_itself() -> None:
    with LiveSandbox() as sandbox, pytest.raises(ConfigError, match="its own thread"):
        sandbox.apply(lambda _: sandbox.now)


def test_nothing_is_left_when_it_ends() -> None:
    with LiveSandbox(block_time_s=0.05, follow_clock=True) as sandbox:
        names = [thread.name for thread in threading.enumerate()]
        assert "live-sandbox" in names
        sandbox.mine()
    assert "live-sandbox" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(ChainUnavailableError):
        sandbox.mine()
    with pytest.raises(ConfigError, match="started already"):
        sandbox.__enter__()


def test_start_that_fails_tells_why_and_leaves_no_thread() -> None:
    with pytest.raises(ConfigError, match="block time of"), LiveSandbox(block_time_s=0.001):
        pass
    assert "live-sandbox" not in [thread.name for thread in threading.enumerate()]
