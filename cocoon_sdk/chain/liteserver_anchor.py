"""The newest key block that was proven, kept in a file, so that the next start need not prove it again.

Owns the file's format. It is believed like the configuration itself: keep it where nobody else writes. Must
not know servers. A file that is missing, damaged or of another network is as good as none.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from cocoon_sdk.chain.proofs import BlockId, ProofError

_MAX_BYTES: Final = 4096


class Anchor:
    """A file with one key block; `init_block` names the network, and is what there is without the file."""

    def __init__(self, path: Path | None, init_block: BlockId) -> None:
        self._path, self._init_block = path, init_block

    def load(self) -> BlockId:
        """Return the block kept, or the initial one if that is newer or nothing usable is kept."""
        kept = self._read()
        return kept if kept is not None and kept.seqno > self._init_block.seqno else self._init_block

    def keep(self, block: BlockId) -> None:
        """Write a block, whole or not at all; raises `OSError` when the file cannot be written."""
        if self._path is None:
            return
        content = {"network": self._init_block.root_hash.hex(), "key_block": block.to_tl()}
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.part")
        temporary.write_text(json.dumps(content) + "\n", "utf-8")
        temporary.replace(self._path)

    def _read(self) -> BlockId | None:
        if self._path is None:
            return None
        try:
            with self._path.open("rb") as file:
                content: Any = json.loads(file.read(_MAX_BYTES))
            if content["network"] != self._init_block.root_hash.hex():
                return None
            return BlockId.from_tl(content["key_block"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError, ProofError):
            return None
