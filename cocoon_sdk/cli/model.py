"""`cocoon model`: what a folder of weights is, to the bit, and whether it still is that.

The manifest's hash is the model id that the registry lists. Nothing here needs a network or an engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cocoon_sdk.cli.options import Json
from cocoon_sdk.cli.session import Session, run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cocoon_sdk.cli.output import Output
    from cocoon_sdk.verify.file_hashes import FileProgress

app = typer.Typer(no_args_is_help=True, help="Describe a model's files, and check them.")

Folder = Annotated[Path, typer.Argument(metavar="PATH", help="The folder that the engine loads.")]


@app.command()
def manifest(
    path: Folder,
    name: Annotated[
        str | None, typer.Option("--name", help="What the model is called (default: from its folder).")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="Number format it is served in (default: its own).")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the manifest there.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Hash a model's files and show its manifest. The same files give the same manifest on any machine."""
    run(lambda session: _manifest(session, path, name, dtype, output), as_json=as_json)


async def _manifest(
    session: Session, path: Path, name: str | None, dtype: str | None, output: Path | None
) -> None:
    from cocoon_sdk.verify.file_hashes import FileHasher, in_thread
    from cocoon_sdk.verify.model_files import hash_model, manifest_of, open_model

    folder = open_model(path)
    manifest_of(folder, (), name=name, dtype=dtype)  # what is missing is said before hours of hashing
    with _bar(session.out, folder.files.values()) as progress:
        files = await in_thread(lambda tell: hash_model(folder, FileHasher(), tell), progress)
    found = manifest_of(folder, files, name=name, dtype=dtype)
    if output is not None:
        _write(output, found.to_bytes())
    size = sum(file.size for file in files)
    shown = [
        f"{found.name}: {found.dtype}, {found.quantization or 'not quantised'}, for {found.engine}",
        *(f"  {key}: {_words(value)}" for key, value in found.architecture.items()),
        *(f"  {file.sha256}  {file.size:>14,}  {file.path}" for file in files),
        f"  {len(files)} files, {size:,} bytes",
        f"Model id (hash of the manifest): {found.digest.hex()}",
        *([f"Written to {output}"] if output is not None else []),
    ]
    session.out.result({"model_id": found.digest.hex(), "manifest": found.to_json()}, "\n".join(shown))


@app.command()
def check(
    path: Folder,
    manifest_file: Annotated[Path, typer.Argument(metavar="MANIFEST", help="A manifest's file.")],
    as_json: Json = False,
) -> None:
    """Compare a model's files with a manifest, file by file. Fails when anything differs."""
    run(lambda session: _check(session, path, manifest_file), as_json=as_json)


async def _check(session: Session, path: Path, manifest_file: Path) -> None:
    from cocoon_sdk.verify.file_hashes import FileHasher, in_thread
    from cocoon_sdk.verify.model_files import check_model, read_manifest

    wanted = read_manifest(manifest_file)
    with _bar(session.out, (path / file.path for file in wanted.files)) as progress:
        differences = await in_thread(lambda tell: check_model(path, wanted, FileHasher(), tell), progress)
    document = {
        "model_id": wanted.digest.hex(),
        "name": wanted.name,
        "same": not differences,
        "differences": [
            {"path": each.path, "problem": each.problem.value, "detail": each.detail} for each in differences
        ],
    }
    lines = [f"  {each}" for each in differences]
    verdict = f"{path} is not {wanted.name}:" if lines else f"{path} is {wanted.name}, all of it."
    session.out.result(document, "\n".join([verdict, *lines, f"Model id: {wanted.digest.hex()}"]))
    if differences:
        raise typer.Exit(1)


@contextmanager
def _bar(out: Output, paths: Iterable[Path]) -> Iterator[FileProgress]:
    """Show how far hashing is: a bar on a terminal, a line elsewhere."""
    from cocoon_sdk.verify.file_hashes import total_bytes

    total = total_bytes(paths)
    if not out.stderr.is_terminal:
        with out.step(f"Hashing {total:,} bytes"):
            yield lambda name, count: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out.stderr, transient=True) as progress:
        task = progress.add_task("hashing", total=total)
        yield lambda name, count: progress.update(task, advance=count, description=name)


def _write(path: Path, data: bytes) -> None:
    from cocoon_sdk.errors import ConfigError

    try:
        path.write_bytes(data + b"\n")
    except OSError as error:
        raise ConfigError(f"cannot write {path}", why=error.strerror or type(error).__name__) from None


def _words(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
