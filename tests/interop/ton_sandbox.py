"""The npm package @ton/sandbox in a long-lived node process of its own, spoken to in JSON lines.

Owns the process and the protocol of ton_sandbox.mjs. Knows nothing of our sandbox or of what is compared.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).resolve().parent
_DRIVER = HERE / "ton_sandbox.mjs"


def node_path() -> str:
    """Return the Node.js to run: the virtual environment's own, else the machine's."""
    found = shutil.which("node", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert found is not None, "no Node.js: run `make interop`"
    assert (HERE / "node_modules" / "@ton" / "sandbox").is_dir(), "no packages: run `make interop`"
    return found


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of one message: raw transactions in order, and why it stopped, if it did."""

    transactions: list[bytes]
    error: str | None
    exit_code: int | None


class TonSandbox:
    """One process with one chain. Use as a context manager; `reset` before anything else."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [node_path(), str(_DRIVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> TonSandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()  # the end of its input ends it

    def reset(self, config: bytes, now: int, *, timed: bool) -> None:
        """Start a fresh chain; `timed` means that `send` says which logical times to use."""
        self._ask("reset", config=_base64(config), now=now, timed=timed)

    def set_libraries(self, root: bytes) -> None:
        """Replace the public libraries by a dictionary's root."""
        self._ask("libraries", root=_base64(root))

    def normalise(self, message: bytes) -> bytes:
        """Return a message as @ton/core lays it out in cells."""
        return base64.b64decode(self._ask("normalise", message=_base64(message))["message"])

    def send(self, message: bytes, *, now: int, seed: bytes, times: Sequence[int]) -> Delivery:
        """Deliver a message and all that follows; the n-th transaction happens at the n-th logical time."""
        answer = self._ask(
            "send", message=_base64(message), now=now, seed=seed.hex(), times=[str(time) for time in times]
        )
        transactions = [base64.b64decode(boc) for boc in answer["transactions"]]
        return Delivery(transactions, answer["error"], answer["exit_code"])

    def accounts(self) -> dict[str, bytes]:
        """Return the `ShardAccount` of every account that exists, by raw address."""
        accounts: dict[str, str] = self._ask("accounts")["accounts"]
        return {address: base64.b64decode(boc) for address, boc in accounts.items()}

    def load(self, messages: Sequence[bytes]) -> None:
        """Hand over messages for `run`."""
        self._ask("load", messages=[_base64(message) for message in messages])

    def run(self) -> tuple[int, float]:
        """Deliver the loaded messages; return the number of transactions and the seconds it took."""
        answer = self._ask("run")
        return answer["transactions"], answer["seconds"]

    def _ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, f"node ended with status {process.wait()} during {command!r}"
        answer: dict[str, Any] = json.loads(line)
        assert "failed" not in answer, answer["failed"]
        return answer


def _base64(boc: bytes) -> str:
    return base64.b64encode(boc).decode()
