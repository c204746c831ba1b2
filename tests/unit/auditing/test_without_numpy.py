"""A client that checks nothing needs no NumPy; one that does is told what is missing."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import sys
sys.modules["numpy"] = None
from cocoon_sdk.client import AsyncCocoon
from cocoon_sdk.client.auditing import AuditPolicy
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.errors import ConfigError
import cocoon_sdk.cli.gateway_settings
import cocoon_sdk.gateway
from pytoniq_core import Address
place = Address((0, bytes(32)))
for audit in (None, 0, 0.05):
    try:
        AsyncCocoon(None, place, SigningKey.generate(), owner=place, audit=audit)
        print("made")
    except ConfigError as error:
        print(error.hint)
"""


def test_client_needs_numpy_only_when_it_checks() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["made", "made", "Install it: pip install 'cocoon-sdk[verify]'"]
