"""`cocoon verify calibrate`: honest settings of one model on this machine, and the limits they give.

Owns options, progress and what is shown. The work is `cocoon_sdk.verify.calibration`'s; engines are started
here, because only a composition root may know the worker.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cocoon_sdk.cli.options import Json
from cocoon_sdk.cli.session import Session, run

if TYPE_CHECKING:
    from rich.table import Table

    from cocoon_sdk.types import Hash
    from cocoon_sdk.verify.calibration import EngineSetting, Plan, Served
    from cocoon_sdk.verify.thresholds import Thresholds


def calibrate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The model's folder.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where the thresholds go.")
    ] = Path("thresholds.json"),
    manifest: Annotated[
        Path | None, typer.Option("--manifest", metavar="FILE", help="The model's manifest: names the model.")
    ] = None,
    dtype: Annotated[
        list[str] | None, typer.Option("--dtype", help="Number formats, each an option of its own.")
    ] = None,
    concurrency: Annotated[
        list[int] | None, typer.Option("--concurrency", min=1, max=256, help="Requests at a time.")
    ] = None,
    prompts: Annotated[
        int, typer.Option("--prompts", min=1, max=5000, help="Questions that set the limits.")
    ] = 144,
    held_out: Annotated[
        int, typer.Option("--held-out", min=0, max=5000, help="Other questions that only test them.")
    ] = 72,
    top: Annotated[
        int, typer.Option("--top", min=1, max=1000, help="Best tokens of each position that checks may see.")
    ] = 50,
    context: Annotated[int, typer.Option("--context", min=512, help="Tokens of prompt and output.")] = 4096,
    work: Annotated[
        Path,
        typer.Option("--work", metavar="DIR", help="Records of the run: an interrupted one goes on there."),
    ] = Path("calibration"),
    as_json: Json = False,
) -> None:
    """Run a model in honest settings on this machine's vLLM, and write the limits for verifying it.

    Every answer is made in one setting and re-scored in another. Other questions than those that set the
    limits say how often an honest answer is beyond them.
    """

    async def calibrating(session: Session) -> None:
        from cocoon_sdk.verify.calibration import CONCURRENCIES, Plan, honest_settings
        from cocoon_sdk.verify.model_files import open_model

        folder = open_model(model)
        settings = honest_settings(dtype or ["bfloat16", "float32"], concurrency or CONCURRENCIES)
        with session.out.step("Hashing the model"):
            model_id = await _model_id(model, manifest)
        plan = Plan(model_id, settings, prompts, held_out, chat=folder.has_chat_template, top=top)
        found = await _run(session, plan, model, work, context)
        _write(output, found)
        text = _table(found)
        session.out.result({"thresholds": found.to_wire(), "hash": found.digest().hex()}, text)
        session.out.note(f"Written to {output}. Their hash, for the registry: {found.digest().hex()}")

    run(calibrating, as_json=as_json)


async def _model_id(model: Path, manifest: Path | None) -> Hash:
    """Return the hash of the manifest; one that is given has to be that of the folder."""
    from cocoon_sdk.verify.file_hashes import FileHasher, in_thread
    from cocoon_sdk.verify.manifest import ModelDiffersError
    from cocoon_sdk.verify.model_files import check_model, hash_model, manifest_of, open_model, read_manifest

    if manifest is None:
        folder = open_model(model)
        files = await in_thread(lambda tell: hash_model(folder, FileHasher(), tell))
        return manifest_of(folder, files).digest
    wanted = read_manifest(manifest)
    differences = await in_thread(lambda tell: check_model(model, wanted, FileHasher(), tell))
    if differences:
        raise ModelDiffersError(
            f"{model} is not {wanted.name}", differences, hint="Calibrate what is offered"
        )
    return wanted.digest


async def _run(session: Session, plan: Plan, model: Path, work: Path, context: int) -> Thresholds:
    from cocoon_sdk.cli.local_vllm import serve_vllm, vllm_settings
    from cocoon_sdk.verify.calibration import Calibration
    from cocoon_sdk.verify.records import Records

    def serve(setting: EngineSetting) -> AbstractAsyncContextManager[Served]:
        log = work / f"vllm-{setting.name}.log"
        return serve_vllm(vllm_settings(model, setting, log, context=context, top=plan.top))

    with Records(work / "records.jsonl", plan.about()) as records, session.out.step("Calibrating") as step:
        return await Calibration(plan, serve, records, step.update).run()


def _write(path: Path, found: Thresholds) -> None:
    from cocoon_sdk.errors import ConfigError

    try:
        path.write_bytes(found.to_bytes() + b"\n")
    except OSError as error:
        raise ConfigError(f"cannot write {path}", why=error.strerror or type(error).__name__) from None


def _table(found: Thresholds) -> Table:
    from rich.table import Table

    from cocoon_sdk.verify.ladder import MILLION
    from cocoon_sdk.verify.statistics import NAMES
    from cocoon_sdk.verify.thresholds import SamplingKind

    table = Table("sampling", "statistic", "honest", "suspect", "refund", "slash", "checks", "false alarms")
    for kind in SamplingKind:
        limits = found.kind(kind)
        if limits is None:
            continue
        for name in NAMES:
            each = limits.limits(name)
            values = [each.honest, each.suspect, each.refund, each.slash]
            told = "", ""
            if name == NAMES[0]:
                checks = limits.honest_checks + limits.held_out_checks
                alarms = f"{limits.held_out_alarms} of {limits.held_out_checks}"
                told = str(checks), f"{alarms}, at most {limits.false_alarm_bound:.2%}"
            table.add_row(kind.value, name, *(f"{value / MILLION:.4f}" for value in values), *told)
    return table
