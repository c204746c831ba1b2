"""The seed rule: fixed vectors, and everything that must change a seed."""

from __future__ import annotations

import dataclasses

import pytest
from pytoniq_core import Address

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.protocol.vouchers import SessionRef
from cocoon_sdk.verify.seeds import job_seed, request_seed

DOMAIN = Domain(-239, Address((0, b"\x11" * 32)), 5)
SESSION = SessionRef(DOMAIN, 7, Address((0, b"\x22" * 32)))
HASH = b"\x33" * 32


def test_seeds_are_the_ones_that_every_client_and_worker_derives() -> None:
    # Frozen: a worker of another version must draw the same noise.
    assert job_seed(DOMAIN, 1, HASH).hex() == "94529866a9df4af89acad6d8e6ea40ad"
    assert request_seed(SESSION, 1, HASH).hex() == "f08e3fbf913f32e83caf51cf6485f4ef"


def test_seed_changes_with_everything_that_names_the_answer() -> None:
    other = dataclasses.replace(DOMAIN, epoch=6)
    seeds = {
        job_seed(DOMAIN, 1, HASH),
        job_seed(DOMAIN, 2, HASH),
        job_seed(DOMAIN, 1, b"\x34" * 32),
        job_seed(other, 1, HASH),
        request_seed(SESSION, 1, HASH),
        request_seed(SESSION, 2, HASH),
        request_seed(SESSION, 1, b"\x34" * 32),
        request_seed(dataclasses.replace(SESSION, session_id=8), 1, HASH),
        request_seed(dataclasses.replace(SESSION, domain=other), 1, HASH),
    }
    assert len(seeds) == 9
    assert {len(seed) for seed in seeds} == {16}


@pytest.mark.parametrize(("job_id", "hashed"), [(-1, HASH), (1 << 64, HASH), (1, HASH[:31])])
def test_seed_cannot_be_derived_when_an_input_is_out_of_bounds(job_id: int, hashed: bytes) -> None:
    with pytest.raises(MalformedError):
        job_seed(DOMAIN, job_id, hashed)
    with pytest.raises(MalformedError):
        request_seed(SESSION, job_id, hashed)
