"""`cocoon explain`: what happened to a job, a transaction or an account, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cocoon_sdk.cli.options import Json
from cocoon_sdk.cli.session import Session, run

if TYPE_CHECKING:
    from pytoniq_core import Address


def explain(
    what: Annotated[
        str,
        typer.Argument(
            metavar="JOB|TX|ADDRESS",
            help="A job (ESCROW/ID), a transaction (ADDRESS@LT, ADDRESS@HASH or HASH) or an account.",
        ),
    ],
    ask: Annotated[
        bool,
        typer.Option(
            "--ask/--no-ask", help="Also ask the worker about a running job, and who checked its result."
        ),
    ] = True,
    as_json: Json = False,
) -> None:
    """Tell what happened and why, who was paid what, and what can happen next."""
    run(lambda session: _explain(session, what, ask=ask), as_json=as_json)


async def _explain(session: Session, what: str, *, ask: bool) -> None:
    from cocoon_sdk.cli.asking import worker_asker
    from cocoon_sdk.cli.inquiry import inquiry
    from cocoon_sdk.explain import explain as explained
    from cocoon_sdk.explain import parse_target

    target = parse_target(what)
    asker = worker_asker(session.chain, session.settings.private_networks) if ask else None
    with session.out.step("Reading the chain"):
        found = await explained(
            session.chain,
            target,
            network=session.known_network,
            ask=asker,
            inquire=inquiry(session) if ask else None,
            known=_own_accounts(session),
        )
    session.out.result(found.to_json(), found)


def _own_accounts(session: Session) -> tuple[Address, ...]:
    """Return the accounts that the settings know: where a bare hash is looked for."""
    from cocoon_sdk.explain import parse_address

    network, owner = session.known_network, session.settings.owner
    if network is None:
        return ()
    if owner is None:
        return (network.registry,)
    address, index = parse_address(owner), session.settings.index
    accounts = (network.escrow(address, index).address, network.stake(address, index).address)
    return (*accounts, address, network.registry)
