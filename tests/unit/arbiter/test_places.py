"""Places for bodies: nobody keeps one by sending slowly, or by sending from many places at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cocoon_sdk.arbiter import places as room
from cocoon_sdk.arbiter.errors import BusyError
from cocoon_sdk.arbiter.places import Places
from cocoon_sdk.errors import MalformedError

LIMIT = 1000


class Sender:
    """Somebody who sends a body: what is put in arrives, and nothing else happens until then."""

    def __init__(self, places: Places, origin: str) -> None:
        self._arrives: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._begun = asyncio.Event()
        self.read, self.work = asyncio.Event(), asyncio.Event()
        self.reading = asyncio.create_task(self._read(places, origin))

    async def _read(self, places: Places, origin: str) -> bytes:
        async with places.place(origin) as place:
            body = await places.read(place, self._chunks(), LIMIT)
            self.read.set()
            await self.work.wait()
            return body

    async def _chunks(self) -> AsyncIterator[bytes]:
        self._begun.set()
        while (chunk := await self._arrives.get()) is not None:
            yield chunk

    async def begin(self) -> None:
        """Wait until the body is being read."""
        await self._begun.wait()

    def end(self) -> None:
        self._arrives.put_nowait(b"all of it")
        self._arrives.put_nowait(None)
        self.work.set()


async def begun(places: Places, *origins: str) -> list[Sender]:
    """Let everybody begin to send."""
    senders = []
    for origin in origins:
        senders.append(Sender(places, origin))
        await senders[-1].begin()
    return senders


@pytest.fixture
async def places() -> Places:
    return Places(4, 2, asyncio.get_running_loop().time)


async def test_slow_sender_cannot_keep_its_place(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "GRACE_S", 0.0)
    sender = Sender(places, "slow")
    with pytest.raises(TimeoutError):
        await sender.reading


async def test_those_with_two_places_give_one_to_somebody_with_none(places: Places) -> None:
    senders = await begun(places, "a", "a", "b", "b")
    (newcomer,) = await begun(places, "c")
    readings = [sender.reading for sender in senders]
    evicted, kept = await asyncio.wait(readings, return_when=asyncio.FIRST_COMPLETED)
    assert (len(evicted), len(kept)) == (1, 3)
    with pytest.raises(BusyError):
        await evicted.pop()
    newcomer.end()
    assert await newcomer.reading == b"all of it"
    # Who has one already takes none from anybody.
    (again,) = await begun(places, "c")
    with pytest.raises(BusyError):
        async with places.place("c"), places.place("c"):
            pass
    for sender in [*senders, again]:
        sender.end()
    await asyncio.gather(*readings, again.reading, return_exceptions=True)


async def test_slowest_of_many_addresses_gives_way(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    senders = await begun(places, "a", "b", "c", "d")
    with pytest.raises(BusyError):
        async with places.place("e"):
            pass  # all of them have just begun
    monkeypatch.setattr(room, "SETTLED_S", 0.0)
    for sender in senders[1:]:
        sender._arrives.put_nowait(bytes(500))
    await asyncio.sleep(0)
    (newcomer,) = await begun(places, "e")
    with pytest.raises(BusyError, match="delivered"):
        await senders[0].reading
    for sender in [*senders[1:], newcomer]:
        sender.end()
    assert all(await asyncio.gather(*(sender.reading for sender in [*senders[1:], newcomer])))


async def test_body_that_is_being_worked_on_keeps_its_place(places: Places) -> None:
    senders = await begun(places, "a", "a", "b", "b")
    for sender in senders:
        sender._arrives.put_nowait(None)
        await sender.read.wait()
    with pytest.raises(BusyError):
        async with places.place("c"):
            pass
    for sender in senders:
        sender.work.set()
    assert await asyncio.gather(*(sender.reading for sender in senders)) == [b""] * 4


async def test_body_is_refused_by_its_head_and_by_its_size(places: Places) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield bytes(80)
        yield bytes(LIMIT)

    async with places.place("a") as place:
        with pytest.raises(MalformedError, match="not in form"):
            await places.read(place, chunks(), LIMIT, lambda head: head[:1] == b"\1")
        assert place.size == 80
    async with places.place("a") as place:
        with pytest.raises(MalformedError, match="too large"):
            await places.read(place, chunks(), LIMIT)
