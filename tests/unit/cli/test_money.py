"""Nothing moves without a yes."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import typer
from pytoniq_core import Address

from cocoon_sdk.cli.money import Move, NotConfirmedError, agree, parse_amount
from cocoon_sdk.cli.output import Output
from cocoon_sdk.errors import ConfigError
from cocoon_sdk.types import Nano

A, B = Address((0, bytes(32))), Address((0, b"\1" * 32))
MOVES = [Move(A, B, Nano(1_000_000_001), "deposit")]
Capture = pytest.CaptureFixture[str]


def ask(out: Output, **options: Any) -> bool:
    return agree(out, MOVES, note="fees on top", **{"yes": False, "dry_run": False, **options})


def a_person(monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    monkeypatch.setattr(Output, "is_interactive", property(lambda _: True))
    monkeypatch.setattr(typer, "confirm", lambda *_, **__: answer)


def test_money_cannot_move_when_there_is_nobody_to_ask() -> None:
    with pytest.raises(NotConfirmedError, match=r"1\.000000001 TON") as refused:
        ask(Output(as_json=False))
    assert "--yes" in refused.value.hint


def test_money_cannot_move_when_a_machine_reads_even_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    with pytest.raises(NotConfirmedError):
        ask(Output(as_json=True))


def test_money_can_move_when_yes_was_given() -> None:
    assert ask(Output(as_json=False), yes=True)


@pytest.mark.parametrize("answer", [True, False])
def test_money_moves_only_when_a_person_says_yes(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, answer: bool
) -> None:
    a_person(monkeypatch, answer)
    if answer:
        assert ask(Output(as_json=False))
    else:
        with pytest.raises(NotConfirmedError, match="nothing was sent"):
            ask(Output(as_json=False))
    shown = capsys.readouterr().err
    assert f"deposit: 1.000000001 TON from {A.to_str()} to {B.to_str()}" in shown.replace("\n", "")


@pytest.mark.parametrize("yes", [True, False])
def test_dry_run_moves_nothing_whatever_else_was_said(capsys: Capture, yes: bool) -> None:
    assert not ask(Output(as_json=True), dry_run=True, yes=yes)
    document = json.loads(capsys.readouterr().out)
    assert document["dry_run"] is True
    assert document["moves"][0]["nano"] == "1000000001"
    assert document["moves"][0]["amount"] == "1.000000001"


@pytest.mark.parametrize("text", ["", "0", "-1", "1e3", "0.0000000001", "nan", "1,5", "99999999999"])
def test_amount_cannot_be_nonsense(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_amount(text)


def test_amount_is_exact() -> None:
    assert parse_amount("0.000000001") == Nano(1)
    assert parse_amount("0", zero=True) == Nano(0)
