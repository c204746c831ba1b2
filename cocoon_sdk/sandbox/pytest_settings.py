"""What `@pytest.mark.sandbox(...)` and the options of the plugin mean.

Owns reading them, with words for what is wrong. Imports the sandbox only when names are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cocoon_sdk.sandbox.config import NetworkConfig
    from cocoon_sdk.sandbox.trace import Names

ABI_INI = "sandbox_abi"
MARKER = (
    "sandbox(now=None, block_time=None, follow_clock=False, config=None): how a test's sandbox starts: "
    "unix time, seconds between blocks (none: every send is sealed at once), whether time passes by itself, "
    "NetworkConfig"
)
_MAX_NOW = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Settings:
    """The arguments of the marker. Times are in seconds."""

    now: int | None = None
    block_time: float | None = None
    follow_clock: bool = False
    config: NetworkConfig | None = None


def settings_of(request: pytest.FixtureRequest) -> Settings:
    """Return what the nearest marker says. Raises `pytest.UsageError` for what it cannot mean."""
    marker = request.node.get_closest_marker("sandbox")
    if marker is None:
        return Settings()
    known = Settings.__dataclass_fields__
    unknown = sorted(set(marker.kwargs) - set(known))
    if marker.args or unknown:
        raise pytest.UsageError(
            f"@pytest.mark.sandbox takes {', '.join(known)} by name, not {unknown or marker.args}"
        )
    settings = Settings(**marker.kwargs)
    if settings.now is not None and not _is_time(settings.now):
        raise pytest.UsageError(f"@pytest.mark.sandbox(now=...) takes unix seconds, not {settings.now!r}")
    return settings


def names_of(config: pytest.Config) -> Names:
    """Return the names in the files of the ini option. Raises `pytest.UsageError`."""
    from cocoon_sdk.errors import ConfigError
    from cocoon_sdk.sandbox.abi_names import read_abi
    from cocoon_sdk.sandbox.trace import Names

    names = Names()
    for pattern in config.getini(ABI_INI):
        paths = _found(config.rootpath, pattern)
        if not paths:
            raise pytest.UsageError(f"{ABI_INI}: no file matches {pattern!r} below {config.rootpath}")
        for path in paths:
            try:
                names |= read_abi(path)
            except ConfigError as error:
                raise pytest.UsageError(f"{ABI_INI}: {error}") from None
    return names


def _found(root: Path, pattern: str) -> list[Path]:
    absolute = Path(pattern)
    if absolute.is_absolute():
        return [absolute] if absolute.is_file() else []
    return sorted(root.glob(pattern))


def _is_time(now: Any) -> bool:
    return isinstance(now, int) and not isinstance(now, bool) and 0 <= now <= _MAX_NOW
