"""The frames of a session: read exactly as they are, or refused with a named error, whatever comes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cocoon_sdk.crypto.channel import MAX_CHANNEL_MESSAGE_BYTES
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol import session_wire as wire
from cocoon_sdk.types import Nano

pack = msgspec.msgpack.encode

amounts, counts = st.integers(0, (1 << 53) - 1), st.integers(0, 1 << 40)
rids = st.integers(1, (1 << 53) - 1)
hashes, signatures = st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64)
bodies, texts = st.binary(max_size=100), st.text(max_size=wire.MAX_TEXT)
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789._-", min_size=1, max_size=64)
cached = counts.flatmap(lambda total: st.tuples(st.just(total), st.integers(0, total)))

hellos = st.builds(
    wire.Hello,
    hashes,
    st.integers(1, 0xFFFF_FFFF),
    signatures,
    st.just(0),
    st.just(b""),
    amounts,
) | st.builds(
    wire.Hello, hashes, st.integers(1, 0xFFFF_FFFF), signatures, amounts.filter(bool), signatures, amounts
)
client_frames = (
    hellos
    | st.builds(wire.Ask, rids, names, hashes, st.booleans(), bodies)
    | st.builds(wire.Pay, amounts, signatures)
    | st.builds(wire.Cancel, rids)
    | st.builds(wire.Prove, rids)
)
deltas = st.builds(
    lambda rid, both, output, piece, data: wire.Delta(rid, both[0], both[1], output, piece, data),
    rids,
    cached,
    counts,
    st.booleans(),
    bodies,
)
dones = st.builds(
    lambda rid, both, *rest: wire.Done(rid, *both, *rest),
    rids,
    cached,
    counts,
    amounts,
    amounts,
    hashes,
    signatures,
    st.booleans(),
)
worker_frames = (
    st.builds(wire.Welcome, amounts, amounts, rids, amounts)
    | deltas
    | dones
    | st.builds(wire.Due, amounts)
    | st.builds(wire.Failed, rids | st.just(0), names, texts, amounts, st.none() | st.integers(0, 86_400))
    | st.builds(wire.Leaving, texts)
    | st.builds(wire.Proof, rids, bodies)
)

CANCEL = [4, 1]
EXAMPLES: list[tuple[wire.ClientFrame | wire.WorkerFrame, list[object]]] = [
    (wire.Hello(b"\1" * 32, 7, b"\2" * 64, 0, b"", 0), [1, b"\1" * 32, 7, b"\2" * 64, 0, b"", 0]),
    (
        wire.Ask(3, "chat.completion", b"\1" * 32, True, b"{}"),
        [2, 3, "chat.completion", b"\1" * 32, True, b"{}"],
    ),
    (wire.Pay(5, b"\2" * 64), [3, 5, b"\2" * 64]),
    (wire.Cancel(3), [4, 3]),
    (wire.Prove(3), [5, 3]),
    (wire.Welcome(5, 4, 3, 2), [16, 5, 4, 3, 2]),
    (wire.Delta(3, 9, 8, 7, True, b"{}"), [17, 3, 9, 8, 7, True, b"{}"]),
    (
        wire.Done(3, 9, 8, 7, 6, 5, b"\1" * 32, b"\2" * 64, False),
        [18, 3, 9, 8, 7, 6, 5, b"\1" * 32, b"\2" * 64, False],
    ),
    (wire.Due(5), [19, 5]),
    (wire.Failed(0, "replaced", "why", 0, None), [20, 0, "replaced", "why", 0, None]),
    (wire.Leaving("why"), [21, "why"]),
    (wire.Proof(3, b"{}"), [22, 3, b"{}"]),
]


def read(message: bytes) -> list[wire.ClientFrame] | list[wire.WorkerFrame]:
    try:
        return wire.read_client_frames(message)
    except MalformedError:
        return wire.read_worker_frames(message)


# -- what is right -----------------------------------------------------------------------------------------


@given(st.lists(client_frames, max_size=8))
def test_worker_can_read_what_a_client_wrote(frames: list[wire.ClientFrame]) -> None:
    assert wire.read_client_frames(wire.encode_frames(frames)) == frames


@given(st.lists(worker_frames, max_size=8))
def test_client_can_read_what_a_worker_wrote(frames: list[wire.WorkerFrame]) -> None:
    assert wire.read_worker_frames(wire.encode_frames(frames)) == frames


@pytest.mark.parametrize(("frame", "plain"), EXAMPLES, ids=lambda each: type(each).__name__)
def test_frames_keep_their_bytes(frame: wire.ClientFrame | wire.WorkerFrame, plain: list[object]) -> None:
    assert wire.encode_frames([frame]) == pack([plain])
    assert read(pack([plain])) == [frame]


def test_frames_can_carry_amounts_of_money_as_they_are() -> None:
    frames: list[wire.WorkerFrame] = [wire.Due(Nano(5)), wire.Welcome(Nano(4), Nano(3), 2, Nano(1))]
    assert wire.encode_frames(frames) == pack([[19, 5], [16, 4, 3, 2, 1]])


def test_message_can_carry_the_largest_body() -> None:
    frames = [wire.Ask(1, "completion", bytes(32), True, bytes(wire.MAX_BODY_BYTES))]
    message = wire.encode_frames(frames)
    assert wire.read_client_frames(message) == frames
    assert len(message) < MAX_CHANNEL_MESSAGE_BYTES


# -- what is wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frame", "plain"), EXAMPLES, ids=lambda each: type(each).__name__)
def test_frame_cannot_be_read_when_a_field_is_missing_or_too_many(
    frame: wire.ClientFrame | wire.WorkerFrame, plain: list[object]
) -> None:
    for wrong in (plain[:-1], [*plain, 0], [*plain, None], [*plain, []], [plain[0]], []):
        with pytest.raises(MalformedError):
            read(pack([wrong]))


@pytest.mark.parametrize(("frame", "plain"), EXAMPLES, ids=lambda each: type(each).__name__)
def test_frame_cannot_be_read_when_a_field_has_another_type(
    frame: wire.ClientFrame | wire.WorkerFrame, plain: list[object]
) -> None:
    strange: list[object] = [None, 1.0, 1, "1", b"1", [], {}, True, msgspec.msgpack.Ext(1, b"")]
    for place, right in enumerate(plain):
        # The one field that may be missing is a number otherwise.
        kinds = {int, type(None)} if right is None else {type(right)}
        for value in strange:
            if type(value) not in kinds:
                with pytest.raises(MalformedError):
                    read(pack([[*plain[:place], value, *plain[place + 1 :]]]))


@pytest.mark.parametrize(
    "frame",
    [
        [1, bytes(31), 7, bytes(64), 0, b"", 0],
        [1, bytes(32), 0, bytes(64), 0, b"", 0],
        [1, bytes(32), 1 << 32, bytes(64), 0, b"", 0],
        [1, bytes(32), 7, bytes(63), 0, b"", 0],
        [1, bytes(32), 7, bytes(64), 5, b"", 0],
        [1, bytes(32), 7, bytes(64), 5, bytes(63), 0],
        [1, bytes(32), 7, bytes(64), 0, bytes(64), 0],
        [2, 0, "completion", bytes(32), True, b""],
        [2, 1 << 53, "completion", bytes(32), True, b""],
        [2, 1, "", bytes(32), True, b""],
        [2, 1, "x" * 65, bytes(32), True, b""],
        [2, 1, "chät", bytes(32), True, b""],
        [2, 1, "chat\n", bytes(32), True, b""],
        [2, 1, "Chat", bytes(32), True, b""],
        [2, 1, "completion", bytes(32), True, bytes(wire.MAX_BODY_BYTES + 1)],
        [3, 1 << 53, bytes(64)],
        [3, 1, bytes(65)],
        [17, 1, 5, 6, 0, True, b""],
        [17, 1, (1 << 40) + 1, 0, 0, True, b""],
        [17, 1, 0, 0, 0, True, bytes(wire.MAX_BODY_BYTES + 1)],
        [18, 1, 5, 6, 0, 0, 0, bytes(32), bytes(64), False],
        [20, 0, "x\x1b[31m", "", 0, None],
        [20, 0, "busy", "x" * (wire.MAX_TEXT + 1), 0, None],
        [20, 0, "busy", "", 0, 86_401],
        [21, "x" * (wire.MAX_TEXT + 1)],
        [0],
        [5, 0],
        [6, 1],
        [22, 1],
        [22, 0, b""],
        [23, 1],
        [-1, 1],
        [(1 << 64) - 1, 1],
        ["Cancel", 1],
        [4.0, 1],
        [None, 1],
    ],
    ids=lambda frame: repr(frame)[:30],
)
def test_frame_cannot_be_read_when_it_is_out_of_bounds(frame: list[object]) -> None:
    with pytest.raises(MalformedError):
        read(pack([frame]))


@pytest.mark.parametrize(
    "message",
    {
        "nothing": b"",
        "no list": pack({1: 2}),
        "a bare frame": pack(CANCEL),
        "a frame as a map": pack([{"type": 4, "rid": 1}]),
        "bytes behind": pack([CANCEL]) + b"\xc0",
        "two messages": pack([CANCEL]) * 2,
        "too many frames": pack([CANCEL] * (wire.MAX_FRAMES + 1)),
        "a count of 4 billion frames": b"\xdd\xff\xff\xff\xff" + pack(CANCEL),
        "a count of 4 billion fields": b"\x91\xdd\xff\xff\xff\xff\x04\x01",
        "4 billion bytes announced": b"\x91\x93\x03\x01\xc6\xff\xff\xff\xff",
        "4 billion characters announced": b"\x91\x92\x15\xdb\xff\xff\xff\xff",
        "lists in lists": b"\x91" * 1_000_000,
        "lists in lists in a field": b"\x91\x92\x04" + b"\x91" * 1_000_000,
        "lists in lists in place of the tag": b"\x91\x92" + b"\x91" * 1_000_000,
        "maps in maps": b"\x91\x92\x04" + b"\x81\xc0" * 500_000,
        "text that is not UTF-8": b"\x91\x92\x15\xa2\xff\xfe",
        "a half of a surrogate": b"\x91\x92\x15\xa3\xed\xa0\x80",
        "a word that is not UTF-8": b"\x91\x96\x02\x01\xa1\xff" + pack(bytes(32)) + b"\xc3\xc4\x00",
        "a time": b"\x91\x92\x04\xd6\xff\x00\x00\x00\x00",
        "a reserved byte": b"\x91\x92\x04\xc1",
    }.values(),
    ids=lambda message: repr(message[:12]),
)
def test_message_cannot_be_read_when_its_form_is_wrong(message: bytes) -> None:
    for reader in (wire.read_client_frames, wire.read_worker_frames):
        with pytest.raises(MalformedError, match="cannot read the message"):
            reader(message)


def test_neither_side_can_read_what_only_the_other_may_send() -> None:
    for frame, _ in EXAMPLES:
        by_client = isinstance(frame, wire.Hello | wire.Ask | wire.Pay | wire.Cancel | wire.Prove)
        reader = wire.read_worker_frames if by_client else wire.read_client_frames
        with pytest.raises(MalformedError):
            reader(wire.encode_frames([frame]))


@given(st.binary(max_size=200))
def test_garbage_cannot_raise_anything_but_a_named_error(data: bytes) -> None:
    for reader in (wire.read_client_frames, wire.read_worker_frames):
        try:
            frames = reader(data)
        except MalformedError:
            continue
        # What could be read is a message: it can be written again.
        assert reader(wire.encode_frames(frames)) == frames


@settings(max_examples=300)
@given(
    st.lists(client_frames, min_size=1, max_size=3) | st.lists(worker_frames, min_size=1, max_size=3),
    st.data(),
)
def test_altered_messages_cannot_raise_anything_but_a_named_error(
    frames: list[wire.ClientFrame] | list[wire.WorkerFrame], data: st.DataObject
) -> None:
    message = bytearray(wire.encode_frames(frames))
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(message)))
    for reader in (wire.read_client_frames, wire.read_worker_frames):
        for each in (bytes(message), bytes(message[:cut])):
            try:
                assert reader(wire.encode_frames(reader(each))) == reader(each)
            except MalformedError:
                continue


def test_errors_never_show_what_a_message_said() -> None:
    for message in (
        pack([[2, 1, "completion", bytes(32), "secret", b"secret"]]),
        pack([[21, "secret" * 200]]),
    ):
        for reader in (wire.read_client_frames, wire.read_worker_frames):
            with pytest.raises(MalformedError) as caught:
                reader(message)
            assert "secret" not in str(caught.value)


def test_failure_codes_are_words_that_a_frame_can_carry() -> None:
    codes = [value for name, value in vars(wire.FailureCode).items() if name.isupper()]
    assert len(set(codes)) == len(codes) == 11
    for code in codes:
        frames = [wire.Failed(0, code, "", 0, None)]
        assert wire.read_worker_frames(wire.encode_frames(frames)) == frames
