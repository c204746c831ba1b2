"""Saved sets of accounts: what a sandbox can start from instead of an empty chain.

Owns the file's format (docs/sandbox.md describes it), reading and writing it, and making such a set from any
`Chain`. Must not know where the accounts come from, nor any contract.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.chain.base import AccountState, AccountStatus, Chain
from cocoon_sdk.chain.boc import decode_boc, encode_boc_base64
from cocoon_sdk.errors import ConfigError, MalformedError
from cocoon_sdk.sandbox.accounts import ShardAccount
from cocoon_sdk.sandbox.blockchain import Blockchain, Snapshot
from cocoon_sdk.sandbox.cells import (
    NativeCell,
    Reader,
    address_key,
    from_native,
    key_address,
    native_from_boc,
)
from cocoon_sdk.sandbox.config import NetworkConfig
from cocoon_sdk.sandbox.state import State
from cocoon_sdk.sandbox.storage.folder import write_document

FORMAT, VERSION = "sandbox-accounts", 1
MAX_ACCOUNTS = 100_000
MAX_LIBRARIES = 1_000
MAX_FILE_BYTES = 512 << 20
CARRIED_PARAMS = (8, 18, 19, 20, 21, 24, 25, 43)
"""Parameters that decide what things cost and which network it is: version, prices, global id, limits."""
_LIBRARY_CELL = 2
_MAX_NOW = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class AccountSet:
    """Accounts at one moment: raw `ShardAccount`s by account key, parameters of the network by number.

    `now` is unix time in seconds; `source` says in words where it is from.
    """

    now: int
    source: str
    accounts: Mapping[int, NativeCell]
    config: Mapping[int, Cell] = field(default_factory=dict)
    libraries: tuple[Cell, ...] = ()

    # -- the file -----------------------------------------------------------------------------------------

    def write(self, path: Path) -> None:
        """Write the set as a file that only its owner may read. Raises `StorageError`."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "now": self.now,
            "source": self.source,
            "config": {str(index): encode_boc_base64(cell) for index, cell in sorted(self.config.items())},
            "libraries": [encode_boc_base64(cell) for cell in self.libraries],
            "accounts": [
                {"address": key_address(key).to_str(is_user_friendly=False), "shard_account": native.to_boc()}
                for key, native in sorted(self.accounts.items())
            ],
        }
        write_document(path, document)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file. Raises `ConfigError` when there is none, `MalformedError` for what is no such set."""
        try:
            with path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise ConfigError(f"cannot read {path}", why=error.strerror or str(error)) from None
        what = f"{path} is not a saved set of accounts"
        if len(content) > MAX_FILE_BYTES:
            raise MalformedError(what, why=f"it has more than {MAX_FILE_BYTES} bytes")
        try:
            return cls._parse(json.loads(content))
        except MalformedError as error:
            raise MalformedError(what, why=str(error)) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise MalformedError(what, why=f"{type(error).__name__}: {str(error)[:80]}") from None

    @classmethod
    def _parse(cls, document: dict[str, Any]) -> Self:
        if document["format"] != FORMAT or document["version"] != VERSION:
            raise MalformedError(f"expected format {FORMAT} version {VERSION}")
        now, entries, libraries = document["now"], document["accounts"], document["libraries"]
        if not isinstance(now, int) or not 0 < now <= _MAX_NOW:
            raise MalformedError("now is not a unix time")
        if len(entries) > MAX_ACCOUNTS or len(libraries) > MAX_LIBRARIES:
            raise MalformedError(f"more than {MAX_ACCOUNTS} accounts or {MAX_LIBRARIES} libraries")
        accounts = {}
        for entry in entries:
            key = address_key(_address(entry["address"]))
            accounts[key] = _shard_account(key, base64.b64decode(entry["shard_account"], validate=True))
        config = {int(index): _cell(text) for index, text in document["config"].items()}
        cells = tuple(_cell(text) for text in libraries)
        return cls(now, str(document["source"])[:200], accounts, config, cells)

    # -- starting from it ---------------------------------------------------------------------------------

    def blockchain(self) -> Blockchain:
        """Return a chain that begins with these accounts at their time, under their network's prices."""
        config = NetworkConfig.mainnet()
        for index, cell in self.config.items():
            config = config.replace(index, cell)
        chain = Blockchain(now=self.now, config=config)
        views = [ShardAccount(native) for native in self.accounts.values()]
        state = State(
            now=self.now,
            lt=max((view.last_lt for view in views), default=0),
            minted=sum(int(view.balance) for view in views),
            accounts=dict(self.accounts),
            libraries=self.libraries,
        )
        chain.restore(Snapshot(state))
        return chain

    def missing_libraries(self) -> set[bytes]:
        """Return the hashes of libraries that code refers to and the set does not hold."""
        found: set[bytes] = set()
        for native in self.accounts.values():
            code = ShardAccount(native).code
            if code is not None:
                found |= library_hashes(from_native(code))
        return found - {cell.hash for cell in self.libraries}


