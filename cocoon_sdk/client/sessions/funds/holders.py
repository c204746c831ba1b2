"""Names of the processes that hold sessions, and telling that one of them has died.

Owns the name's form. Must not know sessions. A name that says enough lets a process that was killed be
replaced at once by its successor on the same machine; everybody else waits until its lease has run out. Being
wrong about it costs time only: who may sign is decided by the database.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from pathlib import Path
from typing import Final

_PROCESSES: Final = Path("/proc")
_MACHINE: Final = ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid")
_ours: Final[set[str]] = set()


def new_holder() -> str:
    """Return a name for a new holder in this process: host, machine, process, and a random part."""
    name = f"{socket.gethostname()[:60]}/{_machine()}/{os.getpid()}/{secrets.token_hex(6)}"
    _ours.add(name)
    return name


def holder_ended(name: str) -> None:
    """Note that a holder of this process holds nothing more."""
    _ours.discard(name)


def has_died(name: str | None) -> bool:
    """Tell whether a holder is known to be gone: its process ran on this machine and is not there."""
    parts = (name or "").split("/")
    if len(parts) != 4 or not parts[1] or parts[1] != _machine() or not parts[2].isdecimal():
        return False
    if int(parts[2]) == os.getpid():
        return name not in _ours  # an earlier process had our number, or the holder was closed
    return not (_PROCESSES / parts[2]).exists()


def _machine() -> str:
    """Name the running system and its numbers of processes; empty where that cannot be told."""
    try:
        boot = Path(_MACHINE[0]).read_text(encoding="ascii")
        space = os.stat(_MACHINE[1]).st_ino
    except (OSError, ValueError):
        return ""
    return hashlib.sha256(f"{boot}{space}".encode()).hexdigest()[:16]
