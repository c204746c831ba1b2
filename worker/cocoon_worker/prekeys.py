"""The prekeys that clients seal payloads to: made weekly or so, deleted when they are not needed any more.

Owns the directory of key files (`<expires>-<key id>.json`, mode 0600). Must not know jobs: it is told which
keys some job still needs. A deleted prekey makes old payloads unreadable for everybody (forward secrecy).
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cocoon_sdk.crypto import BoxKey, read_box_key_file, write_key_file
from cocoon_sdk.errors import ConfigError
from cocoon_sdk.protocol import Prekey

GRACE_S: Final = 3600
"""Kept this long after its end: a payload may be on its way."""
_NAME: Final = re.compile(r"\A(\d{10})-([0-9a-f]{16})\.json\Z")


@dataclass(frozen=True, slots=True)
class StoredPrekey:
    """A prekey and its file."""

    key: BoxKey = field(repr=False)
    expires: int
    path: Path


class PrekeyRing:
    """The prekeys on disk. Raises `ConfigError` or `KeyMaterialError` for a directory it cannot use."""

    def __init__(self, directory: Path, life_s: int) -> None:
        self._directory, self._life_s = directory, life_s
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            names = sorted(os.listdir(directory))
        except OSError as error:
            raise ConfigError(
                f"cannot use the prekey directory {directory}", why=error.strerror or ""
            ) from None
        self._keys = [self._read(name) for name in names if _NAME.match(name)]

    def _read(self, name: str) -> StoredPrekey:
        path = self._directory / name
        return StoredPrekey(read_box_key_file(path), int(name.split("-")[0]), path)

    @property
    def keys(self) -> tuple[BoxKey, ...]:
        """All keys that can open payloads."""
        return tuple(stored.key for stored in self._keys)

    def announced(self, now: int) -> tuple[Prekey, ...]:
        """Return what clients may seal to from `now` on (unix seconds), soonest end first."""
        alive = [stored for stored in self._keys if stored.expires > now]
        return tuple(
            Prekey(key=stored.key.public_key, expires=stored.expires)
            for stored in sorted(alive, key=lambda stored: stored.expires)
        )

    def rotate(self, now: int, in_use: Collection[bytes]) -> bool:
        """Make a new key when the newest has lived a third of its life; delete those that ended.

        Keys whose id is `in_use` stay. Returns whether the announcement changed. Raises `KeyMaterialError`.
        """
        before = self.announced(now)
        newest = max((stored.expires for stored in self._keys), default=0)
        if newest - now < self._life_s * 2 // 3:
            key, expires = BoxKey.generate(), now + self._life_s
            path = self._directory / f"{expires:010d}-{key.key_id.hex()}.json"
            write_key_file(path, key)
            self._keys.append(StoredPrekey(key, expires, path))
        for stored in list(self._keys):
            if stored.expires + GRACE_S < now and stored.key.key_id not in in_use:
                stored.path.unlink(missing_ok=True)
                self._keys.remove(stored)
        return self.announced(now) != before
