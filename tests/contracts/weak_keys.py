"""Ed25519 public keys under which anybody can sign: points of small order, in every encoding."""

P = 2**255 - 19
_ORDER_8 = (
    0x26E8958FC2B227B045C3F489F2EF98F0D5DFAC05D3C63339B13802886D53FC05,
    0xC7176A703D4DD84FBA3C0B760D10670F2A2053FA2C39CCC64EC7FD7792AC037A,
)


def _encode(y: int, sign: int) -> int:
    """An encoded point read as TVM reads it: the bytes are little-endian, the integer is big-endian."""
    return int.from_bytes((y | sign << 255).to_bytes(32, "little"), "big")


WEAK_KEYS = sorted(
    {_encode(y, sign) for y in (0, 1, P - 1, P, P + 1) for sign in (0, 1)}
    | {key | sign << 7 for key in _ORDER_8 for sign in (0, 1)}
)
