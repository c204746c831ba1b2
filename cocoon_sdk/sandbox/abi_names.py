"""Names for opcodes and exit codes from files that users have: compiled Tact ABIs, or two plain tables.

Owns reading those files. Must not know any contract.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.sandbox.trace import Names

MAX_FILE_BYTES: Final = 8 << 20
_MAX_NAME: Final = 80


def read_abi(path: Path) -> Names:
    """Read names from a file. Raises `ConfigError`.

    Either Tact's `.abi.json`, or `{"ops": {"0x1234": "Name"}, "errors": {"101": "Name"}}`.
    """
    what = f"cannot take names from {path}"
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(what, why=error.strerror or str(error)) from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(what, why=f"it has more than {MAX_FILE_BYTES} bytes")
    try:
        return names_of(json.loads(content))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ConfigError(
            what,
            why="it is neither a Tact ABI nor a table of names",
            hint='Write {"ops": {"0x1234": "Name"}, "errors": {"101": "Name"}}',
        ) from None


def names_of(document: dict[str, Any]) -> Names:
    """Return the names in a document of either form. Raises whatever it meets first."""
    if "types" in document:
        ops = {
            int(kind["header"]): _name(kind["name"])
            for kind in document["types"]
            if kind["header"] is not None
        }
        errors = {int(code): _name(error["message"]) for code, error in document.get("errors", {}).items()}
    else:
        if not {"ops", "errors"} & document.keys():
            raise KeyError("ops")
        ops = {int(op, 0): _name(name) for op, name in document.get("ops", {}).items()}
        errors = {int(code, 0): _name(name) for code, name in document.get("errors", {}).items()}
    return Names(ops=ops, exit_codes=errors)


def _name(text: Any) -> str:
    if not isinstance(text, str) or not text.isprintable():
        raise ValueError("not a name")
    return text[:_MAX_NAME]
