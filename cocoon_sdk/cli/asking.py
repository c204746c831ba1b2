"""Asking a worker's own endpoint about a job, for `cocoon explain`.

Owns finding the endpoint that the worker announced, and turning its answer into a fact. What it says is the
worker's word, never the chain's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from cocoon_sdk.explain.job_facts import WorkerAnswer, WorkerSays

if TYPE_CHECKING:
    from pytoniq_core import Address

    from cocoon_sdk.chain.base import Chain
    from cocoon_sdk.explain import Asker

_TIMEOUT_S: Final = 5.0


def worker_asker(chain: Chain, private_networks: Sequence[str] = ()) -> Asker:
    """Return what `explain` asks workers with; only public addresses and the named networks are reached."""

    async def ask(worker: Address, escrow: Address, job_id: int) -> WorkerSays | None:
        from cocoon_sdk.client.handover import HandoverClient
        from cocoon_sdk.data import AddressPolicy
        from cocoon_sdk.errors import MalformedError, OfferRefusedError, ResultUnavailableError

        endpoint = await announced_endpoint(chain, worker)
        if endpoint is None:
            return None
        client = HandoverClient(AddressPolicy(private_networks), timeout_s=_TIMEOUT_S)
        try:
            found = await client.fetch(endpoint, escrow, job_id)
        except OfferRefusedError as error:
            return WorkerSays(worker=worker, answer=WorkerAnswer.REFUSED, reason=error.why)
        except (ResultUnavailableError, MalformedError) as error:
            return WorkerSays(worker=worker, answer=WorkerAnswer.UNREACHABLE, reason=error.why)
        finally:
            await client.close()
        answer = WorkerAnswer.NOTHING_YET if found is None else WorkerAnswer.READY
        return WorkerSays(worker=worker, answer=answer)

    return ask


async def announced_endpoint(chain: Chain, worker: Address) -> str | None:
    """Return the endpoint in the announcement that a stake names now; None when there is none to be found."""
    from cocoon_sdk.contracts.worker_stake import WorkerStake
    from cocoon_sdk.data import InlineData, decode_data
    from cocoon_sdk.errors import CocoonError
    from cocoon_sdk.history import AccountKind, AnnounceAction, actions_of, walk
    from cocoon_sdk.protocol.offers import decode_info

    try:
        named = (await WorkerStake.at(chain, worker).state()).info_hash.to_bytes(32, "big")
        async for transaction in walk(chain, worker):
            for action, skipped in actions_of(transaction, AccountKind.STAKE):
                if not isinstance(action, AnnounceAction) or skipped is not None or action.data is None:
                    continue
                if action.info_hash == named:
                    data = decode_data(action.data)
                    return decode_info(data.content, named).endpoint if isinstance(data, InlineData) else None
    except CocoonError:
        return None  # not a stake, or an announcement that cannot be read: nobody to ask
    return None
