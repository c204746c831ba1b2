"""`cocoon` as a process of its own, the way a person starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

# What starts in the background ignores Ctrl-C, and so do its children: the test runner may be such a thing.
_START = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
_START += "from cocoon_sdk.cli.main import main; main()"
_PATIENCE_S = 60


def cocoon(*arguments: str, env: dict[str, str] | None = None, err: IO[str] | int) -> subprocess.Popen[str]:
    """Start the command line; standard output is piped, standard error goes to `err`."""
    return subprocess.Popen(
        [sys.executable, "-c", _START, *arguments], env=env, stdout=subprocess.PIPE, stderr=err, text=True
    )


def read_document(stream: IO[str]) -> Any:
    """Read one indented JSON document from a stream that stays open."""
    lines: list[str] = []
    for line in stream:
        lines.append(line)
        if line.rstrip() in ("}", "]"):
            return json.loads("".join(lines))
    raise AssertionError(f"no document, only: {''.join(lines)}")


@contextmanager
def sandbox_up(folder: Path, *arguments: str) -> Iterator[dict[str, Any]]:
    """Run `cocoon sandbox up --json` and yield what it prints; ends it and checks that it ended well.

    It leaves nothing behind, unless `arguments` name a folder.
    """
    if "--folder" not in arguments:
        arguments = ("--ephemeral", *arguments)
    with (folder / "sandbox.err").open("w+") as err:
        process = cocoon("sandbox", "up", "--json", *arguments, err=err)
        try:
            assert process.stdout is not None
            yield read_document(process.stdout)
        finally:
            process.terminate()
            code = process.wait(_PATIENCE_S)
            assert process.stdout is not None
            process.stdout.close()
        err.seek(0)
        assert code == 143, err.read()
