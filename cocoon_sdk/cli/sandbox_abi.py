"""Names for opcodes and exit codes of Cocoon's own contract suite, for traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cocoon_sdk.sandbox.trace import Names


def suite_names() -> Names:
    """Return the names of Cocoon's own contract suite."""
    from cocoon_sdk.protocol.exit_codes import ExitCode
    from cocoon_sdk.protocol.opcodes import OP_NAMES
    from cocoon_sdk.sandbox.trace import Names

    return Names(ops=OP_NAMES, exit_codes={code.value: code.name for code in ExitCode})
