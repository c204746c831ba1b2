"""`Market`: the public topic of a model. Owns its address and reading its notices; belief lives above."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from pytoniq_core import Address

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.clock import Clock
from cocoon_sdk.contracts.accounts import Contract, derive_address
from cocoon_sdk.contracts.network import Network
from cocoon_sdk.contracts.sender import OwnerMessage
from cocoon_sdk.history import MAX_WALK, DecodedTransaction, walk
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.getters import MarketGetters
from cocoon_sdk.types import Hash, Nano


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that was announced: by whom, at which unix time, for which fee in nanoTON."""

    src: Address
    content: m.OfferNotice | m.JobNotice | m.DisputeNotice
    fee: Nano
    created_lt: int
    lt: int
    now: int
    transaction: DecodedTransaction = field(repr=False)


class Market(Contract):
    """The market of a model (docs/protocol.md 2.4). It stores nothing: its history is the topic."""

    NAME = "Market"

    @classmethod
    def of(
        cls, chain: Chain, network: Network, params: m.Params, model_id: bytes, *, clock: Clock | None = None
    ) -> Market:
        """Wrap the market of a model by the code that the parameters name."""
        data = m.MarketIdentity(registry=network.registry, model_id=int.from_bytes(model_id, "big"))
        address = derive_address(params.market_code_hash, params.market_code_depth, data.to_cell())
        return cls(chain, address, clock=clock)

    async def model_id(self) -> Hash:
        """Return which model this is the market of."""
        return Hash((await self.get(MarketGetters.model())).to_bytes(32, "big"))

    async def notices(self, *, after_lt: int = 0, limit: int = MAX_WALK) -> AsyncIterator[Notice]:
        """Yield notices, newest first, out of at most `limit` transactions; only their form is checked."""
        async for transaction in walk(self.chain, self.address, after_lt=after_lt, limit=limit):
            incoming = transaction.in_message
            # A market that is not deployed sends fees back: what was announced there cost nothing.
            if incoming is None or incoming.src is None or not transaction.success:
                continue
            content = incoming.content
            if isinstance(content, m.OfferNotice | m.JobNotice | m.DisputeNotice):
                yield Notice(
                    incoming.src,
                    content,
                    incoming.value,
                    incoming.created_lt,
                    transaction.lt,
                    transaction.now,
                    transaction,
                )

    def sweep(self) -> OwnerMessage:
        """Anyone: send all above rent to the treasury."""
        return OwnerMessage(self.address, Nano.ton("0.05"), m.Sweep(query_id=0).to_cell())
