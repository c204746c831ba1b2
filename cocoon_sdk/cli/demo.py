"""`cocoon demo`: a whole paid job on this machine, and proof that no nanoTON got lost."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cocoon_sdk.cli.options import Json
from cocoon_sdk.cli.session import EXIT_FAILED, Session, run

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from cocoon_sdk.demo.story import DemoReport

PROMPT = "What is the capital of France?"


def demo(
    engine: Annotated[
        Literal["vllm", "echo"],
        typer.Option("--engine", help="Real vLLM, or a labelled echo that needs no model."),
    ] = "vllm",
    prompt: Annotated[str, typer.Option("--prompt", envvar="COCOON_PROMPT", help="What to ask.")] = PROMPT,
    as_json: Json = False,
) -> None:
    """Play a whole paid job: sandbox, contracts, worker, encrypted request, answer, and the books.

    Everything runs on this machine: a TON sandbox with the real TVM, the real contracts, the real worker.
    """
    run(lambda session: _demo(session, engine, prompt), as_json=as_json)


async def _demo(session: Session, engine: str, prompt: str) -> None:
    import tempfile
    from pathlib import Path

    from cocoon_sdk.cli.logs import log_to_file
    from cocoon_sdk.demo.engines import EngineChoice
    from cocoon_sdk.demo.story import MAX_PROMPT_BYTES, Demo
    from cocoon_sdk.errors import ConfigError

    if not prompt.strip() or len(prompt.encode()) > MAX_PROMPT_BYTES:
        raise ConfigError(
            "cannot ask this",
            why=f"a prompt of the demo has 1 to {MAX_PROMPT_BYTES} bytes",
            hint="Shorten it",
        )
    logs = _log_folder()
    log_to_file(logs / "worker.log")
    with tempfile.TemporaryDirectory(prefix="cocoon-demo-") as folder:
        played = Demo(EngineChoice(engine), prompt, folder=Path(folder), logs=logs, step=session.out.step)
        report = await played.play()
    session.out.result(report.to_json(), None if session.out.as_json else _shown(report))
    assert report.statement is not None
    if not report.statement.is_balanced:
        sys.exit(EXIT_FAILED)


def _shown(report: DemoReport) -> RenderableType:
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    assert report.statement is not None
    assert report.result is not None
    usage = report.result.usage
    asked = Text.assemble(("Asked:  ", "bold"), report.prompt)
    answered = Text.assemble(("Answer: ", "bold"), report.answer)
    tokens = f"{usage.input_tokens} tokens in, {usage.output_tokens} out"
    paid = Text(f"{report.describes}: {tokens}, {report.result.amount} paid", style="dim")
    panel = Panel(Group(asked, answered, paid), title=f"Job {report.job}", title_align="left")
    return Group(Text(), panel, Text(), report.statement)


def _log_folder() -> Path:
    """Return where the logs of vLLM and the worker go: they outlive the demo, for whoever has to look."""
    import os
    from pathlib import Path

    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "cocoon" / "demo"
