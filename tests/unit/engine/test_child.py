"""Guarded children: exit codes, logs, and no process left behind however anybody dies."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from cocoon_worker.engine import guard
from cocoon_worker.engine.child import ChildLog, GuardedChild

# Starts a grandchild that ignores SIGTERM, tells both pids, and waits.
_FAMILY = """
import os, signal, subprocess, sys, time
code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
grandchild = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
grandchild.stdout.readline()
print("family", os.getpid(), grandchild.pid, flush=True)
time.sleep(600)
"""
_STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"


@pytest.fixture
def log(tmp_path: Path) -> ChildLog:
    return ChildLog(tmp_path / "logs" / "child.log")


async def launch(log: ChildLog, code: str, *, grace_s: float = 5.0) -> GuardedChild:
    log.open()
    return await GuardedChild.launch(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONUNBUFFERED": "1"}, log=log, grace_s=grace_s
    )


async def until_said(log: ChildLog, word: str) -> list[str]:
    while True:
        for line in log.recent():
            if word in line:
                return line.split()
        await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def until_dead(*pids: int) -> None:
    while any(alive(pid) for pid in pids):  # noqa: ASYNC110 - the kernel ends them when it comes to it
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("raise SystemExit(0)", 0),
        ("raise SystemExit(7)", 7),
        ("import os; os.kill(os.getpid(), 9)", 128 + 9),
    ],
)
async def test_supervisor_can_learn_the_exit_code_when_the_child_ends(
    log: ChildLog, code: str, expected: int
) -> None:
    child = await launch(log, code)
    assert await child.wait() == expected
    assert not child.running
    log.close()


async def test_supervisor_can_read_the_reason_when_the_command_does_not_exist(log: ChildLog) -> None:
    log.open()
    child = await GuardedChild.launch(["/nonexistent/program"], env={}, log=log, grace_s=1)
    assert await child.wait() == 127
    assert "cannot start /nonexistent/program" in log.tail()
    assert child.group is None
    log.close()


async def test_supervisor_can_end_everything_when_it_stops_the_child(log: ChildLog) -> None:
    child = await launch(log, _FAMILY, grace_s=0.2)
    _, parent, grandchild = await until_said(log, "family")
    assert child.group == int(parent)
    await child.stop()
    assert not alive(int(parent))
    assert not alive(int(grandchild))
    await child.stop()
    log.close()


async def test_supervisor_can_end_a_child_when_it_ignores_sigterm(log: ChildLog) -> None:
    child = await launch(log, _STUBBORN, grace_s=0.1)
    await until_said(log, "up")
    await child.stop()
    assert await child.wait() == 128 + signal.SIGKILL
    log.close()


async def test_grandchild_cannot_survive_when_the_child_is_killed(log: ChildLog) -> None:
    child = await launch(log, _FAMILY)
    _, parent, grandchild = await until_said(log, "family")
    os.kill(int(parent), signal.SIGKILL)
    assert await child.wait() == 128 + signal.SIGKILL
    assert not alive(int(grandchild))
    log.close()


async def test_family_cannot_survive_when_the_guard_is_killed(log: ChildLog) -> None:
    child = await launch(log, _FAMILY)
    _, parent, grandchild = await until_said(log, "family")
    os.kill(child._process.pid, signal.SIGKILL)
    await child.wait()
    await until_dead(int(parent), int(grandchild))
    log.close()


async def test_family_cannot_survive_when_the_worker_is_killed(tmp_path: Path) -> None:
    log_path = tmp_path / "child.log"
    worker = f"""
import asyncio, os, pathlib, sys
from cocoon_worker.engine.child import ChildLog, GuardedChild
async def main():
    log = ChildLog(pathlib.Path({str(log_path)!r}))
    log.open()
    await GuardedChild.launch([sys.executable, "-c", {_FAMILY!r}], env=os.environ, log=log, grace_s=0.1)
    while not any("family" in line for line in log.recent()):
        await asyncio.sleep(0.01)
    print(log.tail(), flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", worker),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "worker"},
    )
    assert process.stdout is not None
    _, parent, grandchild = (await process.stdout.readline()).split()
    process.kill()
    await process.wait()
    await until_dead(int(parent), int(grandchild))


async def test_guard_can_be_told_to_end_when_it_gets_sigterm(log: ChildLog) -> None:
    child = await launch(log, _FAMILY, grace_s=0.1)
    _, parent, grandchild = await until_said(log, "family")
    os.kill(child._process.pid, signal.SIGTERM)
    await child.wait()
    assert not alive(int(parent))
    assert not alive(int(grandchild))
    log.close()


def test_log_can_keep_its_size_when_the_child_prints_without_end(tmp_path: Path) -> None:
    log = ChildLog(tmp_path / "child.log", max_bytes=1000)
    log.open()
    for number in range(500):
        log.write(b"line %d\n" % number)
    log.write(b"x" * 100_000)  # no line end: kept bounded in memory too
    log.close()
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"child.log", "child.log.1"}
    assert sizes["child.log.1"] <= 1000
    assert log.tail(2) == "line 498\nline 499"
    assert len(log._partial) < 10_000
    assert (tmp_path / "child.log").stat().st_mode & 0o077 == 0


def test_log_can_show_plain_lines_when_the_child_prints_colours_and_bars(tmp_path: Path) -> None:
    log = ChildLog(tmp_path / "child.log")
    log.write(b"\x1b[31mred\x1b[0m\n10%\r20%\r\n\n" + b"\xff" + b"y" * 999 + b"\n")
    assert log.recent()[:3] == ("red", "10%", "20%")
    assert len(log.recent()[3]) == 300


def test_guard_can_be_found_when_it_runs_as_a_script() -> None:
    assert Path(guard.__file__).name == "guard.py"
