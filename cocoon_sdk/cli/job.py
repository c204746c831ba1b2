"""`cocoon job`: opening jobs, looking at them, and ending them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cocoon_sdk.cli.options import DryRun, Index, JobName, Json, Yes
from cocoon_sdk.cli.session import Session, run

if TYPE_CHECKING:
    from cocoon_sdk.client.app import AsyncCocoon
    from cocoon_sdk.client.job import AsyncJob
    from cocoon_sdk.client.job_status import JobStatus
    from cocoon_sdk.client.results import JobResult

app = typer.Typer(no_args_is_help=True, help="Open jobs, get their results, end them.")

Wait = Annotated[float | None, typer.Option("--wait", metavar="SECONDS", help="Longest time to wait.")]


@app.command()
def create(
    model: Annotated[str, typer.Option("--model", help="Name or id of the model.")],
    prompt: Annotated[
        str | None, typer.Option("--prompt", help='What to ask; "-" reads it from standard input.')
    ] = None,
    request: Annotated[
        Path | None, typer.Option("--request", metavar="FILE", help="A whole OpenAI request body (JSON).")
    ] = None,
    worker: Annotated[
        str | None,
        typer.Option("--worker", help='A worker\'s address, or "open" for anyone; default: cheapest.'),
    ] = None,
    max_price: Annotated[
        str | None, typer.Option("--max-price", metavar="TON", help="Most it may cost.")
    ] = None,
    max_output_tokens: Annotated[
        int | None, typer.Option("--max-output-tokens", min=1, help="Longest answer.")
    ] = None,
    window: Annotated[
        int | None, typer.Option("--window", metavar="SECONDS", min=0, help="Time to dispute; 0: none.")
    ] = None,
    index: Index = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Open a job: encrypted to one worker, or with --worker open in public for any."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import parse_amount

        asked: dict[str, Any] = {
            "model": model,
            "worker": worker,
            "max_price": None if max_price is None else parse_amount(max_price),
            "max_output_tokens": max_output_tokens,
            "window_s": window,
            **_request(prompt, request),
        }
        await _create(session, asked, yes=yes, dry_run=dry_run)

    run(work, as_json=as_json, index=index)


async def _create(session: Session, asked: dict[str, Any], *, yes: bool, dry_run: bool) -> None:
    from cocoon_sdk.cli.money import Move, agree

    client = await session.client(hot_key=True, open_escrow=True)
    with session.out.step("Finding a worker and its price"):
        cost = await client.jobs.estimate(**asked)
    escrow = client.escrow.address
    move = Move(escrow, escrow, cost.total, "set aside in the escrow for the job")
    note = (
        f"At most {cost.price} go to the worker. {cost.bond} bond and most of {cost.gas} gas are free again "
        f"at the end; {cost.announcements} are for announcements, {cost.inline} for the payload in the "
        f"message, at most {cost.external} for the message itself."
    )
    if not agree(session.out, [move], note=note, yes=yes, dry_run=dry_run):
        return
    with session.out.step("Opening the job"):
        job = await client.jobs.create(**asked)
    name = f"{escrow.to_str()}/{job.id}"
    session.out.result(
        {"job": name, "id": job.id, "escrow": escrow.to_str(), "reserved_nano": str(int(cost.total))},
        f"Opened job {name}\nIts result: cocoon job result {job.id}",
    )


def _request(prompt: str | None, request: Path | None) -> dict[str, Any]:
    """Turn --prompt or --request into what the client takes. Raises `ConfigError`."""
    import json
    import sys

    from cocoon_sdk.errors import ConfigError

    if (prompt is None) == (request is None):
        raise ConfigError("cannot create a job", why="exactly one of --prompt and --request is needed")
    if prompt is not None:
        text = sys.stdin.read() if prompt == "-" else prompt
        return {"messages": [{"role": "user", "content": text}]}
    assert request is not None
    try:
        body = json.loads(request.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the request {request}", why=str(error)[:200]) from None
    if not isinstance(body, dict):
        raise ConfigError(f"cannot use the request {request}", why="it is not a JSON object")
    return {"request": body}


@app.command()
def status(job: JobName, index: Index = None, as_json: Json = False) -> None:
    """Say where a job stands and what can be done."""

    async def work(session: Session) -> None:
        client = await session.client(open_escrow=True)
        _show(session, client, await (await own_job(client, job)).status(), await session.now())

    run(work, as_json=as_json, index=index)


@app.command()
def result(
    job: JobName,
    wait: Wait = None,
    raw: Annotated[bool, typer.Option("--raw", help="The whole response.")] = False,
    index: Index = None,
    as_json: Json = False,
) -> None:
    """Fetch, open and check a result. Pays nothing: that is `cocoon job accept`."""

    async def work(session: Session) -> None:
        import json

        found = await own_job(await session.client(hot_key=True, open_escrow=True), job)
        checked = await _checked(session, found, wait)
        shown = json.dumps(checked.response, indent=2, ensure_ascii=False) if raw else checked.text
        session.out.result(_result_json(checked), shown)
        if not checked.accepted and not session.out.as_json:
            session.out.note(
                f"The worker asks for {checked.amount}. To pay: cocoon job accept {checked.job_id}"
            )

    run(work, as_json=as_json, index=index)


@app.command()
def accept(
    job: JobName,
    wait: Wait = None,
    index: Index = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Fetch and check the result, then pay the worker for it."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import Move, agree

        client = await session.client(hot_key=True, open_escrow=True)
        found = await own_job(client, job)
        checked = await _checked(session, found, wait)
        before = await found.status()
        assert before.worker is not None
        move = Move(client.escrow.address, before.worker, checked.amount, "payment to the worker")
        note = "The result was opened and checked: its hash and its price are right."
        if checked.accepted:
            _show(session, client, before, await session.now())
        elif agree(session.out, [move], note=note, yes=yes, dry_run=dry_run):
            with session.out.step("Accepting"):
                after = await found.accept()
            _show(session, client, after, await session.now())

    run(work, as_json=as_json, index=index)


@app.command()
def dispute(
    job: JobName, index: Index = None, yes: Yes = False, dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Call the arbiters. Your bond pays them if the worker wins."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import Move, agree
        from cocoon_sdk.protocol.messages import Params
        from cocoon_sdk.types import Nano

        client = await session.client(hot_key=True, open_escrow=True)
        found = await own_job(client, job)
        view = await client.escrow.state()
        bond = Nano(0) if view.params is None else Nano(Params.from_cell(view.params).dispute_bond)
        escrow = client.escrow.address
        move = Move(escrow, escrow, bond, "bond at stake in the dispute, set aside already")
        note = (
            "Open payload and result to the arbiters in time: who owes an opening and does not give it loses."
        )
        if agree(session.out, [move], note=note, yes=yes, dry_run=dry_run):
            with session.out.step("Disputing"):
                after = await found.dispute()
            _show(session, client, after, await session.now())

    run(work, as_json=as_json, index=index)


@app.command()
def cancel(
    job: JobName, index: Index = None, yes: Yes = False, dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Take an unserved job back; from a late claimer with its penalty."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import Move, agree
        from cocoon_sdk.protocol.job_states import JobState
        from cocoon_sdk.types import Nano

        client = await session.client(hot_key=True, open_escrow=True)
        found = await own_job(client, job)
        before = await found.status()
        entry = await session.escrow_contract(client).job(found.id)
        held = Nano(0) if entry is None else Nano(entry.hold)
        escrow = client.escrow.address
        move = Move(escrow, escrow, held, "free again in the escrow")
        if agree(session.out, [move], note="", yes=yes, dry_run=dry_run):
            late_claim = before.state is JobState.CLAIMED
            with session.out.step("Taking the job back"):
                after = await (found.reclaim() if late_claim else found.cancel())
            _show(session, client, after, await session.now())

    run(work, as_json=as_json, index=index)


@app.command("list")
def list_(
    last: Annotated[int, typer.Option("--last", min=0, max=1000, help="Also the newest N that ended.")] = 0,
    index: Index = None,
    as_json: Json = False,
) -> None:
    """List the escrow's open jobs."""

    async def work(session: Session) -> None:
        from rich.table import Table

        from cocoon_sdk.explain.times import when

        client = await session.client(open_escrow=True)
        contract = session.escrow_contract(client)
        ids, newest = await contract.jobs(), (await contract.state()).next_id - 1
        wanted = sorted({*ids, *range(max(1, newest - last + 1), newest + 1)} if last else set(ids))
        now = await session.now()
        found = [await client.jobs.get(number).status() for number in wanted]
        table = Table("job", "state", "deadline", "asked", "next", box=None)
        for each in found:
            deadline = "" if each.deadline is None else when(each.deadline, now)
            table.add_row(str(each.job_id), each.state, deadline, str(each.amount or ""), each.next_step)
        document = [_status_json(client, each) for each in found]
        session.out.result(document, table if found else "No open jobs.")

    run(work, as_json=as_json, index=index)


