"""Redeeming now, from outside of a running worker: asks it to, or does it while none is running.

Owns the choice and the waiting. Must not choose adapters. Whichever way, the operator's externals go through
the journal, so nothing is paid twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.clock import Clock
from cocoon_sdk.crypto import SigningKey
from cocoon_sdk.errors import ChainTimeoutError
from cocoon_worker.config import WorkerConfig
from cocoon_worker.database import Database
from cocoon_worker.engine.resting import RestingEngine
from cocoon_worker.errors import JournalLockedError, JournalMismatchError
from cocoon_worker.schema import SCHEMA_VERSION
from cocoon_worker.service import WorkerService
from cocoon_worker.sessions.book import SessionBook
from cocoon_worker.sessions.records import SessionEntry, SessionKey
from cocoon_worker.sessions.wishes import leave_wish

MAX_ROUNDS: Final = 60
_BLOCK_WAIT_S: Final = 10.0

Report = Callable[[str], None]


@contextmanager
def reading(config: WorkerConfig) -> Iterator[tuple[SessionBook, str]]:
    """Open a worker's book to read, beside the worker if it runs; also return whose journal it is.

    Raises `JournalError` when there is none, `JournalMismatchError` for one of another version.
    """
    database = Database(config.journal_path, read_only=True)
    try:
        version = database.read("PRAGMA user_version")[0][0]
        if version != SCHEMA_VERSION:
            raise JournalMismatchError(
                "cannot read this journal",
                why=f"it has version {version}, this package reads {SCHEMA_VERSION}",
                hint="Start the worker once with this package",
            )
        owner = database.read("SELECT value FROM meta WHERE key = 'owner'")[0][0]
        yield SessionBook(database), owner
    finally:
        database.close()


async def redeem_now(
    config: WorkerConfig,
    chain: Chain,
    keys: Sequence[SessionKey] | None,
    *,
    report: Report,
    operator: SigningKey | None = None,
    clock: Clock | None = None,
) -> list[SessionEntry]:
    """Have sessions (None: all with unredeemed money) redeemed now; return them as they are afterwards.

    Raises `ChainTimeoutError` when that cannot be confirmed in time; what was sent stays on its way.
    """
    with reading(config) as (book, _):
        before = [entry for entry in book.unredeemed_entries() if keys is None or entry.key in keys]
    if not before:
        return []
    # Without the endpoint: nothing is served meanwhile, and its port is left alone.
    resting = config.model_copy(update={"endpoint": None})
    service = WorkerService(resting, chain, RestingEngine(), clock, operator=operator)
    try:
        async with service:
            service.context.draining = True
            service.context.sessions.requested.update(entry.key for entry in before)
            report("No worker is running: redeeming from here")
            for _ in range(MAX_ROUNDS):
                await service.settle()
                after = _found(service.context.sessions.book, before)
                if _is_done(before, after):
                    return after
                await chain.wait_head(service.context.time.seqno, _BLOCK_WAIT_S)
    except JournalLockedError:
        leave_wish(config.data_dir, [entry.key for entry in before])
        report("The running worker was asked to redeem")
        head = await chain.head()
        for _ in range(MAX_ROUNDS):
            head = await chain.wait_head(head.seqno, _BLOCK_WAIT_S)
            with reading(config) as (book, _):
                after = _found(book, before)
            if _is_done(before, after):
                return after
    raise ChainTimeoutError(
        "cannot tell whether the sessions were redeemed",
        why="no reward was seen in time",
        hint="Look with `cocoon worker sessions`; what is due is tried again by the worker",
    )


def _found(book: SessionBook, before: Sequence[SessionEntry]) -> list[SessionEntry]:
    return [book.entry(entry.key) or entry for entry in before]


def _is_done(before: Sequence[SessionEntry], after: Sequence[SessionEntry]) -> bool:
    """Tell whether all that was due before has been paid out, or can never be."""
    pairs = zip(before, after, strict=True)
    return all(new.settled >= old.payable or new.lost for old, new in pairs)
