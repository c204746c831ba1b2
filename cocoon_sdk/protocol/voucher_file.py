"""A voucher in a file: what a worker hands to a watchtower, or to anybody who shall redeem for it.

Owns the form (JSON, one voucher) and its check. Must not know files, chains or who redeems. Nothing in it is
secret: whoever has it can only have the session's own worker paid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.errors import HashMismatchError, KeyMaterialError, MalformedError
from cocoon_sdk.protocol.canonical import canonical_bytes, parse_json
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.protocol.vouchers import MAX_VOUCHER, SessionRef, Voucher
from cocoon_sdk.types import Nano

MAX_FILE_BYTES: Final = 4096
SUFFIX: Final = ".voucher.json"
_FORM: Final = "cocoon-voucher-v1"
_PART: Final = "claim"
"""Stands there only when less than the voucher is claimed."""
_FIELDS: Final = frozenset(
    {"form", "global_id", "escrow", "epoch", "session_id", "worker", "voucher_key", "amount", "signature"}
)


@dataclass(frozen=True, slots=True)
class SavedVoucher:
    """The best voucher of a session, with all that is needed to check and redeem it.

    `part` is what its worker claims of it (nanoTON, cumulative), None for all: what was signed ahead and not
    earned is given up.
    """

    session: SessionRef
    voucher_key: VerifyKey
    voucher: Voucher
    part: Nano | None = None

    @property
    def claim(self) -> Nano:
        """What is claimed of the voucher."""
        return self.voucher.amount if self.part is None else min(self.part, self.voucher.amount)

    @property
    def forgo(self) -> Nano:
        """What is given up of it."""
        return Nano(self.voucher.amount - self.claim)

    @property
    def escrow(self) -> Address:
        """The account that pays."""
        return self.session.domain.contract

    @property
    def name(self) -> str:
        """The name of its file: the same for every voucher of one session."""
        return f"{self.escrow.hash_part.hex()}-{self.session.session_id}{SUFFIX}"

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        part = {_PART: int(self.claim)} if self.forgo else {}
        return canonical_bytes(
            {
                **part,
                "form": _FORM,
                "global_id": self.session.domain.global_id,
                "escrow": self.escrow.to_str(is_user_friendly=False),
                "epoch": self.session.domain.epoch,
                "session_id": self.session.session_id,
                "worker": self.session.worker.to_str(is_user_friendly=False),
                "voucher_key": self.voucher_key.hex,
                "amount": int(self.voucher.amount),
                "signature": self.voucher.signature.hex(),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> SavedVoucher:
        """Read a file's content and check the signature.

        Raises `MalformedError` for another form, `HashMismatchError` for a voucher that its key did not sign.
        """
        found = parse_json(data, max_bytes=MAX_FILE_BYTES)
        known = isinstance(found, dict) and found.get("form") == _FORM
        if not isinstance(found, dict) or not known or found.keys() - {_PART} != _FIELDS:
            raise MalformedError("cannot read the voucher", why=f"it is not of the form {_FORM}")
        try:
            domain = Domain(
                _number(found["global_id"], -(1 << 31), (1 << 31) - 1),
                _account(found["escrow"]),
                _number(found["epoch"], 0, 0xFFFF_FFFF),
            )
            session = SessionRef(
                domain, _number(found["session_id"], 1, 0xFFFF_FFFF), _account(found["worker"])
            )
            voucher = Voucher(Nano(_number(found["amount"], 1, MAX_VOUCHER)), _bytes(found["signature"], 64))
            part = Nano(_number(found[_PART], 0, int(voucher.amount))) if _PART in found else None
            saved = cls(session, VerifyKey(_bytes(found["voucher_key"], 32)), voucher, part)
        except (ValueError, KeyMaterialError) as error:
            raise MalformedError("cannot read the voucher", why=str(error)) from None
        if not voucher.verified_by(saved.voucher_key, session):
            raise HashMismatchError(
                "cannot use the voucher",
                why="its key did not sign this amount for this session",
                hint="Export it again from the worker",
            )
        return saved


def _number(value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError("a number is missing or out of bounds")
    return value


def _bytes(value: object, length: int) -> bytes:
    if not isinstance(value, str) or len(value) != 2 * length:
        raise ValueError("a key or signature has another length")
    return bytes.fromhex(value)


def _account(value: object) -> Address:
    if not isinstance(value, str) or len(value) != 66 or not value.startswith("0:"):
        raise ValueError("an account is not of the form 0:<64 digits>")
    return Address((0, bytes.fromhex(value[2:])))
