"""The pytest plugin isolates tests and hypothesis examples, and costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cocoon_sdk.sandbox as sandbox
from cocoon_sdk.sandbox import Blockchain, SandboxChain
from cocoon_sdk.sandbox.pytest_plugin import IsolatedFactory
from cocoon_sdk.types import Nano


def test_sandbox_chain_shares_the_blockchain_of_its_test(
    blockchain: Blockchain, sandbox_chain: SandboxChain
) -> None:
    assert sandbox_chain.blockchain is blockchain


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(amount=st.integers(1, 10**9))
def test_examples_cannot_see_each_other_when_isolated(isolated: IsolatedFactory, amount: int) -> None:
    with isolated() as blockchain:
        assert blockchain.accounts() == []
        alice = blockchain.actor("alice", Nano(amount))
        assert alice.balance == amount


def test_plugin_cannot_load_the_engine_before_a_fixture_is_used() -> None:
    # Other projects that merely have this package installed may lack the engine.
    script = (
        "import sys; sys.modules['tonpy'] = None\n"
        "import cocoon_sdk.sandbox.pytest_plugin\n"
        "assert not any(name.startswith(('tonpy.', 'pytoniq')) for name in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0


def test_sandbox_says_what_to_install_when_the_engine_is_missing() -> None:
    script = "import sys; sys.modules['tonpy'] = None\nimport cocoon_sdk.sandbox.blockchain"
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, timeout=60, capture_output=True, text=True
    )
    assert "ConfigError" in done.stderr
    assert "pip install 'cocoon-sdk[sandbox]'" in done.stderr


def test_public_names_are_sorted_and_exist() -> None:
    assert sandbox.__all__ == sorted(sandbox.__all__) == dir(sandbox)
    assert all(hasattr(sandbox, name) for name in sandbox.__all__)
