"""Contracts that others wrote, and one that does whatever a message says, with messages for them.

Owns codes, first data and bodies. Knows nothing of chains. The foreign codes come from installed packages
(pytoniq, tonutils' ton-core); the puppet's few instructions are spelled out here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nacl.signing import SigningKey
from pytoniq_core import Address, Builder, Cell, HashMap, begin_cell
from ton_core.contrib.contracts.codes import CONTRACT_CODES
from ton_core.contrib.contracts.versions import ContractVersion

from cocoon_sdk.sandbox import contract_address, external_message, internal_message, state_init

WALLET_ID = 698983191
FOREVER = 0xFFFF_FFFF
MAX_MESSAGES = 4
Version = Literal["v1r3", "v2r2", "v3r2", "v4r2", "v5r1", "highload_v2"]

_CODES: dict[Version, ContractVersion] = {
    "v1r3": ContractVersion.WalletV1R3,
    "v2r2": ContractVersion.WalletV2R2,
    "v3r2": ContractVersion.WalletV3R2,
    "v4r2": ContractVersion.WalletV4R2,
    "v5r1": ContractVersion.WalletV5R1,
    "highload_v2": ContractVersion.WalletHighloadV2,
}
_V5_EXTERNAL = 0x7369_676E
_SEND_ACTION = 0x0EC3_C86D
_RESERVE_ACTION = 0x36E6_B809
_CODE_ACTION = 0xAD4D_E08E
_LIBRARY_ACTION = 0x26FA_1DD4


def code(version: ContractVersion) -> Cell:
    """Return the code of a foreign contract."""
    return Cell.one_from_boc(CONTRACT_CODES[version])


@dataclass(frozen=True, slots=True)
class Transfer:
    """One message that a contract sends: its cell and send mode."""

    message: Cell
    mode: int


class Wallet:
    """A wallet of one of the usual versions, with a key of its own."""

    def __init__(self, version: Version, name: str) -> None:
        self.version = version
        self.key = SigningKey(hashlib.sha256(b"differential " + name.encode()).digest())
        self.init = state_init(code(_CODES[version]), self._data())
        self.address = contract_address(self.init)

    def _data(self) -> Cell:
        public = bytes(self.key.verify_key)
        data = begin_cell()
        match self.version:
            case "v1r3" | "v2r2":
                data.store_uint(0, 32).store_bytes(public)
            case "v3r2":
                data.store_uint(0, 32).store_uint(WALLET_ID, 32).store_bytes(public)
            case "v4r2":
                data.store_uint(0, 32).store_uint(WALLET_ID, 32).store_bytes(public).store_bit(0)
            case "v5r1":
                data.store_bit(1).store_uint(0, 32).store_uint(WALLET_ID, 32).store_bytes(public).store_bit(0)
            case "highload_v2":
                data.store_uint(WALLET_ID, 32).store_uint(0, 64).store_bytes(public).store_bit(0)
        return data.end_cell()

    def request(
        self, transfers: Sequence[Transfer], seqno: int, *, valid_until: int = FOREVER, forged: bool = False
    ) -> Cell:
        """Sign an external message; `forged` spoils the signature."""
        unsigned = self._unsigned(transfers, seqno, valid_until).end_cell()
        signature = self.key.sign(unsigned.hash).signature
        if forged:
            signature = bytes([signature[0] ^ 1]) + signature[1:]
        if self.version == "v5r1":
            body = begin_cell().store_cell(unsigned).store_bytes(signature).end_cell()
        else:
            body = begin_cell().store_bytes(signature).store_cell(unsigned).end_cell()
        return external_message(self.address, body)

    def _unsigned(self, transfers: Sequence[Transfer], seqno: int, valid_until: int) -> Builder:
        request = begin_cell()
        match self.version:
            case "v1r3":
                request.store_uint(seqno, 32)
                transfers = transfers[:1]
            case "v2r2":
                request.store_uint(seqno, 32).store_uint(valid_until, 32)
            case "v3r2":
                request.store_uint(WALLET_ID, 32).store_uint(valid_until, 32).store_uint(seqno, 32)
            case "v4r2":
                request.store_uint(WALLET_ID, 32).store_uint(valid_until, 32).store_uint(seqno, 32)
                request.store_uint(0, 8)
            case "v5r1":
                request.store_uint(_V5_EXTERNAL, 32).store_uint(WALLET_ID, 32)
                request.store_uint(valid_until, 32).store_uint(seqno, 32)
                actions = action_list([send_action(transfer) for transfer in transfers])
                return request.store_bit(1).store_ref(actions).store_bit(0)
            case "highload_v2":
                # The query id's upper half is when it expires; the rest tells requests apart.
                request.store_uint(WALLET_ID, 32).store_uint(valid_until, 32).store_uint(seqno, 32)
                return request.store_dict(_numbered(transfers))
        for transfer in transfers[:MAX_MESSAGES]:
            request.store_uint(transfer.mode, 8).store_ref(transfer.message)
        return request


def _numbered(transfers: Sequence[Transfer]) -> Cell | None:
    table = HashMap(16)
    for index, transfer in enumerate(transfers):
        table.set_int_key(
            index, begin_cell().store_uint(transfer.mode, 8).store_ref(transfer.message).end_cell()
        )
    root: Cell | None = table.serialize()
    return root


# -- actions ---------------------------------------------------------------------------------------------


def action_list(actions: Sequence[Cell]) -> Cell:
    """Chain actions as the register c5 holds them."""
    chain = begin_cell().end_cell()
    for action in actions:
        chain = begin_cell().store_ref(chain).store_cell(action).end_cell()
    return chain


def send_action(transfer: Transfer) -> Cell:
    """`action_send_msg`."""
    return (
        begin_cell()
        .store_uint(_SEND_ACTION, 32)
        .store_uint(transfer.mode, 8)
        .store_ref(transfer.message)
        .end_cell()
    )


def reserve_action(mode: int, amount: int) -> Cell:
    """`action_reserve_currency`, without extra currencies."""
    return (
        begin_cell()
        .store_uint(_RESERVE_ACTION, 32)
        .store_uint(mode, 8)
        .store_coins(amount)
        .store_bit(0)
        .end_cell()
    )


def code_action(new_code: Cell) -> Cell:
    """`action_set_code`."""
    return begin_cell().store_uint(_CODE_ACTION, 32).store_ref(new_code).end_cell()


def library_action(mode: int, library: Cell) -> Cell:
    """`action_change_library` with the library itself."""
    return (
        begin_cell()
        .store_uint(_LIBRARY_ACTION, 32)
        .store_uint(mode, 7)
        .store_bit(1)
        .store_ref(library)
        .end_cell()
    )


# -- the puppet --------------------------------------------------------------------------------------------

_PUPPET_CODE = bytes.fromhex(
    "ff00"  # SETCP0
    "30"  # DROP        the selector: internal and external messages are treated alike
    "d30f0120f2f2"  # 16 LDU, SWAP, DUP, THROWANYIF
    "f800"  # ACCEPT
    "d30f0120f2f2"  # 16 LDU, SWAP, DUP, THROWANYIF
    "d401ed55"  # LDREF, SWAP, c5 POP
    "d401ed54"  # LDREF, SWAP, c4 POP
    "d430d0ed1ed8"  # LDREF, DROP, CTOS, BLESS, EXECUTE
)


class Puppet:
    """A contract that throws, sends, stores and runs what it is told, by anybody."""

    def __init__(self, number: int, *, library: bool = False) -> None:
        self.code = library_cell(PUPPET) if library else PUPPET
        self.init = state_init(self.code, begin_cell().store_uint(number, 32).end_cell())
        self.address = contract_address(self.init)

    @staticmethod
    def body(
        actions: Sequence[Cell] = (),
        *,
        throw_early: int = 0,
        throw_late: int = 0,
        data: Cell | None = None,
        program: bytes = b"",
    ) -> Cell:
        """Say what to do: throw before accepting, throw after, actions, new data, code to run."""
        return (
            begin_cell()
            .store_uint(throw_early, 16)
            .store_uint(throw_late, 16)
            .store_ref(action_list(actions))
            .store_ref(data or begin_cell().end_cell())
            .store_ref(begin_cell().store_bytes(program).end_cell())
            .end_cell()
        )


PUPPET = begin_cell().store_bytes(_PUPPET_CODE).end_cell()


def library_cell(library: Cell) -> Cell:
    """Return the exotic cell that stands for a public library."""
    return Cell.one_from_boc(_library_boc(library.hash))


def _library_boc(library_hash: bytes) -> bytes:
    # One root of one exotic cell: descriptors 8 (exotic, no references) and 66 (33 full bytes).
    content = bytes([8, 66, 2]) + library_hash
    header = bytes.fromhex("b5ee9c72") + bytes([1, 1, 1, 1, 0, len(content), 0])
    return header + content


# -- jettons -----------------------------------------------------------------------------------------------


class Jetton:
    """A standard jetton: its minter, and the wallets of its holders."""

    def __init__(self, admin: Address) -> None:
        self._wallet_code = code(ContractVersion.JettonWalletStandard)
        content = begin_cell().store_uint(1, 8).store_bytes(b"https://example.org/jetton.json").end_cell()
        data = begin_cell().store_coins(0).store_address(admin)
        self.init = state_init(
            code(ContractVersion.JettonMasterStandard),
            data.store_ref(content).store_ref(self._wallet_code).end_cell(),
        )
        self.address = contract_address(self.init)

    def wallet(self, owner: Address) -> Address:
        """Return the address of a holder's jetton wallet."""
        data = begin_cell().store_coins(0).store_address(owner).store_address(self.address)
        return contract_address(state_init(self._wallet_code, data.store_ref(self._wallet_code).end_cell()))

    @staticmethod
    def mint(to: Address, amount: int, value: int) -> Cell:
        """Body for the minter: mint to a holder, passing `value` nanoTON on."""
        transfer = begin_cell().store_uint(0x178D_4519, 32).store_uint(0, 64).store_coins(amount)
        transfer.store_address(None).store_address(None).store_coins(0).store_bit(0)
        body = begin_cell().store_uint(21, 32).store_uint(0, 64).store_address(to)
        return body.store_coins(value).store_ref(transfer.end_cell()).end_cell()

    @staticmethod
    def transfer(to: Address, amount: int, answer_to: Address | None, forward: int) -> Cell:
        """Body for a holder's jetton wallet: transfer to another holder."""
        body = begin_cell().store_uint(0x0F8A_7EA5, 32).store_uint(0, 64).store_coins(amount)
        body.store_address(to).store_address(answer_to).store_bit(0).store_coins(forward)
        return body.store_bit(0).end_cell()

    @staticmethod
    def burn(amount: int, answer_to: Address | None) -> Cell:
        """Body for a holder's jetton wallet: burn."""
        body = begin_cell().store_uint(0x595F_07BC, 32).store_uint(0, 64).store_coins(amount)
        return body.store_address(answer_to).store_bit(0).end_cell()


def transfer(
    to: Address,
    value: int,
    mode: int,
    body: Cell | None = None,
    *,
    init: Cell | None = None,
    bounce: bool = True,
) -> Transfer:
    """Make a message that a contract sends; the chain fills in the sender."""
    return Transfer(
        internal_message(src=None, dst=to, value=value, body=body, init=init, bounce=bounce), mode
    )
