"""Key files: how secrets rest on disk. The only module of `crypto` that does I/O.

Owns the JSON format, the permission checks and crash-safe writing. Must not know what a key is used for.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from cocoon_sdk.crypto.keys import BoxKey, SecretKey, SigningKey
from cocoon_sdk.errors import KeyMaterialError

KEY_FILE_VERSION: Final = 1
MAX_KEY_FILE_BYTES: Final = 4096
_PRIVATE: Final = 0o600
_FIELDS: Final = frozenset({"version", "type", "public", "secret"})


def write_key_file(path: str | os.PathLike[str], key: SecretKey, *, overwrite: bool = False) -> None:
    """Store a key as JSON, mode 0600, so that a crash leaves the old file or the new one, never a half.

    An existing file is refused unless `overwrite`. Raises `KeyMaterialError`.
    """
    target = Path(path)
    what = f"cannot write the key file {target}"
    fields = {
        "version": KEY_FILE_VERSION,
        "type": "ed25519" if isinstance(key, SigningKey) else "x25519",
        "public": (key.verify_key if isinstance(key, SigningKey) else key.public_key).hex,
        "secret": key.reveal().hex(),
    }
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        _write_new(temporary, json.dumps(fields, indent=1).encode() + b"\n")
        try:
            if overwrite:
                os.replace(temporary, target)
            else:
                os.link(temporary, target)  # rename would replace silently; link fails if the name is taken
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        _sync_directory(target.parent)
    except FileExistsError:
        hint = "Choose another path, or allow overwriting if the old key is really no longer needed"
        raise KeyMaterialError(what, why="the file exists", hint=hint) from None
    except OSError as error:
        raise KeyMaterialError(what, why=error.strerror or type(error).__name__) from None


def read_signing_key_file(path: str | os.PathLike[str]) -> SigningKey:
    """Read an ed25519 key file. Raises `KeyMaterialError` (see `read_key_file`)."""
    key = read_key_file(path)
    if not isinstance(key, SigningKey):
        raise KeyMaterialError(f"cannot use the key file {os.fspath(path)}", why="it holds no ed25519 key")
    return key


def read_box_key_file(path: str | os.PathLike[str]) -> BoxKey:
    """Read an X25519 key file. Raises `KeyMaterialError` (see `read_key_file`)."""
    key = read_key_file(path)
    if not isinstance(key, BoxKey):
        raise KeyMaterialError(f"cannot use the key file {os.fspath(path)}", why="it holds no X25519 key")
    return key


def read_key_file(path: str | os.PathLike[str]) -> SecretKey:
    """Read a key file of either type.

    Raises `KeyMaterialError` when the file is missing, is no regular file (or a symbolic link), belongs to
    another user, is readable or writable by others, or has not the form that `write_key_file` gives it.
    """
    what = f"cannot use the key file {os.fspath(path)}"
    return _parse(_read_private(path, what), what)


def _write_new(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _PRIVATE)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, _PRIVATE)  # a umask or a default ACL may have said something else
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)  # without it the name itself may be lost in a power cut
    finally:
        os.close(descriptor)


def _read_private(path: str | os.PathLike[str], what: str) -> bytes:
    try:
        # O_NONBLOCK: opening a FIFO must not hang; it has no effect on regular files.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "no such path can exist"
        raise KeyMaterialError(
            what, why=why, hint="Check the path; symbolic links are not followed"
        ) from None
    try:
        # The open descriptor is checked, not the path: nobody can swap the file in between.
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyMaterialError(what, why="it is not a regular file")
        if status.st_uid != os.geteuid():
            raise KeyMaterialError(
                what, why=f"it belongs to user {status.st_uid}", hint="Make it your own file"
            )
        mode = stat.S_IMODE(status.st_mode)
        if mode & ~_PRIVATE:
            hint = "Run chmod 600 on it; if others may have read it, make a new key"
            raise KeyMaterialError(what, why=f"its mode is {mode:04o}, wider than 0600", hint=hint)
        data = os.read(descriptor, MAX_KEY_FILE_BYTES + 1)  # regular and small: one call reads it all
    except OSError as error:
        raise KeyMaterialError(what, why=error.strerror or type(error).__name__) from None
    finally:
        os.close(descriptor)
    if len(data) > MAX_KEY_FILE_BYTES:
        raise KeyMaterialError(what, why=f"it is larger than {MAX_KEY_FILE_BYTES} bytes")
    return data


def _parse(data: bytes, what: str) -> SecretKey:
    try:
        fields = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        # `from None` here and below: json's error object carries the document, secret included.
        raise KeyMaterialError(what, why="it is not JSON") from None
    if not isinstance(fields, dict) or fields.keys() != _FIELDS:
        raise KeyMaterialError(what, why=f"expected exactly the fields {', '.join(sorted(_FIELDS))}")
    if fields["version"] != KEY_FILE_VERSION or isinstance(fields["version"], bool):
        raise KeyMaterialError(
            what, why=f"only version {KEY_FILE_VERSION} is known", hint="Update cocoon-sdk"
        )
    try:
        if fields["type"] == "ed25519":
            signing = SigningKey.from_hex(fields["secret"])
            key: SecretKey = signing
            public = signing.verify_key.hex
        elif fields["type"] == "x25519":
            box = BoxKey.from_hex(fields["secret"])
            key, public = box, box.public_key.hex
        else:
            raise KeyMaterialError(what, why="the type is neither ed25519 nor x25519")
    except KeyMaterialError as error:
        raise KeyMaterialError(what, why=error.why) from None
    if fields["public"] != public:
        raise KeyMaterialError(what, why="public and secret half do not belong together")
    return key
