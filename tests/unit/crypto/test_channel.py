"""The encrypted channel: only the worker of the chain can answer; nothing can be altered or replayed."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings as sodium

from cocoon_sdk.crypto import BoxKey, SigningKey
from cocoon_sdk.crypto.channel import (
    CHANNEL_OVERHEAD_BYTES,
    CHANNEL_VERSION,
    MAX_CHANNEL_MESSAGE_BYTES,
    Channel,
    ClientHandshake,
    HandshakeError,
    WorkerHandshake,
    WorkerName,
    client_proof,
)
from cocoon_sdk.errors import CocoonError, DecryptionError, MalformedError

WORKER = WorkerName(-239, b"\x0a" * 32)
OPERATOR, OTHER = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)
CLIENT_EPHEMERAL, WORKER_EPHEMERAL = BoxKey(b"\x03" * 32), BoxKey(b"\x04" * 32)
HEADER = 24

# Every encoding of a point of low order on Curve25519, non-canonical ones included.
LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]
LOW_ORDER += [raw[:31] + bytes([raw[31] | 0x80]) for raw in LOW_ORDER]


def shake(worker: WorkerName = WORKER) -> tuple[Channel, WorkerHandshake]:
    client = ClientHandshake(worker)
    theirs = WorkerHandshake(client.hello, worker, OPERATOR)
    return client.finish(theirs.reply, OPERATOR.verify_key), theirs


def joined() -> tuple[Channel, Channel]:
    client, worker = shake()
    assert worker.open_first(client.seal(b"first")) == b"first"
    return client, worker.channel


# -- handshake ---------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=300)), max_size=20))
def test_both_sides_can_talk_in_any_order(messages: list[tuple[bool, bytes]]) -> None:
    client, worker = joined()
    assert client.binding == worker.binding
    for from_client, text in messages:
        sender, receiver = (client, worker) if from_client else (worker, client)
        sealed = sender.seal(text)
        assert len(sealed) == len(text) + CHANNEL_OVERHEAD_BYTES
        assert receiver.open(sealed) == text


def test_worker_can_speak_before_the_client_does() -> None:
    client, worker = shake()
    assert client.open(worker.channel.seal(b"early")) == b"early"


def test_handshake_keeps_its_bytes() -> None:
    # Another implementation computes the same from docs/sessions.md.
    client = ClientHandshake(WORKER, ephemeral=CLIENT_EPHEMERAL)
    worker = WorkerHandshake(client.hello, WORKER, OPERATOR, ephemeral=WORKER_EPHEMERAL)
    public = CLIENT_EPHEMERAL.public_key.raw, WORKER_EPHEMERAL.public_key.raw
    assert client.hello == b"\x01" + public[0]
    transcript = (
        b"cocoon.v1.channel\x01" + (-239).to_bytes(4, "big", signed=True) + b"\x0a" * 32 + b"".join(public)
    )
    binding = hashlib.sha256(transcript).digest()
    assert binding == worker.channel.binding
    assert worker.reply[:33] == b"\x01" + public[1]
    assert len(worker.reply) == 1 + 32 + HEADER + 64
    assert OPERATOR.verify_key.verify(b"cocoon.v1.channel.worker" + binding, worker.reply[-64:])
    shared = sodium.crypto_scalarmult(CLIENT_EPHEMERAL.reveal(), public[1])
    keys = hashlib.blake2b(shared + binding, digest_size=64, person=b"cocoon.channel.1").digest()
    state = sodium.crypto_secretstream_xchacha20poly1305_state()
    sealed = worker.channel.seal(b"text")
    sodium.crypto_secretstream_xchacha20poly1305_init_pull(state, worker.reply[33:57], keys[32:])
    assert sodium.crypto_secretstream_xchacha20poly1305_pull(state, sealed) == (b"text", 0)
    assert client_proof(binding, b"x") == b"cocoon.v1.channel.client" + binding + b"x"


def test_client_cannot_be_answered_by_another_key() -> None:
    client = ClientHandshake(WORKER)
    reply = WorkerHandshake(client.hello, WORKER, OTHER).reply
    with pytest.raises(HandshakeError, match="not signed by the worker's operator key"):
        client.finish(reply, OPERATOR.verify_key)


@pytest.mark.parametrize(
    "other", [WorkerName(-239, b"\x0b" * 32), WorkerName(-3, b"\x0a" * 32), WorkerName(239, b"\x0a" * 32)]
)
def test_client_cannot_be_answered_in_the_name_of_another_worker(other: WorkerName) -> None:
    # The same operator key on another stake or network: the client must not think it talks to this one.
    client = ClientHandshake(WORKER)
    reply = WorkerHandshake(client.hello, other, OPERATOR).reply
    with pytest.raises(HandshakeError):
        client.finish(reply, OPERATOR.verify_key)


def test_client_cannot_be_answered_with_an_answer_to_somebody_else() -> None:
    reply = WorkerHandshake(ClientHandshake(WORKER).hello, WORKER, OPERATOR).reply
    with pytest.raises(HandshakeError):
        ClientHandshake(WORKER).finish(reply, OPERATOR.verify_key)


def test_stranger_cannot_use_the_answer_to_a_hello_that_was_played_again() -> None:
    client = ClientHandshake(WORKER)
    first, second = (WorkerHandshake(client.hello, WORKER, OPERATOR) for _ in range(2))
    message = client.finish(first.reply, OPERATOR.verify_key).seal(b"pay")
    assert first.channel.binding != second.channel.binding
    with pytest.raises(DecryptionError):
        second.open_first(message)


def test_proof_counts_in_one_channel_only() -> None:
    (one, _), (two, _) = joined(), joined()
    proof = OTHER.sign(client_proof(one.binding, b"session"))
    assert OTHER.verify_key.verify(client_proof(one.binding, b"session"), proof)
    assert not OTHER.verify_key.verify(client_proof(two.binding, b"session"), proof)
    assert not OTHER.verify_key.verify(client_proof(one.binding, b"sessiom"), proof)


def test_roles_cannot_be_swapped() -> None:
    # What a worker signs is no client's proof, and a hello is no answer.
    handshake = WorkerHandshake(ClientHandshake(WORKER).hello, WORKER, OPERATOR)
    assert not OPERATOR.verify_key.verify(client_proof(handshake.channel.binding, b""), handshake.reply[-64:])
    client = ClientHandshake(WORKER)
    with pytest.raises(HandshakeError):
        client.finish(client.hello, OPERATOR.verify_key)


@pytest.mark.parametrize("version", [0, 2, 255])
def test_versions_cannot_be_confused(version: int) -> None:
    client = ClientHandshake(WORKER)
    with pytest.raises(HandshakeError, match="another version"):
        WorkerHandshake(bytes([version]) + client.hello[1:], WORKER, OPERATOR)
    reply = WorkerHandshake(client.hello, WORKER, OPERATOR).reply
    with pytest.raises(HandshakeError, match="another version"):
        client.finish(bytes([version]) + reply[1:], OPERATOR.verify_key)


@pytest.mark.parametrize("raw", LOW_ORDER, ids=lambda raw: raw.hex()[:8] + raw.hex()[-2:])
def test_neither_side_takes_a_key_of_low_order(raw: bytes) -> None:
    with pytest.raises(HandshakeError, match="unusable"):
        WorkerHandshake(bytes([CHANNEL_VERSION]) + raw, WORKER, OPERATOR)
    client = ClientHandshake(WORKER)
    reply = WorkerHandshake(client.hello, WORKER, OPERATOR).reply
    with pytest.raises(HandshakeError, match="unusable"):
        client.finish(reply[:1] + raw + reply[33:], OPERATOR.verify_key)


@settings(max_examples=200)
@given(st.data())
def test_client_cannot_be_fooled_by_one_bit_of_the_answer(data: st.DataObject) -> None:
    client = ClientHandshake(WORKER)
    worker = WorkerHandshake(client.hello, WORKER, OPERATOR)
    reply = bytearray(worker.reply)
    bit = data.draw(st.integers(0, 8 * len(reply) - 1))
    reply[bit // 8] ^= 1 << bit % 8
    try:
        channel = client.finish(bytes(reply), OPERATOR.verify_key)
    except HandshakeError:
        return
    # Only the stream header is not signed: then nothing opens.
    assert 33 <= bit // 8 < 33 + HEADER
    with pytest.raises(DecryptionError):
        channel.open(worker.channel.seal(b"text"))


@given(st.binary(max_size=200))
def test_garbage_cannot_raise_anything_but_named_errors(data: bytes) -> None:
    client = ClientHandshake(WORKER)
    worker = WorkerHandshake(client.hello, WORKER, OPERATOR)
    with pytest.raises(HandshakeError):
        client.finish(data, OPERATOR.verify_key)
    with pytest.raises(DecryptionError):
        worker.open_first(data)
    try:
        WorkerHandshake(data, WORKER, OPERATOR)
    except CocoonError:
        assert len(data) != 33 or data[0] != CHANNEL_VERSION or data[1:] in LOW_ORDER


@pytest.mark.parametrize(("network", "account"), [(1 << 31, bytes(32)), (0, bytes(31)), (0, bytes(33))])
def test_worker_cannot_be_named_out_of_bounds(network: int, account: bytes) -> None:
    with pytest.raises(MalformedError):
        WorkerName(network, account)


# -- messages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["repeated", "lost", "reflected", "cut", "longer", "of another"])
def test_message_cannot_be_opened_when_it_was(what: str) -> None:
    client, worker = joined()
    one, two = client.seal(b"one"), client.seal(b"two")
    if what == "repeated":
        worker.open(one)
    bad = {
        "repeated": one,
        "lost": two,
        "reflected": worker.seal(b"mine"),
        "cut": one[:-1],
        "longer": one + b"\0",
        "of another": joined()[0].seal(b"one"),
    }[what]
    with pytest.raises(DecryptionError):
        worker.open(bad)
    # That was the end, also for what comes in its right place: nothing in between can be skipped over.
    with pytest.raises(DecryptionError, match="ended"):
        worker.open(two if what == "repeated" else one)


@given(st.binary(max_size=60), st.data())
def test_message_cannot_be_opened_when_one_bit_differs(text: bytes, data: st.DataObject) -> None:
    client, worker = joined()
    sealed = bytearray(client.seal(text))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DecryptionError):
        worker.open(bytes(sealed))


def test_first_message_cannot_be_played_twice() -> None:
    client, worker = shake()
    first = client.seal(b"first")
    assert worker.open_first(first) == b"first"
    with pytest.raises(DecryptionError, match="not the first"):
        worker.open_first(first)
    assert worker.channel.open(client.seal(b"second")) == b"second"


def test_worker_cannot_open_anything_before_the_first_message() -> None:
    # Without a key of its own the stream would take messages under the zero key, which everybody can make.
    _, worker = shake()
    state = sodium.crypto_secretstream_xchacha20poly1305_state()
    sodium.crypto_secretstream_xchacha20poly1305_init_push(state, bytes(32))
    forged = sodium.crypto_secretstream_xchacha20poly1305_push(state, b"forged")
    for message in (forged, bytes(CHANNEL_OVERHEAD_BYTES)):
        with pytest.raises(DecryptionError, match="not open"):
            worker.channel.open(message)


def test_message_cannot_carry_another_tag() -> None:
    client, worker = joined()
    final = sodium.crypto_secretstream_xchacha20poly1305_TAG_FINAL
    sealed = sodium.crypto_secretstream_xchacha20poly1305_push(client._push, b"text", None, final)
    with pytest.raises(DecryptionError, match="tag"):
        worker.open(sealed)


def test_message_can_be_as_large_as_the_bound_and_no_larger() -> None:
    client, worker = joined()
    largest = bytes(MAX_CHANNEL_MESSAGE_BYTES)
    assert worker.open(client.seal(largest)) == largest
    with pytest.raises(MalformedError, match="exceed"):
        client.seal(largest + b"\0")
    with pytest.raises(DecryptionError, match="out of bounds"):
        worker.open(largest + bytes(CHANNEL_OVERHEAD_BYTES + 1))


def test_recorded_traffic_stays_sealed_for_who_learns_the_signing_keys() -> None:
    # Everything an observer sees, with the operator's secret, gives no second channel to the same keys.
    client = ClientHandshake(WORKER)
    worker = WorkerHandshake(client.hello, WORKER, OPERATOR)
    message = client.finish(worker.reply, OPERATOR.verify_key).seal(b"prompt")
    thief = WorkerHandshake(client.hello, WORKER, OPERATOR)
    with pytest.raises(DecryptionError):
        thief.open_first(message)


def test_channel_never_shows_its_keys() -> None:
    client, worker = joined()
    assert repr(client) == repr(worker) == f"Channel(binding={client.binding.hex()[:16]})"
