"""One running sandbox for each file of tests, taken back after each test."""

import pytest


@pytest.fixture
def sandbox(module_sandbox):
    """Take the place of the package's `sandbox`; everything that builds on it follows."""
    with module_sandbox.isolated() as sandbox:
        yield sandbox
