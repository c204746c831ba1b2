"""Where sandboxes live, and which one a command means.

Owns the folders: `COCOON_SANDBOX`, else below `XDG_STATE_HOME` or `~/.local/state`. Must not know what a
sandbox does.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cocoon_sdk.errors import ConfigError

if TYPE_CHECKING:
    from cocoon_sdk.sandbox.control import ControlClient

FOLDER_VARIABLE: Final = "COCOON_SANDBOX"
"""Environment variable that names the folder of the sandbox that is meant."""
_EPHEMERAL: Final = "ephemeral-"


def home() -> Path:
    """Return the folder that holds all sandboxes that nobody placed elsewhere."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "cocoon" / "sandboxes"


def own_folder(option: Path | None) -> Path:
    """Return the folder of the sandbox to start: as typed, as in the environment, else the default one."""
    named = os.environ.get(FOLDER_VARIABLE)
    return (option or (Path(named) if named else home() / "default")).absolute()


def ephemeral_folder() -> Path:
    """Make a private folder for a sandbox that leaves nothing behind, and clear away what others left."""
    from cocoon_sdk.sandbox.storage.folder import is_claimed

    place = home()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in place.glob(f"{_EPHEMERAL}*"):
            if not left.is_symlink() and (left / "lock").exists() and not is_claimed(left):
                shutil.rmtree(left, ignore_errors=True)  # its process was killed
        return Path(tempfile.mkdtemp(prefix=_EPHEMERAL, dir=place))
    except OSError as error:
        raise ConfigError(
            f"cannot make a folder in {place}", why=error.strerror or str(error), hint="Set XDG_STATE_HOME"
        ) from None


def running_folders() -> list[Path]:
    """Return the folders of all sandboxes that run in their usual places or where the environment says."""
    from cocoon_sdk.sandbox.storage.folder import is_claimed

    named = os.environ.get(FOLDER_VARIABLE)
    places = [Path(named)] if named else sorted(home().glob("*"))
    return [place for place in places if is_claimed(place)]


def connect(option: Path | None) -> ControlClient:
    """Return a connection to the sandbox that is meant; the only running one needs no name.

    Raises `NotRunningError`, and `ConfigError` when several run and none is named.
    """
    from cocoon_sdk.sandbox.control import ControlClient

    named = os.environ.get(FOLDER_VARIABLE)
    if option is not None or named:
        return ControlClient(option.absolute() if option is not None else Path(str(named)))
    running = running_folders()
    if len(running) > 1:
        raise ConfigError(
            f"{len(running)} sandboxes run",
            why=", ".join(str(folder) for folder in running),
            hint=f"Name one with --folder or {FOLDER_VARIABLE}",
        )
    return ControlClient(running[0] if running else own_folder(None))
