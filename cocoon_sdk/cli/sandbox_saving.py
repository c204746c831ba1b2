"""`cocoon sandbox save-accounts`: from a running sandbox, exactly; from any network, as far as it tells.

Owns choosing the source and fetching libraries that code needs.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cocoon_sdk.errors import ChainError, ConfigError, MalformedError

if TYPE_CHECKING:
    from pytoniq_core import Address, Cell

    from cocoon_sdk.cli.session import Session
    from cocoon_sdk.sandbox.control import ControlClient
    from cocoon_sdk.sandbox.storage.account_set import AccountSet


@dataclass(frozen=True, slots=True)
class Saved:
    """What was saved, and what could not be."""

    accounts: AccountSet
    absent: list[str]

    def to_json(self, path: Path) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "file": str(path),
            "source": self.accounts.source,
            "now": self.accounts.now,
            "saved": len(self.accounts.accounts),
            "absent": self.absent,
            "libraries": len(self.accounts.libraries),
            "missing_libraries": sorted(each.hex() for each in self.accounts.missing_libraries()),
        }

    def words(self, path: Path) -> str:
        """Return the result for people."""
        lines = [f"{len(self.accounts.accounts)} accounts of {self.accounts.source} are in {path}"]
        lines += [f"{address} does not exist there" for address in self.absent]
        lines += [f"library {each.hex()} is missing" for each in sorted(self.accounts.missing_libraries())]
        return "\n".join(lines)


async def from_sandbox(client: ControlClient, texts: Sequence[str]) -> Saved:
    """Save accounts of a running sandbox, to the bit. Raises `ConfigError` for what is no address."""
    from cocoon_sdk.chain.boc import decode_boc_base64
    from cocoon_sdk.sandbox.accounts import ShardAccount
    from cocoon_sdk.sandbox.cells import address_key, native_from_boc
    from cocoon_sdk.sandbox.storage.account_set import AccountSet

    addresses = parse_addresses(texts)
    raw = [address.to_str(is_user_friendly=False) for address in addresses]
    found = await client.call("accounts", addresses=raw)
    accounts, absent = {}, []
    for address, text in zip(addresses, raw, strict=True):
        boc = found["accounts"].get(text)
        native = None if boc is None else native_from_boc(base64.b64decode(boc))
        if native is None or ShardAccount(native).status == "nonexist":
            absent.append(text)
        else:
            accounts[address_key(address)] = native
    config = {int(index): decode_boc_base64(text) for index, text in found["config"].items()}
    libraries = tuple(decode_boc_base64(text) for text in found["libraries"])
    source = f"the sandbox in {client.folder}"
    return Saved(AccountSet(found["now"], source, accounts, config, libraries), absent)


async def from_chain(session: Session, source: str, texts: Sequence[str]) -> Saved:
    """Save accounts of a network. Raises `ConfigError`, and what its adapter raises."""
    from cocoon_sdk.client.connect import connect_chain
    from cocoon_sdk.sandbox.storage.account_set import save_accounts

    chain = connect_chain(source)
    session.closing.push_async_callback(chain.close)
    saved, absent = await save_accounts(chain, parse_addresses(texts), source)
    missing = saved.missing_libraries()
    if missing:
        saved = replace(saved, libraries=await _libraries(source, missing))
    return Saved(saved, [address.to_str(is_user_friendly=False) for address in absent])


async def _libraries(source: str, hashes: set[bytes]) -> tuple[Cell, ...]:
    """Fetch libraries where the source has a method for it; what is not there is reported, not an error."""
    from cocoon_sdk.chain.boc import decode_boc_base64
    from cocoon_sdk.chain.http_transport import JsonRpcTransport, TransportLimits
    from cocoon_sdk.clock import SystemClock

    if "://" not in source:
        return ()
    transport = JsonRpcTransport(source, api_key=None, clock=SystemClock(), limits=TransportLimits())
    found: list[Cell] = []
    try:
        for wanted in sorted(hashes):
            answer = await transport.call("getLibraries", {"libraries": [wanted.hex()]})
            found += [decode_boc_base64(entry["data"]) for entry in answer["result"]]
    except (ChainError, MalformedError, KeyError, TypeError):
        return tuple(cell for cell in found if cell.hash in hashes)
    finally:
        await transport.close()
    # A library is named by its hash: whoever gave it, it is the right one or it is not taken.
    return tuple(cell for cell in found if cell.hash in hashes)


def parse_addresses(texts: Sequence[str]) -> list[Address]:
    """Read addresses, each once. Raises `ConfigError`."""
    from pytoniq_core import Address

    found: dict[str, Address] = {}
    for text in texts:
        try:
            address = Address(text)
        except Exception:  # the library signals a bad address with unrelated exception types
            raise ConfigError("not an address", why=f"{text[:80]!r}") from None
        found[address.to_str(is_user_friendly=False)] = address
    return list(found.values())
