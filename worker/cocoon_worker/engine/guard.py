"""A small process between a worker and its engine, so that neither's death leaves the other's memory taken.

Run as a script (standard library only): `python -I guard.py GRACE_SECONDS COMMAND...`. It starts COMMAND in
a process group of its own and announces the group on standard output as `cocoon-guard group=N`. It ends the
group when COMMAND exits for whatever reason (vLLM's API process orphans its engine processes when it is
killed), when told to by SIGTERM, and when standard input closes, which is how the kernel tells it that the
worker is gone, however that died. COMMAND's exit code becomes its own. Must not know what COMMAND is.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

ANNOUNCEMENT = b"cocoon-guard group="
_REAP_S = 10.0
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, argument: int) -> None:
    """Ask Linux for a process attribute; other systems do without (the pipe still works there)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0)


def run(grace_s: float, command: Sequence[str]) -> int:
    """Run `command` to its end or ours; return its exit code, 128 + signal number if one ended it."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in (*_STOP_SIGNALS, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)  # the wake-up pipe carries the number to the loop
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # orphans of the group become ours to reap
    guard_pid = os.getpid()

    def die_with_guard() -> None:  # between fork and exec; this process has one thread
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard_pid:
            os._exit(1)

    try:
        child = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_guard,  # noqa: PLW1509
        )
    except OSError as error:
        print(f"cannot start {command[0]}: {error.strerror}", flush=True)
        return 127
    os.write(1, ANNOUNCEMENT + b"%d\n" % child.pid)
    try:
        _until_over(child, wake_read, grace_s)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        code = child.wait()
        _reap()
    return 128 - code if code < 0 else code


def _until_over(child: subprocess.Popen[bytes], wake: int, grace_s: float) -> None:
    """Return when the child has ended, or `grace_s` after it was asked to."""
    watched = [0, wake]
    give_up_at: float | None = None
    while child.poll() is None:
        left = None if give_up_at is None else give_up_at - time.monotonic()
        if left is not None and left <= 0:
            return
        readable, _, _ = select.select(watched, [], [], left)
        asked = False
        if 0 in readable and not os.read(0, 4096):
            watched.remove(0)
            asked = True
        if wake in readable:
            asked = any(number in _STOP_SIGNALS for number in os.read(wake, 4096)) or asked
        if asked and give_up_at is None:
            give_up_at = time.monotonic() + grace_s
            child.send_signal(signal.SIGTERM)


def _reap() -> None:
    """Collect the killed group's processes, so that our exit means that all are gone."""
    give_up_at = time.monotonic() + _REAP_S
    with suppress(ChildProcessError):
        while time.monotonic() < give_up_at:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(run(float(sys.argv[1]), sys.argv[2:]))
