"""Frames and the handshake, against an implementation of the client's side."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.sandbox.liteserver.channel import FRAME_OVERHEAD, MAX_FRAME_BYTES, Channel
from cocoon_sdk.sandbox.liteserver.errors import WireError
from cocoon_sdk.sandbox.liteserver.keys import DEFAULT_SEED, ServerKey
from tests.unit.sandbox.liteserver.wire import ctr, frame, handshake

LIMIT = 1 << 16


class Client:
    def __init__(self) -> None:
        self.secret = os.urandom(160)
        self.channel = Channel(self.secret, LIMIT)
        self._outgoing = ctr(self.secret[32:64], self.secret[80:96])
        self._incoming = ctr(self.secret[:32], self.secret[64:80])

    def encrypt(self, plain: bytes) -> bytes:
        return bytes(self._outgoing.encrypt(plain))

    def decrypt(self, sealed: bytes) -> bytes:
        return bytes(self._incoming.decrypt(sealed))


@given(
    st.lists(st.binary(max_size=300), max_size=8),
    st.lists(st.integers(min_value=1, max_value=200), min_size=1, max_size=20),
)
def test_server_can_read_packets_when_they_arrive_in_any_pieces(
    payloads: list[bytes], sizes: list[int]
) -> None:
    client = Client()
    stream = client.encrypt(b"".join(frame(payload) for payload in payloads))
    found, at, turn = [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        client.channel.push(stream[at : at + size])
        at, turn = at + size, turn + 1
        while (payload := client.channel.pop()) is not None:
            found.append(payload)
    assert found == payloads
    assert client.channel.buffered == 0


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_client_can_read_what_the_server_seals(payloads: list[bytes]) -> None:
    client = Client()
    for payload in payloads:
        plain = client.decrypt(client.channel.seal(payload))
        assert int.from_bytes(plain[:4], "little") == len(payload) + FRAME_OVERHEAD == len(plain) - 4
        assert plain[36:-32] == payload


@pytest.mark.parametrize("length", [0, 63, LIMIT + 1, 0xFFFF_FFFF])
def test_server_cannot_be_told_a_length_out_of_bounds(length: int) -> None:
    client = Client()
    client.channel.push(client.encrypt(length.to_bytes(4, "little")))
    with pytest.raises(WireError, match="announces"):
        client.channel.pop()


def test_server_cannot_be_given_a_packet_that_was_altered() -> None:
    client = Client()
    sealed = bytearray(client.encrypt(frame(b"hello")))
    sealed[40] ^= 1
    client.channel.push(bytes(sealed))
    with pytest.raises(WireError, match="checksum"):
        client.channel.pop()


def test_server_cannot_send_a_packet_above_what_clients_take() -> None:
    with pytest.raises(WireError, match="at most"):
        Client().channel.seal(bytes(MAX_FRAME_BYTES))


def test_server_can_open_a_handshake_for_its_key() -> None:
    key, secret = ServerKey(), os.urandom(160)
    assert key.open(handshake(key.public, secret)) == secret


def test_server_cannot_open_a_handshake_for_another_key() -> None:
    packet = handshake(ServerKey(bytes(32)).public, os.urandom(160))
    with pytest.raises(WireError, match="another key"):
        ServerKey(DEFAULT_SEED).open(packet)


@given(st.integers(min_value=32, max_value=255), st.integers(min_value=1, max_value=255))
def test_server_cannot_open_a_handshake_when_any_byte_was_altered(position: int, change: int) -> None:
    key, secret = ServerKey(), os.urandom(160)
    packet = bytearray(handshake(key.public, secret))
    packet[position] ^= change
    try:
        assert key.open(bytes(packet)) == secret  # the sign bit of the key's x does not matter on the curve
        assert (position, change) == (63, 0x80)
    except WireError:
        pass


def test_server_key_cannot_be_made_from_a_seed_of_another_size() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        ServerKey(b"short")
