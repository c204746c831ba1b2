"""Steering a running sandbox from another process: a loopback API behind a secret, and its client.

The secret lies in the sandbox's private folder, so whoever may read that folder may steer.
"""

from cocoon_sdk.sandbox.control.client import CONTROL_FILE, ControlClient, NotRunningError, RemoteError
from cocoon_sdk.sandbox.control.server import ControlServer

__all__ = ["CONTROL_FILE", "ControlClient", "ControlServer", "NotRunningError", "RemoteError"]
