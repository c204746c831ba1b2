"""A person's wish to have sessions redeemed now, handed to a running worker through its data directory.

Owns that one file: the journal has a single writer, and a worker needs no open port for its own operator.
Must not redeem anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cocoon_sdk.errors import ConfigError, MalformedError
from cocoon_worker.sessions.records import SessionKey

_NAME: Final = "redeem-now"
_MAX_BYTES: Final = 1 << 20
_ALL: Final = "all"


def leave_wish(data_dir: Path, keys: Iterable[SessionKey] | None) -> None:
    """Ask the worker on that data directory to redeem these sessions; all of them for None.

    Raises `ConfigError` when the directory cannot be written.
    """
    text = _ALL if keys is None else "\n".join(str(key) for key in keys)
    draft = data_dir / f".{_NAME}.new"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(text)
        os.replace(draft, data_dir / _NAME)
    except OSError as error:
        raise ConfigError(f"cannot write into {data_dir}", why=error.strerror or "") from None


def take_wish(data_dir: Path) -> set[SessionKey] | None:
    """Return and remove the wish; empty when there is none, None when it is for all sessions.

    Raises `MalformedError`, after removing it, when it cannot be read.
    """
    path = data_dir / _NAME
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
        path.unlink(missing_ok=True)
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise MalformedError(f"cannot read {path}", why=error.strerror or "") from None
    try:
        lines = data.decode("ascii").split()
        return None if lines == [_ALL] else {parse_key(line) for line in lines}
    except UnicodeDecodeError:
        raise MalformedError(f"cannot read {path}", why="it is not text") from None


def parse_key(text: str) -> SessionKey:
    """Read a session's name, `0:<64 digits>/<number>`. Raises `MalformedError`."""
    account, _, number = text.partition("/")
    digits = account.removeprefix("0:")
    try:
        if len(digits) != 64 or account == digits or not number.isascii() or not number.isdigit():
            raise ValueError
        key = SessionKey(int(digits, 16), int(number))
    except ValueError:
        raise MalformedError(
            "not a session", why=text[:100], hint="Name it as `cocoon worker sessions` does"
        ) from None
    if key.session_id > 0xFFFF_FFFF:
        raise MalformedError("not a session", why="its number is out of bounds")
    return key
