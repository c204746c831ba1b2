"""What all parts of one client share: chain, network, escrow, keys, data transport.

Owns no behaviour beyond picking the right key. Must not know jobs or prices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.client.arbiters import Arbiters
from cocoon_sdk.clock import Clock
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.contracts.network import Network
from cocoon_sdk.contracts.registry import Registry
from cocoon_sdk.contracts.sender import OwnerWallet
from cocoon_sdk.crypto.keys import BoxKey, SigningKey
from cocoon_sdk.data import AddressPolicy, DataSource, DataStore
from cocoon_sdk.errors import ConfigError

_BOX_KEY_PURPOSE: Final = b"cocoon job box"


def job_box_key(hot_key: SigningKey, escrow: Address, epoch: int, job_id: int) -> BoxKey:
    """Return the key pair of one job: it follows from the hot key and the job's place alone.

    A client that was killed finds it again, and so every result, from the chain and its hot key.
    """
    place = escrow.hash_part + epoch.to_bytes(4, "big") + job_id.to_bytes(4, "big")
    digest = hashlib.blake2b(place, digest_size=32, key=hot_key.reveal(), person=_BOX_KEY_PURPOSE)
    return BoxKey(digest.digest())


@dataclass(slots=True)
class ClientContext:
    """One client's connections and keys.

    `source` reads results by location, `store` keeps large payloads, `arbiters` get evidence in disputes.
    """

    chain: Chain
    network: Network
    escrow: Escrow
    registry: Registry
    clock: Clock
    hot_key: SigningKey
    previous_hot_keys: tuple[SigningKey, ...] = ()
    wallet: OwnerWallet | None = None
    source: DataSource | None = None
    store: DataStore | None = None
    policy: AddressPolicy = field(default_factory=AddressPolicy)
    arbiters: Arbiters | None = None

    def box_keys(self, epoch: int, job_id: int) -> Iterator[BoxKey]:
        """Yield the keys that a job's result may be sealed to, the current hot key's first."""
        for key in (self.hot_key, *self.previous_hot_keys):
            yield job_box_key(key, self.escrow.address, epoch, job_id)

    def owner_wallet(self, what: str) -> OwnerWallet:
        """Return the owner's wallet. Raises `ConfigError` when this client has none."""
        if self.wallet is None:
            raise ConfigError(
                f"cannot {what}",
                why="this client has the hot key only, and that is the owner's business",
                hint="Pass the owner's wallet as `owner`",
            )
        return self.wallet
