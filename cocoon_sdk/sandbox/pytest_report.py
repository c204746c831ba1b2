"""What a failing test shows of its sandboxes: the newest transactions, decoded.

Owns which chains are alive, and the section in the report. Never makes a test fail or hides why it did.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from cocoon_sdk.sandbox.blockchain import Blockchain
    from cocoon_sdk.sandbox.live import LiveSandbox
    from cocoon_sdk.sandbox.trace import Trace

_Chain = TypeVar("_Chain", bound="Blockchain | LiveSandbox")
_LIVE: pytest.StashKey[dict[str, Blockchain | LiveSandbox]] = pytest.StashKey()


@contextmanager
def live_chains(config: pytest.Config, fixture: str | None, chain: _Chain) -> Iterator[_Chain]:
    """Let failing tests that use a fixture show its chain."""
    live = config.stash.setdefault(_LIVE, {})
    live[str(fixture)] = chain
    try:
        yield chain
    finally:
        live.pop(str(fixture), None)


def add_traces(item: pytest.Item, report: pytest.TestReport) -> None:
    """Add a section to the report of a test that failed, for each of its chains."""
    if not report.failed or report.when not in ("setup", "call"):
        return
    limit = item.config.getoption("--sandbox-trace")
    used = getattr(item, "fixturenames", ())
    for fixture, chain in item.config.stash.get(_LIVE, {}).items():
        if fixture in used and limit > 0:
            try:
                text = _shown(item.config, chain, limit)
            except Exception as error:
                text = f"it cannot be read: {error}"
            if text:
                report.sections.append((f"{fixture}: newest transactions", text))


def _shown(config: pytest.Config, chain: Blockchain | LiveSandbox, limit: int) -> str:
    trace = _trace(config, chain, limit)
    return str(trace) if trace.transactions else ""


def _trace(config: pytest.Config, chain: Blockchain | LiveSandbox, limit: int) -> Trace:
    from cocoon_sdk.sandbox.live import LiveSandbox, names_on
    from cocoon_sdk.sandbox.pytest_settings import names_of
    from cocoon_sdk.sandbox.trace import Trace

    if isinstance(chain, LiveSandbox):
        return chain.trace(limit)
    return Trace(chain.transactions(limit=limit)[::-1], names_on(chain) | names_of(config))
