"""Private files: words of wallets, settings with secrets, evidence.

Owns writing and reading them so that nobody else can. Must not know what they hold.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from cocoon_sdk.errors import ConfigError

MAX_BYTES: Final = 4096
_PRIVATE: Final = 0o600


def write_private(path: Path, content: str | bytes) -> None:
    """Write a new file that only its owner may read. Raises `ConfigError`, also when it exists."""
    what = f"cannot write {path}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _PRIVATE)
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, _PRIVATE)  # whatever the umask said
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
    except FileExistsError:
        raise ConfigError(what, why="the file exists", hint="Choose another path") from None
    except OSError as error:
        raise ConfigError(what, why=error.strerror or type(error).__name__) from None


def read_private(path: Path) -> str:
    """Read a small file that nobody else may read. Raises `ConfigError`, which never shows the content."""
    what = f"cannot use {path}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            # The open file is checked, not the path: nobody can swap it in between.
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(what, why="it is not a regular file")
            mode = stat.S_IMODE(status.st_mode)
            if mode & ~_PRIVATE:
                hint = "Run chmod 600 on it; if others may have read it, replace the secret"
                raise ConfigError(what, why=f"its mode is {mode:04o}, wider than 0600", hint=hint)
            return file.read(MAX_BYTES).decode("utf-8")
    except OSError as error:
        raise ConfigError(what, why=error.strerror or type(error).__name__) from None
    except UnicodeDecodeError:
        raise ConfigError(what, why="it is not text") from None