# -- what they share -------------------------------------------------------------------------------------


async def own_job(client: AsyncCocoon, name: str) -> AsyncJob:
    """Return the job with that name. Raises `ConfigError` for a job of somebody else's escrow."""
    from cocoon_sdk.errors import ConfigError
    from cocoon_sdk.explain import parse_job

    own = client.escrow.address
    target = parse_job(name if "/" in name else f"{own.to_str()}/{name}")
    if target.escrow != own:
        raise ConfigError(
            f"job {name} is not yours",
            why=f"your escrow is {own.to_str()}",
            hint="Look at it with `cocoon explain`, or choose another --index",
        )
    return client.jobs.get(target.job_id, accept="manual")


async def _checked(session: Session, job: AsyncJob, wait: float | None) -> JobResult:
    with session.out.step(f"Waiting for the result of job {job.id}"):
        return await job.result(timeout=wait)


def _show(session: Session, client: AsyncCocoon, status: JobStatus, now: int) -> None:
    from cocoon_sdk.explain.times import when

    text = f"Job {client.escrow.address.to_str()}/{status.job_id} is {status.state}."
    if status.deadline is not None:
        text += f" Deadline: {when(status.deadline, now)}."
    if status.amount is not None:
        text += f" Amount: {status.amount}."
    session.out.result(_status_json(client, status), f"{text}\nNext: {status.next_step}")


def _status_json(client: AsyncCocoon, status: JobStatus) -> dict[str, Any]:
    return {
        "job": f"{client.escrow.address.to_str()}/{status.job_id}",
        "id": status.job_id,
        "state": status.state.value,
        "deadline": status.deadline,
        "late": status.late,
        "next": status.next_step,
        "worker": None if status.worker is None else status.worker.to_str(),
        "amount_nano": None if status.amount is None else str(int(status.amount)),
        "result_hash": None if status.result_hash is None else status.result_hash.hex(),
    }


def _result_json(result: JobResult) -> dict[str, Any]:
    return {
        "id": result.job_id,
        "response": result.response,
        "usage": result.usage.to_wire(),
        "amount_nano": str(int(result.amount)),
        "result_hash": result.result_hash.hex(),
        "arrival": result.arrival.value,
        "accepted": result.accepted,
    }
