"""Generate the Python side of the suite from the compiled ABIs and the Tact sources.

    python contracts/generate.py [--artifacts DIR] [--protocol DIR] [--schema FILE] [--sources DIR]

Writes messages.py, getters.py, opcodes.py, exit_codes.py and constants.py into the protocol folder, and
schema.tlb. `contracts/build.sh` runs it after the compiler; `contracts/check.sh` proves that what is
committed is what comes out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import opcodes
from abigen import emit, sources, tlb
from abigen.model import AbiError, Suite, load_suite

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ORDER = ["Registry", "WorkerStake", "Escrow", "Market"]


def generate(artifacts: Path, source: Path) -> tuple[dict[str, str], str]:
    """Return {module name: text} and the text of schema.tlb. Raises `AbiError` or `OpcodeError`."""
    suite = load_suite(artifacts, ORDER)
    tact = sorted(source.glob("*.tact"))
    lines = [line for path in tact for line in opcodes.read_tlb(path)]
    complaints = opcodes.check(lines) + tlb.check_lines(suite, lines)
    if complaints:
        raise AbiError("\n".join(complaints))
    errors = source / "errors.tact"
    shared = [path for name in ("constants.tact", "messages.tact") if (path := source / name).exists()]
    modules = {
        "messages.py": emit.messages(suite, sources.read_docs(tact), _wire(suite, lines)),
        "getters.py": emit.getters(suite),
        "opcodes.py": emit.opcodes(suite),
        "exit_codes.py": emit.exit_codes(
            sources.read_errors(errors) if errors.exists() else [], suite.errors
        ),
        "constants.py": emit.constants(sources.read_constants(shared)),
    }
    return {name: tidy(name, text) for name, text in modules.items()}, tlb.schema(suite, lines)


def _wire(suite: Suite, lines: list[opcodes.TlbLine]) -> dict[str, str]:
    written = {line.type_name: line.text for line in lines}
    return {
        name: written.get(name) or tlb.struct_text(suite, struct) for name, struct in suite.structs.items()
    }


def tidy(name: str, text: str) -> str:
    """Return the text without unused imports and as `ruff format` leaves it."""
    for step in (["check", "--select", "F401,I", "--fix"], ["format"]):
        command = [sys.executable, "-m", "ruff", *step, "--config", str(ROOT / "pyproject.toml"), "--quiet"]
        done = subprocess.run(
            [*command, "--stdin-filename", str(ROOT / "cocoon_sdk" / "protocol" / name), "-"],
            input=text,
            text=True,
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            raise AbiError(f"ruff {step[0]} fails on {name}: {done.stderr.strip() or done.stdout.strip()}")
        text = done.stdout
    return text


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Generate the Python side of the suite.")
    parser.add_argument("--artifacts", type=Path, default=ROOT / "cocoon_sdk" / "contracts" / "artifacts")
    parser.add_argument("--protocol", type=Path, default=ROOT / "cocoon_sdk" / "protocol")
    parser.add_argument("--schema", type=Path, default=HERE / "schema.tlb")
    parser.add_argument("--sources", type=Path, default=HERE)
    options = parser.parse_args()
    try:
        modules, schema = generate(options.artifacts, options.sources)
    except (AbiError, opcodes.OpcodeError) as error:
        print(f"generate.py: {error}", file=sys.stderr)
        return 1
    for name, text in modules.items():
        (options.protocol / name).write_text(text, encoding="utf-8")
    options.schema.write_text(schema, encoding="utf-8")
    print(f"generated {', '.join(modules)} and {options.schema.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
