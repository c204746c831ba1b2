"""The key block that is kept between starts: what is taken from the file, and what is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cocoon_sdk.chain.liteserver_anchor import Anchor
from cocoon_sdk.chain.liteserver_blocks import Trust
from cocoon_sdk.chain.liteserver_limits import PoolLimits
from cocoon_sdk.chain.liteserver_pool import ServerRefusedError
from cocoon_sdk.chain.proofs import BlockId
from tests.unit.chain.liteserver_world import world

INIT = BlockId(-1, -(1 << 63), 100, b"\x01" * 32, b"\x02" * 32)
LATER = BlockId(-1, -(1 << 63), 200, b"\x03" * 32, b"\x04" * 32)


def test_block_can_be_kept_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "anchor.json"
    assert Anchor(path, INIT).load() == INIT
    Anchor(path, INIT).keep(LATER)
    assert Anchor(path, INIT).load() == LATER
    assert [found.name for found in tmp_path.iterdir()] == ["anchor.json"]
    Anchor(None, INIT).keep(LATER)
    assert Anchor(None, INIT).load() == INIT


def test_block_cannot_be_taken_when_it_is_older_or_of_another_network(tmp_path: Path) -> None:
    path = tmp_path / "anchor.json"
    Anchor(path, INIT).keep(LATER)
    newer = replace(INIT, seqno=300)
    assert Anchor(path, newer).load() == newer
    other = replace(INIT, root_hash=b"\x09" * 32)
    assert Anchor(path, other).load() == other


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "[" * 4096, json.dumps({"network": INIT.root_hash.hex(), "key_block": {"seqno": 5}})],
    ids=["empty", "cut", "list", "deep", "part"],
)
def test_block_cannot_be_taken_from_a_damaged_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "anchor.json"
    path.write_text(content)
    assert Anchor(path, INIT).load() == INIT


async def test_proof_starts_at_the_kept_block(tmp_path: Path) -> None:
    async with world() as town:
        path = tmp_path / "anchor.json"
        init = town.node.archive.init_block.id
        known = BlockId(init.workchain, init.shard, init.seqno, init.root_hash, init.file_hash)
        Anchor(path, known).keep(replace(known, seqno=known.seqno + 1))  # no such block, so no proof from it
        chain = town.connect(trust=Trust.PROVEN, anchor=path, limits=PoolLimits(wait_s=0.2))
        with pytest.raises(ServerRefusedError, match="getBlockProof"):
            await chain.head()
        path.unlink()
        assert (await town.connect(trust=Trust.PROVEN, anchor=path).head()).seqno == town.node.head.id.seqno
