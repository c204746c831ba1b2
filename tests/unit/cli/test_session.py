"""How a command ends: exit codes, one clean message, cleanup."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest

from cocoon_sdk.cli import session as sessions
from cocoon_sdk.cli.output import Output
from cocoon_sdk.cli.session import GLOBAL, Session, run
from cocoon_sdk.errors import ConfigError

Capture = pytest.CaptureFixture[str]


async def fail(_: Session) -> None:
    raise ConfigError("cannot do it", why="it is [bold]forbidden[/]", hint="Do something else")


def test_command_gives_one_clean_message_when_it_fails(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        run(fail)
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out) == (1, "")
    assert shown.err == "error: cannot do it\n  why: it is [bold]forbidden[/]\n  hint: Do something else\n"


def test_command_gives_one_document_when_it_fails_for_a_machine(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        run(fail, as_json=True)
    shown = capsys.readouterr()
    assert shown.err == ""
    assert json.loads(shown.out)["error"] == {
        "type": "ConfigError",
        "what": "cannot do it",
        "why": "it is [bold]forbidden[/]",
        "hint": "Do something else",
    }


def test_command_shows_the_trace_when_debugging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GLOBAL, "debug", True)
    with pytest.raises(ConfigError):
        run(fail)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, sessions.EXIT_INTERRUPTED), (signal.SIGTERM, sessions.EXIT_TERMINATED)],
)
def test_command_cleans_up_when_it_is_interrupted(number: signal.Signals, code: int, capsys: Capture) -> None:
    done: list[str] = []

    async def clean() -> None:
        await asyncio.sleep(0)
        done.append("closed")

    async def work(session: Session) -> None:
        session.closing.push_async_callback(clean)
        os.kill(os.getpid(), number)
        await asyncio.Event().wait()

    with pytest.raises(SystemExit) as ended:
        run(work)
    assert (ended.value.code, done) == (code, ["closed"])
    assert capsys.readouterr().out == ""


def test_command_needs_a_network_and_says_how_to_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COCOON_REGISTRY", raising=False)

    async def work(session: Session) -> None:
        _ = session.network

    with pytest.raises(SystemExit):
        run(work)


def test_progress_never_reaches_standard_output(capsys: Capture) -> None:
    out = Output(as_json=True)
    with out.step("Doing it") as step:
        step.update("half (5 s)")
        step.update("half (6 s)")
        step.done("Did it")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "Doing it ...\n  half (5 s)\n✓ Did it\n"


def test_failed_step_is_not_ticked_off(capsys: Capture) -> None:
    def doing() -> None:
        with Output(as_json=False).step("Doing it") as step:
            step.done("Did it")
            raise ConfigError("no")

    with pytest.raises(ConfigError):
        doing()
    assert "Did it" not in capsys.readouterr().err