async def save_accounts(
    chain: Chain, addresses: Sequence[Address], source: str
) -> tuple[AccountSet, list[Address]]:
    """Read accounts from a chain; return the set, and the addresses that do not exist there.

    The chain tells code, data, balance and the last transaction; rent counts from now on. Raises
    `ConfigError` for a frozen account, of which the chain does not tell enough, and what the chain raises.
    """
    head = await chain.head()
    accounts: dict[int, NativeCell] = {}
    missing = []
    for address in addresses:
        state = await chain.account(address)
        if state.status is AccountStatus.NONEXIST:
            missing.append(address)
        else:
            accounts[address_key(address)] = native_from_boc(
                base64.b64decode(encode_boc_base64(shard_account_of(state, head.now)))
            )
    config = {}
    for index in CARRIED_PARAMS:
        cell = await chain.config_param(index)
        if cell is not None:
            config[index] = cell
    return AccountSet(head.now, source, accounts, config), missing


def shard_account_of(state: AccountState, now: int) -> Cell:
    """Build the raw `ShardAccount` of an account that a chain told about, with its rent paid until `now`."""
    storage = begin_cell().store_uint(state.last_lt + 1 if state.last_lt else 0, 64)
    storage.store_coins(int(state.balance)).store_bit(0)
    if state.status is AccountStatus.ACTIVE:
        storage.store_uint(0b100, 3)  # active; neither split depth nor tick-tock
        storage.store_maybe_ref(state.code).store_maybe_ref(state.data).store_bit(0)
    elif state.status is AccountStatus.UNINIT:
        storage.store_uint(0b00, 2)
    else:
        raise ConfigError(
            f"the account {state.address.to_str()} cannot be saved",
            why=f"it is {state.status}, and the source does not tell the hash of its frozen state",
            hint="leave it out",
        )
    inner = storage.end_cell()
    cells, bits = _size(inner)
    account = begin_cell().store_bit(1).store_address(state.address)
    account.store_var_uint(cells, 3).store_var_uint(bits, 3)
    account.store_uint(0, 3).store_uint(now, 32).store_bit(0)  # no extra storage facts; nothing owed
    account.store_cell(inner)
    return (
        begin_cell()
        .store_ref(account.end_cell())
        .store_bytes(state.last_hash if state.last_lt else bytes(32))
        .store_uint(state.last_lt, 64)
        .end_cell()
    )


def library_hashes(root: Cell) -> set[bytes]:
    """Return the hashes that the library cells of a tree refer to."""
    found: set[bytes] = set()
    for cell in _tree(root):
        if cell.type_ == _LIBRARY_CELL:
            found.add(cell.get_data_bytes()[1:33])
    return found


def _tree(root: Cell) -> Iterable[Cell]:
    """Yield every different cell of a tree once."""
    seen = {root.hash}
    waiting = [root]
    while waiting:
        cell = waiting.pop()
        yield cell
        for ref in cell.refs:
            if ref.hash not in seen:
                seen.add(ref.hash)
                waiting.append(ref)


def _size(root: Cell) -> tuple[int, int]:
    """Count different cells and their bits, as rent does."""
    cells = list(_tree(root))
    return len(cells), sum(len(cell.bits) for cell in cells)


def _cell(text: str) -> Cell:
    return decode_boc(base64.b64decode(text, validate=True))


def _address(text: str) -> Address:
    try:
        address = Address(text)
    except Exception as error:  # the library signals a bad address with unrelated exception types
        raise MalformedError("an address cannot be read") from error
    if address.wc not in (0, -1):
        raise MalformedError(f"there is no workchain {address.wc} here")
    return address


def _shard_account(key: int, boc: bytes) -> NativeCell:
    """Parse a raw `ShardAccount` and check that it is that account's."""
    native = native_from_boc(boc)
    try:
        view = ShardAccount(native)
        reader = Reader.of(Reader.of(native).ref())
        owner = reader.address_key() if reader.bit() else key
    except (RuntimeError, MalformedError) as error:  # the engine's word for reading past the end
        raise MalformedError("a shard account cannot be read", why=str(error)[:80]) from error
    if owner != key or (view.status is AccountStatus.NONEXIST):
        raise MalformedError("a shard account is missing, or another address's")
    return native
