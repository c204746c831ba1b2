"""Best vouchers as files, for a watchtower that redeems when this worker cannot.

Owns writing them: whole or not at all, one for each session that holds unredeemed money. Must not redeem. A
file that cannot be written is an alarm, not a reason to stop serving: the journal has the voucher.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.protocol.voucher_file import SavedVoucher
from cocoon_sdk.protocol.vouchers import Voucher
from cocoon_sdk.types import Nano
from cocoon_worker.context import Context
from cocoon_worker.sessions.records import SessionEntry, SessionKey

EXPORT_ALARM: Final = "voucher-export"
MAX_WRITES: Final = 256
"""Files written in one round; the others wait for the next one."""
_MODE: Final = 0o644


def saved_voucher(entry: SessionEntry, global_id: int, worker: Address) -> SavedVoucher:
    """Return a session's best voucher, and what we claim of it, in the form that travels."""
    voucher = Voucher(entry.signed, entry.signature)
    part = entry.payable if entry.takes_parts else None
    return SavedVoucher(entry.ref(global_id, worker), entry.verify_key(), voucher, part)


def write_voucher(folder: Path, saved: SavedVoucher) -> Path:
    """Write or replace a session's file, in one step. Raises `OSError`."""
    path = folder / saved.name
    draft = folder / f".{saved.name}.new"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
    with open(descriptor, "wb") as file:
        file.write(saved.to_bytes())
    os.replace(draft, path)
    return path


class VoucherExport:
    """Keeps a folder like the book. Call `run` once a round; without a folder it does nothing."""

    def __init__(self, context: Context) -> None:
        self._context, self._folder = context, context.config.sessions.voucher_dir
        self._written: dict[SessionKey, tuple[tuple[Nano, Nano], str]] = {}

    def run(self) -> None:
        """Write what is better than what lies there, and take away what was redeemed."""
        if self._folder is None:
            return
        context, budget = self._context, MAX_WRITES
        entries = {entry.key: entry for entry in context.sessions.book.unredeemed_entries()}
        try:
            self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            for key, entry in entries.items():
                state = entry.signed, entry.payable
                if budget and (key not in self._written or self._written[key][0] != state):
                    budget -= 1
                    saved = saved_voucher(entry, context.global_id, context.stake.address)
                    self._written[key] = (state, write_voucher(self._folder, saved).name)
            for key in self._written.keys() - entries.keys():
                _, name = self._written.pop(key)
                (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            context.alarm(EXPORT_ALARM, True, f"cannot write to {self._folder}: {error.strerror}")
        else:
            context.alarm(EXPORT_ALARM, False)
