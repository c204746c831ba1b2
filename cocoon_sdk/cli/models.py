"""`cocoon models` and `cocoon workers`: what the network offers, by whom and for how much."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cocoon_sdk.cli.options import Json
from cocoon_sdk.cli.session import Session, run

models = typer.Typer(no_args_is_help=True, help="Models that the network knows.")
workers = typer.Typer(no_args_is_help=True, help="Workers that serve a model.")


@models.callback()
def _models() -> None:
    """Keep `list` a subcommand."""


@models.command("list")
def list_models(as_json: Json = False) -> None:
    """List the models of the registry."""
    run(_list_models, as_json=as_json)


async def _list_models(session: Session) -> None:
    from rich.table import Table

    from cocoon_sdk.contracts.registry import Registry
    from cocoon_sdk.types import format_ton

    found = await Registry.at(session.chain, session.network.registry).models()
    table = Table("model", "id", "arbiters' fee", box=None)
    for model in found:
        table.add_row(model.name, model.model_id.hex(), str(model.arbiter_fee))
    document = [
        {
            "name": model.name,
            "id": model.model_id.hex(),
            "entry_hash": model.entry_hash.hex(),
            "arbiter_fee": format_ton(model.arbiter_fee),
        }
        for model in found
    ]
    session.out.result(document, table if found else "The registry lists no models.")


@workers.callback()
def _workers() -> None:
    """Keep `list` a subcommand."""


@workers.command("list")
def list_workers(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name or id of the model.")],
    ignored: Annotated[bool, typer.Option("--ignored", help="Also who was left out, and why.")] = False,
    as_json: Json = False,
) -> None:
    """List the workers that serve a model, cheapest first. Prices are per million tokens."""
    run(lambda session: _list_workers(session, model, ignored=ignored), as_json=as_json)


async def _list_workers(session: Session, model: str, *, ignored: bool) -> None:
    from rich.table import Table

    from cocoon_sdk.types import format_ton

    found = await (await session.reader()).workers.list(model)
    table = Table(
        "worker", "input", "cached", "output", "minimum", "sampling", "longest", "can lock", box=None
    )
    document: list[dict[str, Any]] = []
    for offer in found:
        terms = offer.terms
        prices = (terms.input_price, terms.cached_input_price, terms.output_price, terms.minimum_price)
        limit = offer.offer.max_output_tokens
        amounts = [format_ton(price) for price in prices]
        table.add_row(
            offer.address.to_str(), *amounts, terms.sampling, f"{limit} tokens", f"{offer.lockable}"
        )
        document.append(
            {
                "worker": offer.address.to_str(),
                **dict(zip(("input", "cached_input", "output", "minimum"), amounts, strict=True)),
                "sampling": terms.sampling.value,
                "max_output_tokens": limit,
                "max_context": offer.offer.max_context,
                "lockable": format_ton(offer.lockable),
                "endpoint": offer.endpoint,
                "announced_at": offer.announced_at,
            }
        )
    left_out = [
        {"worker": each.address.to_str(), "reason": each.reason.value, "detail": each.detail}
        for each in found.ignored
    ]
    shown: Any = table if document else f"Nobody serves this model now ({found.why_ignored()})."
    session.out.result({"workers": document, **({"ignored": left_out} if ignored else {})}, shown)
    if ignored and not session.out.as_json:
        for each in left_out:
            detail = f" ({each['detail']})" if each["detail"] else ""
            session.out.note(f"left out: {each['worker']}: {each['reason']}{detail}")
