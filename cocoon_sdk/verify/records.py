"""What a long run has done so far, so that an interrupted one goes on where it stopped.

Owns a file of JSON lines, each a name with a value, that is only ever appended to. Must not know what is
recorded.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final, TextIO

from cocoon_sdk.errors import ConfigError

MAX_BYTES: Final = 1 << 30
_ABOUT: Final = "about"


class Records:
    """Values by name, in memory and in a file. `about` says what the run is; a file about another is refused.

    Use it with `with`. Raises `ConfigError` for a file that is not of this run or cannot be used. A last line
    that was cut off is forgotten.
    """

    def __init__(self, path: Path, about: Any) -> None:
        self._path = path
        self._values: dict[str, Any] = {}
        self._file: TextIO | None = None
        what = f"cannot use the records in {path}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._read(what)
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise ConfigError(what, why=error.strerror or type(error).__name__) from None
        if _ABOUT not in self._values:
            self.put(_ABOUT, about)
        elif self._values[_ABOUT] != json.loads(json.dumps(about)):
            self.close()
            hint = "Choose another folder, or remove the file to begin anew"
            raise ConfigError(what, why="they are of a run with other settings", hint=hint)

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def get(self, name: str) -> Any:
        """Return a value, None where there is none."""
        return self._values.get(name)

    def put(self, name: str, value: Any) -> None:
        """Record a value; it is in the file when this returns, though a power cut may still take it."""
        if self._file is None:
            raise ConfigError(f"the records in {self._path} are closed")
        line = json.dumps([name, value], separators=(",", ":"))
        self._file.write(line + "\n")
        self._file.flush()
        self._values[name] = json.loads(line)[1]

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self, what: str) -> None:
        if not self._path.exists():
            return
        if self._path.stat().st_size > MAX_BYTES:
            raise ConfigError(what, why=f"they are longer than {MAX_BYTES} bytes")
        whole = 0
        with self._path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    name, value = json.loads(line)
                except (ValueError, TypeError, RecursionError):
                    raise ConfigError(what, why=f"byte {whole} begins no record") from None
                self._values[str(name)] = value
                whole += len(line)
        os.truncate(self._path, whole)
