"""Data cells and locations: strict on parse, with only the schemes that are enabled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core import Cell

from cocoon_sdk.data import (
    MAX_INLINE_BYTES,
    REMOTE_SCHEMES,
    InlineData,
    Location,
    LocationRefusedError,
    bytes_to_chain,
    decode_data,
    encode_data,
)
from cocoon_sdk.errors import CocoonError, HashMismatchError, MalformedError
from cocoon_sdk.types import Hash

URL = "https://worker.example:8443/results/17?sig=a%2Bb"
paths = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\\#@"), max_size=900
)


@given(st.binary(max_size=MAX_INLINE_BYTES))
def test_inline_content_survives_the_cell(content: bytes) -> None:
    assert decode_data(encode_data(InlineData(content))) == InlineData(content)


@given(
    st.sampled_from(sorted(REMOTE_SCHEMES)),
    paths,
    st.binary(min_size=32, max_size=32),
    st.integers(0, 1 << 40),
)
def test_location_survives_the_cell(scheme: str, path: str, digest: bytes, length: int) -> None:
    location = Location(f"{scheme}://host/{path}", Hash(digest), length)
    assert decode_data(Cell.one_from_boc(encode_data(location).to_boc())) == location
    assert location.scheme == scheme


def test_inline_content_is_not_shown_when_printed() -> None:
    assert "secret" not in repr(InlineData(b"secret"))


def test_sender_cannot_put_more_than_the_limit_inline() -> None:
    with pytest.raises(MalformedError, match="location"):
        encode_data(InlineData(bytes(MAX_INLINE_BYTES + 1)))


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x00", b"\x01"]))
def test_garbage_raises_named_errors_only(data: bytes, tag: bytes) -> None:
    cell = bytes_to_chain(tag + data)
    try:
        decoded = decode_data(cell)
    except CocoonError:
        return
    assert encode_data(decoded).hash == cell.hash


@given(st.data())
def test_altered_or_cut_location_raises_or_differs(data: st.DataObject) -> None:
    location = Location.of(URL, b"content")
    good = b"\x01" + location.sha256 + location.length.to_bytes(8, "big") + URL.encode()
    bit = data.draw(st.integers(0, 8 * len(good) - 1))
    flipped = bytearray(good)
    flipped[bit // 8] ^= 1 << bit % 8
    for wrong in (bytes(flipped), good[: data.draw(st.integers(0, len(good) - 1))]):
        try:
            assert decode_data(bytes_to_chain(wrong)) != location
        except CocoonError:
            continue


@pytest.mark.parametrize(
    "url",
    [
        "",
        "worker.example/x",
        "https:/worker.example",
        "https://",
        "https:///path",
        "https://user@worker.example/",
        "https://user:word@worker.example/",
        "https://worker.example/#fragment",
        "https://worker.example/a b",
        "https://worker.example/a\nb",
        "https://worker.example\\@evil.example/",
        "https://[::1/",
        "https://worker.example:port/",
        "https://worker.example:70000/",
        "https://wörker.example/",
        "HTTPS://worker.example/",
        "https://worker.example/" + "a" * 1024,
        "averyveryverylongscheme://x",
    ],
)
def test_location_cannot_be_made_when_the_url_is_off(url: str) -> None:
    with pytest.raises(MalformedError):
        Location.of(url, b"")


@pytest.mark.parametrize(("digest", "length"), [(bytes(31), 1), (bytes(32), -1), (bytes(32), (1 << 40) + 1)])
def test_location_cannot_be_made_when_hash_or_length_is_off(digest: bytes, length: int) -> None:
    with pytest.raises(MalformedError):
        Location(URL, Hash(digest), length)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "data://x", "memory://x"])
def test_reader_cannot_accept_a_location_when_its_scheme_is_not_enabled(url: str) -> None:
    cell = encode_data(Location.of(url, b""))
    with pytest.raises(LocationRefusedError):
        decode_data(cell)
    assert decode_data(cell, schemes={url.partition(":")[0]}) == Location.of(url, b"")


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_content_is_accepted_only_when_it_is_what_was_promised(promised: bytes, given_: bytes) -> None:
    location = Location.of(URL, promised)
    assert location.check(promised) == promised
    if given_ != promised:
        with pytest.raises(HashMismatchError):
            location.check(given_)
