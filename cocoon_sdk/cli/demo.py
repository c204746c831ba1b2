"""`cocoon demo`: a paid job, or a session of streamed requests, and proof that no nanoTON got lost."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cocoon_sdk.cli.options import Json
from cocoon_sdk.cli.session import EXIT_FAILED, Session, run

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from cocoon_sdk.demo.job_plot import JobOutcome
    from cocoon_sdk.demo.session_plot import SessionOutcome
    from cocoon_sdk.demo.story import DemoReport

PROMPT = "What is the capital of France?"


def demo(
    engine: Annotated[
        Literal["vllm", "echo"],
        typer.Option("--engine", help="Real vLLM, or a labelled echo that needs no model."),
    ] = "vllm",
    mode: Annotated[
        Literal["job", "session"],
        typer.Option("--mode", help="One job, or a session: 50 streamed requests, one redemption."),
    ] = "job",
    prompt: Annotated[str, typer.Option("--prompt", envvar="COCOON_PROMPT", help="What to ask.")] = PROMPT,
    as_json: Json = False,
) -> None:
    """Play a whole paid job or session: sandbox, contracts, worker, encrypted requests, and the books.

    Everything runs on this machine: a TON sandbox with the real TVM, the real contracts, the real worker.
    """
    run(lambda session: _demo(session, engine, mode, prompt), as_json=as_json)


async def _demo(session: Session, engine: str, mode: str, prompt: str) -> None:
    import tempfile
    from pathlib import Path

    from cocoon_sdk.demo.engines import EngineChoice
    from cocoon_sdk.demo.job_plot import JobPlot
    from cocoon_sdk.demo.session_plot import SessionPlot
    from cocoon_sdk.demo.story import MAX_PROMPT_BYTES, Demo
    from cocoon_sdk.errors import ConfigError
    from cocoon_sdk.logs import log_to_file

    if not prompt.strip() or len(prompt.encode()) > MAX_PROMPT_BYTES:
        raise ConfigError(
            "cannot ask this",
            why=f"a prompt of the demo has 1 to {MAX_PROMPT_BYTES} bytes",
            hint="Shorten it",
        )
    logs = _log_folder()
    log_to_file(logs / "worker.log")
    with tempfile.TemporaryDirectory(prefix="cocoon-demo-") as name:
        folder = Path(name)
        choice, step = EngineChoice(engine), session.out.step
        balanced: bool
        if mode == "session":
            talk = SessionPlot(prompt)
            streamed = await Demo(choice, prompt, talk, folder=folder, logs=logs, step=step).play()
            balanced = streamed.statement.is_balanced
            session.out.result(
                streamed.to_json(),
                None if session.out.as_json else _shown(streamed, _session_panel(streamed)),
            )
        else:
            done = await Demo(choice, prompt, JobPlot(prompt), folder=folder, logs=logs, step=step).play()
            balanced = done.statement.is_balanced
            session.out.result(
                done.to_json(), None if session.out.as_json else _shown(done, _job_panel(done))
            )
    if not balanced:
        sys.exit(EXIT_FAILED)


def _shown(report: DemoReport[Any], panel: RenderableType) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    return Group(Text(), panel, Text(), report.statement)


def _job_panel(report: DemoReport[JobOutcome]) -> RenderableType:
    from rich.text import Text

    result = report.outcome.result
    tokens = f"{result.usage.input_tokens} tokens in, {result.usage.output_tokens} out"
    paid = Text(f"{report.describes}: {tokens}, {result.amount} paid", style="dim")
    return _panel(report, f"Job {report.outcome.job}", report.outcome.answer, paid)


def _session_panel(report: DemoReport[SessionOutcome]) -> RenderableType:
    from rich.text import Text

    outcome = report.outcome
    more = Text(f"... and {outcome.requests - 1} requests more, all streamed", style="dim")
    usage = outcome.usage
    tokens = f"{usage.input_tokens} tokens in, {usage.output_tokens} out"
    used = f"{report.describes}: {tokens}, {outcome.cost} used up, {outcome.receipts} receipts checked"
    settled = f"{outcome.signed} signed for, settled by one redemption of {outcome.redeemed}"
    paid = Text(f"{used}\n{settled}", style="dim")
    return _panel(report, f"Session {outcome.session}", outcome.answer, more, paid)


def _panel(report: DemoReport[Any], title: str, answer: str, *more: RenderableType) -> RenderableType:
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    asked = Text.assemble(("Asked:  ", "bold"), report.prompt)
    answered = Text.assemble(("Answer: ", "bold"), answer)
    return Panel(Group(asked, answered, *more), title=title, title_align="left")


def _log_folder() -> Path:
    """Return where the logs of vLLM and the worker go: they outlive the demo, for whoever has to look."""
    import os
    from pathlib import Path

    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "cocoon" / "demo"
