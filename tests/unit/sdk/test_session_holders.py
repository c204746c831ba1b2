"""Names of holders: who has died can be told on one machine only, and never of who lives."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cocoon_sdk.client.sessions.funds.holders import has_died, holder_ended, new_holder

_NAMED = (
    "from cocoon_sdk.client.sessions.funds.holders import new_holder\n"
    "print(new_holder(), flush=True); input()"
)


def test_holder_of_this_process_lives_until_it_has_ended() -> None:
    name = new_holder()
    assert new_holder() != name
    assert not has_died(name)
    holder_ended(name)
    assert has_died(name)


def test_holder_of_another_process_lives_until_that_is_gone() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _NAMED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    assert not has_died(name)
    process.kill()
    process.communicate()
    assert has_died(name)


def test_holder_elsewhere_is_never_taken_for_dead() -> None:
    host, machine, process, part = new_holder().split("/")
    other = f"{machine[:-1]}{'0' if machine[-1] != '0' else '1'}"
    assert not has_died("/".join((host, other, process, part)))


@pytest.mark.parametrize("name", [None, "", "somebody", "a/b/c/d", "host//1/x"])
def test_name_that_says_too_little_is_never_taken_for_dead(name: str | None) -> None:
    assert not has_died(name)
