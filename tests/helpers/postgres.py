"""A private PostgreSQL server for tests, from Debian's packages: its own folder, a Unix socket, no network.

Started once per test process and stopped at its end; every test gets a database of its own. PostgreSQL
refuses to run as root, so as root it runs as an unprivileged user.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Final

DEBIAN: Final = Path("/usr/lib/postgresql")
_UNPRIVILEGED: Final = ("postgres", "nobody")
_START_S: Final = 60


class NoPostgresError(RuntimeError):
    """The server's programs are not installed."""


def programs() -> Path:
    """Return the folder with `initdb` and `postgres`. Raises `NoPostgresError`."""
    folders = sorted(DEBIAN.glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise NoPostgresError("PostgreSQL is not installed: run tests/postgres.sh, which installs it")


@dataclass(frozen=True)
class PostgresServer:
    """A running server; `sockets` is the folder of its socket."""

    folder: Path
    sockets: Path
    process: subprocess.Popen[bytes]
    user: str

    def url(self, database: str) -> str:
        return f"postgresql://{self.user}@/{database}?host={self.sockets}"

    def run(self, *statements: str, database: str = "postgres") -> str:
        """Run statements with the server's own client."""
        command = [str(programs() / "psql"), "-h", str(self.sockets), "-U", self.user, "-d", database]
        for statement in statements:
            command += ["-c", statement]
        done = subprocess.run(
            [*command, "-qAtX", "-v", "ON_ERROR_STOP=1"], check=True, capture_output=True, text=True
        )
        return done.stdout

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # fast shutdown: does not wait for clients
            self.process.wait(_START_S)
        shutil.rmtree(self.folder, ignore_errors=True)


def _start() -> PostgresServer:
    binaries = programs()
    # Short, since a socket's path has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="cocoon-pg-", dir="/tmp"))
    data, user = folder / "data", "cocoon"
    identity: dict[str, int] = {}
    if os.geteuid() == 0:
        account = next(found for name in _UNPRIVILEGED if (found := _account(name)))
        identity = {"user": account.pw_uid, "group": account.pw_gid}
        os.chown(folder, account.pw_uid, account.pw_gid)
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
    try:
        made = subprocess.run(
            [
                str(binaries / "initdb"),
                *("-D", str(data), "-U", user, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"),
            ],
            check=False,
            capture_output=True,
            text=True,
            cwd=folder,
            env=environment,
            **identity,  # type: ignore[call-overload]
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr[-2000:]}")
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(folder),
            "fsync": "on",
            "synchronous_commit": "on",
            "max_connections": "100",
            "shared_buffers": "32MB",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        log = (folder / "log").open("wb")
        process = subprocess.Popen(
            [str(binaries / "postgres"), "-D", str(data), *settings],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            start_new_session=True,
            **identity,  # type: ignore[call-overload]
        )
        log.close()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    server = PostgresServer(folder, folder, process, user)
    try:
        subprocess.run(
            [str(binaries / "pg_isready"), "--version"], check=True, capture_output=True
        )  # a clear error if the client's package is missing
        _wait(server, binaries)
    except BaseException:
        server.stop()
        raise
    atexit.register(server.stop)
    return server


def _wait(server: PostgresServer, binaries: Path) -> None:
    """Wait until the server answers; its own client retries nothing, so we do, without sleeping blindly."""
    import time

    give_up = time.monotonic() + _START_S
    while time.monotonic() < give_up:
        if server.process.poll() is not None:
            raise RuntimeError(f"PostgreSQL ended: {(server.folder / 'log').read_text()[-2000:]}")
        ready = subprocess.run(
            [str(binaries / "pg_isready"), "-q", "-h", str(server.sockets), "-d", "postgres"], check=False
        )
        if ready.returncode == 0:
            return
        time.sleep(0.05)
    raise RuntimeError("PostgreSQL did not start in time")


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


@cache
def postgres_server() -> PostgresServer:
    """Return this process's server, started at the first call."""
    return _start()


_numbers = count(1)


@contextmanager
def postgres_database() -> Iterator[str]:
    """Make an empty database and yield its URL; it is dropped afterwards."""
    server = postgres_server()
    name = f"test_{os.getpid()}_{next(_numbers)}"
    server.run(f"CREATE DATABASE {name}")
    try:
        yield server.url(name)
    finally:
        server.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
