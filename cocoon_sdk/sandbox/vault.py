"""What a `Node` asks of whoever keeps its chain, and the keeper that only remembers named snapshots.

Owns the seam between a node and storage. Must not know how blocks are made or served, nor any file:
`cocoon_sdk.sandbox.storage` has the keeper that writes to disk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cocoon_sdk.sandbox.blockchain import Snapshot
from cocoon_sdk.sandbox.errors import SandboxError

if TYPE_CHECKING:
    from cocoon_sdk.sandbox.blocks import BlockProducer, Mark, MasterBlock

BASE = "@start"
"""Name of the snapshot that `Node.reset` goes back to; people cannot take this name."""
MAX_SNAPSHOTS = 100
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


class UnknownSnapshotError(SandboxError):
    """No snapshot has that name; one that was taken after the point restored to vanished with its blocks."""


class SnapshotNameError(SandboxError):
    """A snapshot cannot be called that, or there are too many."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A chain at one of its blocks: its state, its blocks, and how many seconds it is ahead of its clock."""

    chain: Snapshot
    mark: Mark
    seqno: int
    offset: int


class Vault(Protocol):
    """Keeps a chain. Every method may raise `StorageError`, after which the node takes nothing more."""

    def load(self) -> tuple[BlockProducer, int] | None:
        """Return the kept chain with its blocks, and its time offset; None when nothing was kept yet."""
        ...

    def begin(self, producer: BlockProducer, offset: int) -> None:
        """Keep a chain that starts now, whose start gets the name `BASE`."""
        ...

    def append(self, block: MasterBlock, producer: BlockProducer, offset: int) -> None:
        """Keep a block and what it changed: all of it or nothing."""
        ...

    def keep(self, name: str, producer: BlockProducer, offset: int) -> None:
        """Remember the present under a name, in place of an earlier snapshot of that name."""
        ...

    def rewind(self, name: str, producer: BlockProducer) -> Moment:
        """Return a snapshot, and forget all later blocks and snapshots. Raises `UnknownSnapshotError`."""
        ...

    def names(self) -> dict[str, int]:
        """Return the snapshots, each with its masterchain seqno."""
        ...

    def close(self) -> None:
        """Let go of files."""
        ...


class MemoryVault:
    """Named snapshots of a chain that nobody keeps on disk."""

    def __init__(self) -> None:
        self._kept: dict[str, Moment] = {}

    def load(self) -> None:
        """Nothing was kept."""
        return None

    def begin(self, producer: BlockProducer, offset: int) -> None:
        """Remember the start."""
        self.keep(BASE, producer, offset)

    def append(self, block: MasterBlock, producer: BlockProducer, offset: int) -> None:
        """Blocks stay where they are: in the archive."""

    def keep(self, name: str, producer: BlockProducer, offset: int) -> None:
        """Remember the present under a name."""
        seqno = producer.archive.head.id.seqno
        self._kept[name] = Moment(producer.blockchain.snapshot(), producer.mark(), seqno, offset)

    def rewind(self, name: str, producer: BlockProducer) -> Moment:
        """Return a snapshot. Raises `UnknownSnapshotError`."""
        moment = self._kept.get(name)
        if moment is None:
            raise unknown_snapshot(name, self.names())
        self._kept = {other: kept for other, kept in self._kept.items() if kept.seqno <= moment.seqno}
        return moment

    def names(self) -> dict[str, int]:
        """Return the snapshots, each with its masterchain seqno."""
        return {name: moment.seqno for name, moment in self._kept.items()}

    def close(self) -> None:
        """Nothing is open."""


def check_name(name: str, taken: dict[str, int]) -> None:
    """Raise `SnapshotNameError` unless people may take a snapshot with that name."""
    if not _NAME.match(name):
        raise SnapshotNameError(
            f"a snapshot cannot be called {name[:80]!r}", why="a name is 1 to 64 of A-Z a-z 0-9 . _ -"
        )
    if name not in taken and len(taken) > MAX_SNAPSHOTS:
        raise SnapshotNameError(
            f"the snapshot {name} cannot be taken",
            why=f"there are {MAX_SNAPSHOTS} already",
            hint="take one of the existing names again",
        )


def unknown_snapshot(name: str, taken: dict[str, int]) -> UnknownSnapshotError:
    """Build the error for a name that nothing was kept under."""
    known = ", ".join(sorted(each for each in taken if each != BASE)) or "none"
    return UnknownSnapshotError(
        f"there is no snapshot {name[:80]!r}",
        why=f"known are: {known}",
        hint="snapshots taken later than one that was restored vanish with their blocks",
    )
