"""Directory and fsspec stores, and routing by scheme."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cocoon_sdk.data import (
    DataSource,
    DataStore,
    DirectoryStore,
    FsspecStore,
    InlineData,
    Location,
    LocationRefusedError,
    RoutingSource,
    read_data,
)
from cocoon_sdk.errors import ConfigError, HashMismatchError, MalformedError, ResultUnavailableError


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path, max_bytes=1000)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(data=st.binary(max_size=1000))
def test_content_survives_the_directory(store: DirectoryStore, data: bytes) -> None:
    async def both_ways() -> bytes:
        return await store.get(await store.put(data))

    assert asyncio.run(both_ways()) == data


def test_storing_twice_gives_one_file_and_no_leftovers(store: DirectoryStore, tmp_path: Path) -> None:
    first = asyncio.run(store.put(b"content"))
    assert asyncio.run(store.put(b"content")) == first
    assert [entry.as_uri() for entry in tmp_path.iterdir()] == [first.url]
    assert isinstance(store, DataStore)


async def test_reader_cannot_open_files_that_the_store_did_not_write(
    store: DirectoryStore, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign.txt"
    foreign.write_bytes(b"private")
    location = await store.put(b"content")
    for url in (
        foreign.as_uri(),
        location.url.replace(tmp_path.name, f"{tmp_path.name}/../{tmp_path.name}"),
        location.url.replace("file://", "file://host"),
        "file:///etc/passwd",
    ):
        with pytest.raises(LocationRefusedError):
            await store.get(Location.of(url, b"private"))


def _link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _nothing(_: Path) -> None:
    pass


@pytest.mark.parametrize("replace", [_link, _fifo, Path.mkdir, _nothing])
def test_reader_cannot_read_what_is_no_plain_file(
    store: DirectoryStore, replace: Callable[[Path], None]
) -> None:
    location = asyncio.run(store.put(b"content"))
    path = Path(location.url.removeprefix("file://"))
    path.unlink()
    replace(path)
    # A FIFO without a writer reads as empty instead of blocking.
    with pytest.raises(HashMismatchError if replace is _fifo else ResultUnavailableError):
        asyncio.run(store.get(location))


@pytest.mark.parametrize("wrong", [b"c0ntent", b"content+", b"conten", b""])
def test_reader_cannot_see_content_when_the_file_was_altered(
    store: DirectoryStore, tmp_path: Path, wrong: bytes
) -> None:
    location = asyncio.run(store.put(b"content"))
    next(tmp_path.iterdir()).write_bytes(wrong)
    with pytest.raises(HashMismatchError):
        asyncio.run(store.get(location))


async def test_store_cannot_take_or_give_more_than_its_limit(store: DirectoryStore) -> None:
    with pytest.raises(MalformedError, match="exceed the limit"):
        await store.put(bytes(1001))
    with pytest.raises(MalformedError, match="exceed the limit"):
        await store.get(Location.of("file:///x", bytes(1001)))


async def test_store_says_so_when_the_disk_refuses(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResultUnavailableError, match="No space left"):
        await store.put(b"content")


def test_store_cannot_be_made_when_there_is_no_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a directory"):
        DirectoryStore(tmp_path / "missing")


async def test_router_sends_each_scheme_to_its_source_and_refuses_others(store: DirectoryStore) -> None:
    router = RoutingSource({"file": store})
    location = await store.put(b"content")
    assert await read_data(location, router) == b"content"
    assert await read_data(InlineData(b"inline"), router) == b"inline"
    assert router.schemes == {"file"}
    assert isinstance(router, DataSource)
    with pytest.raises(LocationRefusedError, match="only file is enabled"):
        await router.get(Location.of("https://worker.example/x", b"content"))


async def test_router_cannot_pass_on_content_when_a_source_does_not_check() -> None:
    class Careless:
        async def get(self, location: Location) -> bytes:
            return b"anything"

    with pytest.raises(HashMismatchError):
        await RoutingSource({"https": Careless()}).get(Location.of("https://worker.example/x", b"content"))


def test_fsspec_store_says_what_to_install_when_fsspec_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ConfigError, match="pip install fsspec"):
        FsspecStore("s3://bucket/cocoon")


@pytest.mark.parametrize(
    ("failure", "why"),
    [(ImportError("Install s3fs to access S3"), "Install s3fs"), (ValueError("x"), "knows no such scheme")],
)
def test_fsspec_store_says_so_when_the_driver_is_missing(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, why: str
) -> None:
    def filesystem(_: str, **__: Any) -> None:
        raise failure

    module = ModuleType("fsspec")
    module.filesystem = filesystem  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fsspec", module)
    with pytest.raises(ConfigError, match=why):
        FsspecStore("s3://bucket/cocoon")


@pytest.mark.parametrize("prefix", ["file:///srv", "http://host/x", "https://host/x", "local:///srv"])
def test_fsspec_store_cannot_be_used_when_a_guarded_store_exists(prefix: str) -> None:
    with pytest.raises(ConfigError, match="fsspec is not used"):
        FsspecStore(prefix)


@pytest.fixture
def memory(tmp_path: Path) -> FsspecStore:
    pytest.importorskip("fsspec", reason="fsspec is optional")
    return FsspecStore(f"memory://{tmp_path.name}/cocoon", max_bytes=1000)


async def test_content_survives_fsspec(memory: FsspecStore, tmp_path: Path) -> None:
    location = await memory.put(b"content")
    assert location.url.startswith(f"memory://{tmp_path.name}/cocoon/")
    assert await memory.get(location) == b"content"
    assert isinstance(memory, DataStore)
    reader = FsspecStore("memory://elsewhere", readable=[f"memory://{tmp_path.name}/cocoon"])
    assert await reader.get(location) == b"content"


async def test_fsspec_store_cannot_read_outside_of_its_prefixes(memory: FsspecStore, tmp_path: Path) -> None:
    prefix = f"memory://{tmp_path.name}/cocoon"
    for url in (
        "memory://other/x",
        f"{prefix}-other/x",
        f"{prefix}/../x",
        f"{prefix}/x::file:///etc/passwd",
        "s3://bucket/x",
    ):
        with pytest.raises(LocationRefusedError):
            await memory.get(Location.of(url, b"content"))


async def test_fsspec_store_says_so_when_content_is_missing_altered_or_too_large(memory: FsspecStore) -> None:
    location = await memory.put(b"content")
    memory._files.pipe_file(location.url, b"c0ntent")
    with pytest.raises(HashMismatchError):
        await memory.get(location)
    memory._files.rm(location.url)
    with pytest.raises(ResultUnavailableError, match="FileNotFoundError"):
        await memory.get(location)
    with pytest.raises(MalformedError):
        await memory.put(bytes(1001))
    with pytest.raises(MalformedError):
        await memory.get(Location.of(location.url, bytes(1001)))


def test_fsspec_store_serves_one_scheme_only(memory: FsspecStore) -> None:
    with pytest.raises(ConfigError, match="one scheme"):
        FsspecStore("memory://x", readable=["s3://bucket"])
