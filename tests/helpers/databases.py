"""Databases for tests: each kind there is, empty, and gone afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.helpers.postgres import NoPostgresError, postgres_database, programs

KINDS: Final = ("sqlite", "postgres")


@contextmanager
def database_place(kind: str, folder: Path) -> Iterator[str]:
    """Yield what `open_database` takes for an empty database of that kind."""
    if kind == "sqlite":
        yield str(folder / "client.db")
        return
    try:
        programs()
    except NoPostgresError as error:
        if os.environ.get("CI"):
            raise  # there it is installed: leaving it out would hide that it broke
        pytest.skip(str(error))
    with postgres_database() as url:
        yield url
