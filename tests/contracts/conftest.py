"""Fixtures of the contract tests: a network that is audited after every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cocoon_sdk.sandbox import Actor
from tests.helpers.audit import World, audited
from tests.helpers.suite import Client, Worker


@pytest.fixture
def world() -> Iterator[World]:
    yield from audited()


@pytest.fixture
def client(world: World) -> Client:
    return world.client()


@pytest.fixture
def worker(world: World) -> Worker:
    return world.worker()


@pytest.fixture
def stranger(world: World) -> Actor:
    return world.chain.actor("stranger")
