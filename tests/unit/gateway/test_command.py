"""Settings of the command, and what signals do to it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import openai
import pytest

from cocoon_sdk.cli.gateway_run import until_signalled
from cocoon_sdk.cli.gateway_settings import load_gateway_settings
from cocoon_sdk.errors import ConfigError
from cocoon_sdk.types import Nano
from tests.unit.gateway.conftest import House
from tests.unit.gateway.double import MODEL

HELLO: Any = [{"role": "user", "content": "one two three"}]


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    monkeypatch.setenv("COCOON_CONFIG", str(path))
    return path


def test_option_wins_over_environment_over_file(settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings_file.write_text('registry = "x"\n[gateway]\nport = 1\nmax_price = "0.5"\nspend_total = "7"\n')
    monkeypatch.setenv("COCOON_GATEWAY_PORT", "2")
    monkeypatch.setenv("COCOON_GATEWAY_SPEND_PER_DAY", "1.5")
    settings = load_gateway_settings(max_price="0.25", port=None)
    assert (settings.port, settings.max_price) == (2, Nano.ton("0.25"))
    assert settings.limits().per_day == Nano.ton("1.5")
    assert settings.limits().total == Nano.ton(7)
    assert settings.config().port == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[gateway]\nport = 99999", "port"),
        ("[gateway]\nmax_price = 0.5", "as text"),
        ("[gateway]\nunheard_of = 1", "unheard_of"),
        ('[gateway]\nsession_deposit = "0.000001"', "increment"),
        ('[gateway]\ncors_origins = ["*"]', "origin"),
        ("gateway = 1", "cannot read"),
        ("[gateway", "cannot read"),
    ],
)
def test_operator_is_told_which_setting_is_wrong(settings_file: Path, text: str, words: str) -> None:
    settings_file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_gateway_settings()


async def test_first_signal_lets_answers_end(house: House) -> None:
    server = await house.gateway()
    client = house.client(server)
    house.inference.hold.clear()
    asking = asyncio.ensure_future(client.chat.completions.create(model=MODEL, messages=HELLO))
    await house.inference.begun.wait()
    stopping = asyncio.ensure_future(until_signalled(server))
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGTERM)
    await server.gate.closing.wait()
    house.inference.hold.set()
    assert (await asking).choices[0].message.content == "one two three"
    assert await stopping is True


async def test_second_signal_cuts_them(house: House) -> None:
    server = await house.gateway(drain_s=3600)
    client = house.client(server)
    house.inference.hold.clear()
    asking = asyncio.ensure_future(client.chat.completions.create(model=MODEL, messages=HELLO))
    await house.inference.begun.wait()
    stopping = asyncio.ensure_future(until_signalled(server))
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGINT)
    await server.gate.closing.wait()
    os.kill(os.getpid(), signal.SIGINT)
    assert await stopping is False
    await server.abort()
    with pytest.raises(openai.APIConnectionError):
        await asking
    assert house.inference.cancelled == [MODEL]
