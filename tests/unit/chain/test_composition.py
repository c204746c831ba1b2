"""Who chooses the adapter, and how: the command line, the worker's settings, the client's `connect`."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from cocoon_sdk.chain.liteserver import LiteserverChain
from cocoon_sdk.chain.toncenter import ToncenterChain
from cocoon_sdk.cli.output import Output
from cocoon_sdk.cli.session import GLOBAL, Session
from cocoon_sdk.client.connect import connect_chain
from cocoon_sdk.errors import ConfigError
from cocoon_worker.config import ChainConfig, WorkerConfig
from cocoon_worker.main import make_chain
from tests.unit.chain.test_liteserver_config import GOOD


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = tmp_path / "global.config.json"
    path.write_text(json.dumps(GOOD))
    monkeypatch.setenv("COCOON_CONFIG", str(path.with_name("config.toml")))
    (tmp_path / "config.toml").write_text("")
    return str(path)


def test_client_can_connect_to_liteservers_or_an_api(network: str) -> None:
    assert isinstance(connect_chain("https://toncenter.com/api/v2"), ToncenterChain)
    assert repr(connect_chain("testnet")) == "LiteserverChain(the testnet list packaged on 2024-05-07)"
    assert repr(connect_chain(network)) == f"LiteserverChain({network})"
    with pytest.raises(ConfigError, match="no API key"):
        connect_chain("mainnet", api_key="key")
    with pytest.raises(ConfigError, match="FileNotFoundError"):
        connect_chain("no such file")


def test_worker_can_use_liteservers_when_its_settings_name_them(network: str, tmp_path: Path) -> None:
    settings = WorkerConfig.model_construct(
        chain=ChainConfig(network=network, trust="proven"), data_dir=tmp_path
    )
    assert repr(make_chain(settings)) == f"LiteserverChain({network})"
    api = WorkerConfig.model_construct(chain=ChainConfig())
    assert isinstance(make_chain(api), ToncenterChain)


async def test_command_can_use_liteservers_by_option_or_variable(
    network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as closing:
        monkeypatch.setenv("COCOON_NETWORK", network)
        assert isinstance(Session(Output(as_json=False), closing).chain, LiteserverChain)
        monkeypatch.setattr(GLOBAL, "endpoint", "http://127.0.0.1:1/api/v2")
        assert isinstance(Session(Output(as_json=False), closing).chain, ToncenterChain)
        monkeypatch.setattr(GLOBAL, "network", "testnet")
        with pytest.raises(ConfigError, match="two ways"):
            _ = Session(Output(as_json=False), closing).chain
        monkeypatch.setattr(GLOBAL, "endpoint", None)
        assert "testnet" in repr(Session(Output(as_json=False), closing).chain)


async def test_command_cannot_use_a_degree_of_trust_that_does_not_exist(
    network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COCOON_NETWORK", network)
    monkeypatch.setenv("COCOON_TRUST", "blind")
    async with AsyncExitStack() as closing:
        with pytest.raises(ConfigError, match="trust"):
            _ = Session(Output(as_json=False), closing).chain
