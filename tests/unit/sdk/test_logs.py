"""Logs of programs: one place and one form, whichever library wrote them; standard output stays clean."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from cocoon_sdk.logs import log_to_file, log_to_stderr

OURS = ("cocoon", "cocoon_sdk", "cocoon_worker")


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in OURS]
    before = [(list(logger.handlers), logger.level) for logger in loggers]
    yield
    for logger, (handlers, level) in zip(loggers, before, strict=True):
        for handler in logger.handlers:
            handler.close()
        logger.handlers = handlers
        logger.setLevel(level)
    structlog.reset_defaults()


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def say() -> None:
    """Log as our rooms do: structured, and plain."""
    structlog.get_logger("cocoon.arbiter").info("judged", verdict="honest")
    logging.getLogger("cocoon.sessions").warning("a session of %s broke", "alice")
    logging.getLogger("cocoon_sdk.chain.liteserver_pool").debug("asked")


def test_operator_reads_all_logs_in_one_form(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(as_json=True)
    say()
    told = capsys.readouterr()
    first, second = lines(told.err)
    assert (first["event"], first["level"], first["verdict"]) == ("judged", "info", "honest")
    assert (second["event"], second["level"]) == ("a session of alice broke", "warning")
    assert first["timestamp"].endswith("Z")
    assert told.out == ""


def test_operator_can_choose_how_much_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(as_json=True, level="warning")
    say()
    assert [line["level"] for line in lines(capsys.readouterr().err)] == ["warning"]


@pytest.mark.parametrize("as_json", [True, False])
def test_errors_bring_their_trace_and_no_values(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    log_to_stderr(as_json=as_json)
    key = bytes.fromhex("c0ffee")
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger("cocoon_worker").exception("failed")
        logging.getLogger("cocoon.audits").exception("failed too")
    told = capsys.readouterr().err
    assert told.count("ValueError: broken") == 2
    assert repr(key) not in told


def test_logs_go_to_what_is_standard_error_when_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    before, later = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", before)
    log_to_stderr(as_json=True)
    before.close()
    monkeypatch.setattr(sys, "stderr", later)
    say()
    assert len(lines(later.getvalue())) == 2


def test_second_call_replaces_the_first(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log_to_stderr(as_json=True)
    log_to_file(tmp_path / "new" / "worker.log")
    say()
    assert capsys.readouterr().err == ""
    written = lines((tmp_path / "new" / "worker.log").read_text("utf-8"))
    assert [line["level"] for line in written] == ["info", "warning", "debug"]
