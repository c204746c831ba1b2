"""A sandbox that is killed in the middle of a storm: what was answered is there, all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cocoon_sdk.sandbox import Ledger
from cocoon_sdk.sandbox.cells import address_key
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.storage import SqliteVault

STORM = """
import asyncio, sys
from pathlib import Path
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.storage import SqliteVault

async def sender(node, actor):
    for seqno in range(10_000):
        hash_ = await node.send(actor.request([], seqno=seqno).to_boc())
        sys.stdout.write(hash_.hex() + "\\n")
        sys.stdout.flush()

async def main():
    async with Node(vault=SqliteVault(Path(sys.argv[1]))) as node:
        actors = [await node.apply(lambda chain: chain.actor(f"actor {n}")) for n in range(8)]
        await asyncio.gather(*(sender(node, actor) for actor in actors))

asyncio.run(main())
"""


def killed(path: Path, answers: int) -> list[str]:
    """Let a storm rage until so many sends were answered, kill it, and return all that were."""
    storm = subprocess.Popen([sys.executable, "-c", STORM, str(path)], stdout=subprocess.PIPE, text=True)
    assert storm.stdout is not None
    answered = [storm.stdout.readline().strip() for _ in range(answers)]
    storm.kill()
    # What it said before it died; the last line may be torn.
    answered += [line for line in storm.stdout.read().split("\n") if len(line) == 64]
    storm.wait()
    storm.stdout.close()
    return answered


@pytest.mark.parametrize("answers", [1, 37, 150])
async def test_no_answered_send_is_lost_when_the_sandbox_is_killed(tmp_path: Path, answers: int) -> None:
    path = tmp_path / "chain.sqlite3"
    answered = killed(path, answers)
    async with Node(vault=SqliteVault(path)) as node:
        chain = node.blockchain
        sealed = {each.in_msg.hash.hex(): each for each in chain.transactions(limit=100_000)}
        assert set(answered) <= set(sealed)
        assert {node.archive.transaction(sealed[each].hash)[0].hash for each in answered}
        # The accounts are those of the head's state, and both agree with the history.
        for key, native in chain.raw_items():
            kept = node.head.shard_block.shard_account(key)
            assert kept is not None
            assert kept.get_hash() == native.get_hash()
            assert node.shard_account(key).last_lt == max(
                each.lt for each in sealed.values() if each.key == key
            )
        Ledger.of(chain).assert_balanced()
        actor = chain.actor("actor 0")
        await node.send(actor.request([]).to_boc())
        assert node.run_getter(address_key(actor.address), "seqno").values() == [actor.seqno]
