"""The one place that imports the TVM engine (tonpy's C++ module).

Owns the explanation when it is not installed, and its verbosity. Everybody else in the sandbox takes the
engine's names from here.
"""

from __future__ import annotations

from cocoon_sdk.errors import ConfigError

try:
    from tonpy.libs.python_ton import (
        PyCellBuilder,
        PyDict,
        PyEmulator,
        PyStack,
        PyStackEntry,
        PyTVM,
        deserialize_stack,
        globalSetVerbosity,
        load_as_cell_slice,
        make_tuple,
        method_name_to_id,
        parse_string_to_cell,
    )
except ImportError as error:
    raise ConfigError(
        "the sandbox cannot start",
        why=f"its TVM engine does not import ({error})",
        hint="install it with: pip install 'cocoon-sdk[sandbox]'",
    ) from error

# The engine writes diagnostics of its own to stderr; everything of use comes back as errors instead.
globalSetVerbosity(0)

__all__ = [
    "PyCellBuilder",
    "PyDict",
    "PyEmulator",
    "PyStack",
    "PyStackEntry",
    "PyTVM",
    "deserialize_stack",
    "load_as_cell_slice",
    "make_tuple",
    "method_name_to_id",
    "parse_string_to_cell",
]
