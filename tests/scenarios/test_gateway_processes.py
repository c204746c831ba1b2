"""Several `cocoon gateway` processes on one escrow, one key and one PostgreSQL; one is killed with -9."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from typer.testing import CliRunner

from cocoon_sdk.cli.main import app
from cocoon_sdk.protocol.metering import DEFAULT_INCREMENT
from tests.helpers.databases import database_place
from tests.helpers.local_sandbox import cocoon, read_document, sandbox_up
from tests.scenarios.test_gateways_on_postgres import WORDS, ask, begin, said

pytestmark = pytest.mark.xdist_group("cli")
SOME = WORDS[:40]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[str]:
    with database_place("postgres", tmp_path) as url:
        yield url


@contextmanager
def process(config: str, place: str, folder: Path, name: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `cocoon gateway` with this database; yield it and its URL."""
    with (folder / f"{name}.log").open("w") as err:
        options = ("--port", "0", "--database", place, "--json")
        started = cocoon("gateway", *options, env={**os.environ, "COCOON_CONFIG": config}, err=err)
    assert started.stdout is not None
    try:
        yield started, read_document(started.stdout)["url"]
    finally:
        started.kill()
        started.wait(60)
        started.stdout.close()


def reads(config: str, *arguments: str) -> Any:
    done = CliRunner().invoke(app, [*arguments, "--json"], env={"COCOON_CONFIG": config})
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def sessions(config: str, place: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = reads(config, "session", "list", "--database", place)["sessions"]
    return listed


def test_gateway_process_goes_on_with_the_sessions_of_one_that_was_killed(place: str, tmp_path: Path) -> None:
    with sandbox_up(tmp_path) as document:
        config = document["actors"][0]["config"]
        reads(config, "escrow", "open", "20", "--daily-limit", "20", "--yes")
        # Enough to set aside what 40 requests at once may cost at most.
        key = reads(config, "gateway", "keys", "add", "app", "--budget", "4", "--database", place)["key"]
        with (
            process(config, place, tmp_path, "first") as (first, one),
            process(config, place, tmp_path, "second") as (_, two),
        ):

            async def race(*clients: openai.AsyncOpenAI) -> None:
                asked = [WORDS[: 1 + number] for number in range(40)]
                answers = await asyncio.gather(
                    *(
                        ask(clients[number % 2], words, stream=number % 4 < 2, model="echo")
                        for number, words in enumerate(asked)
                    )
                )
                assert [text for text, _ in answers] == [said(words) for words in asked]
                stream = await begin(clients[0], SOME, 5, model="echo")
                first.kill()
                first.wait(60)
                await stream.close()
                text, _ = await ask(clients[1], SOME, stream=True, model="echo")
                assert text == said(SOME)

            async def with_both() -> None:
                async with (
                    openai.AsyncOpenAI(base_url=one, api_key=key, max_retries=0) as left,
                    openai.AsyncOpenAI(base_url=two, api_key=key, max_retries=0) as right,
                ):
                    await race(left, right)

            asyncio.run(with_both())
            killed = sessions(config, place)
            assert len(killed) == 2
        with process(config, place, tmp_path, "third") as (_, three):

            async def go_on() -> None:
                async with openai.AsyncOpenAI(base_url=three, api_key=key, max_retries=0) as client:
                    text, _ = await ask(client, SOME, stream=True, model="echo")
                    assert text == said(SOME)

            asyncio.run(go_on())
            listed = sessions(config, place)
            assert {each["id"] for each in listed} == {each["id"] for each in killed}
            for each in listed:
                lost = int(each["signed_nano"]) - int(each["accounted_nano"])
                assert 0 <= lost <= DEFAULT_INCREMENT
