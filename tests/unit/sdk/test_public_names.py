"""The names that users import: sorted, all there, cheap to ask for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cocoon_sdk
import cocoon_sdk.client
import cocoon_sdk.history


@pytest.mark.parametrize("module", [cocoon_sdk, cocoon_sdk.client, cocoon_sdk.history])
def test_user_can_import_every_public_name(module: object) -> None:
    names = vars(module)["__all__"]
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(module, name) is not None


def test_public_names_are_sorted() -> None:
    assert cocoon_sdk.__all__ == sorted(cocoon_sdk.__all__)
    assert dir(cocoon_sdk) == cocoon_sdk.__all__


def test_user_cannot_import_a_name_that_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        cocoon_sdk.Nothing  # noqa: B018


def test_importing_the_package_loads_neither_client_nor_sandbox() -> None:
    script = (
        "import sys, cocoon_sdk; "
        "print(any(name.startswith(('cocoon_sdk.client', 'cocoon_sdk.sandbox')) for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
