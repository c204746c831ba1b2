"""`HmLabel`: how an edge of a dictionary says which bits of the key it stands for.

Owns its three forms. Labels are strings of "0" and "1".
"""

from __future__ import annotations

from cocoon_sdk.errors import MalformedError


def write_label(label: str, length: int) -> str:
    """Return `HmLabel ~l length` in the one form that the network accepts: the shortest."""
    size = len(label)
    width = length.bit_length()
    if size > 1 and width < 2 * size - 1 and (label == "0" * size or label == "1" * size):
        return f"11{label[0]}{size:0{width}b}"
    if width < size:
        return f"10{size:0{width}b}{label}"
    return f"0{'1' * size}0{label}"


def read_label(bits: str, length: int) -> tuple[str, int]:
    """Read `HmLabel`; return it and the position after it. Raises `MalformedError`."""
    width = length.bit_length()
    if bits[:1] == "0":
        size = bits.index("0", 1) - 1
        position = size + 2
        label = bits[position : position + size]
        position += size
    elif bits[:2] == "10":
        size, position = int(bits[2 : 2 + width], 2), 2 + width
        label = bits[position : position + size]
        position += size
    else:
        size, position = int(bits[3 : 3 + width], 2), 3 + width
        label = bits[2:3] * size
    if size > length or len(label) != size:
        raise MalformedError("a dictionary cannot be read", why="the label of an edge is too long")
    return label, position


def common_length(one: str, other: str) -> int:
    """Return how many leading bits two different bit strings share."""
    size = min(len(one), len(other))
    return size - (int(one[:size], 2) ^ int(other[:size], 2)).bit_length()
