"""Rate limits of an arbiter's endpoint."""

from __future__ import annotations

import pytest

from cocoon_sdk.arbiter.limits import MAX_ADDRESSES, RateLimiter, origin


def test_address_can_ask_again_when_its_bucket_refills() -> None:
    now = 0.0
    limiter = RateLimiter(6, lambda: now)
    assert [limiter.allows("a") for _ in range(7)] == [True] * 6 + [False]
    assert limiter.allows("b", 6)
    assert not limiter.allows("b", 1)
    now = 10.0
    assert limiter.allows("a")
    assert not limiter.allows("a")
    now = 1e6
    assert not limiter.allows("a", 7)
    assert limiter.allows("a", 6)


def test_strangers_cannot_fill_the_memory() -> None:
    limiter = RateLimiter(1, lambda: 0.0)
    for number in range(MAX_ADDRESSES + 10):
        assert limiter.allows(str(number))
    assert len(limiter._buckets) == MAX_ADDRESSES


@pytest.mark.parametrize(
    ("remote", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::7", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
        (None, ""),
    ],
)
def test_host_cannot_be_many_with_the_addresses_of_its_network(remote: str | None, counted: str) -> None:
    assert origin(remote) == counted
