"""The packaged configuration and its README agree, and single parameters can be read and replaced."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files

import pytest
from pytoniq_core import begin_cell

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.sandbox import NetworkConfig

FOLDER = files("cocoon_sdk.sandbox.config")


def test_readme_can_be_trusted_when_it_describes_the_file() -> None:
    readme = FOLDER.joinpath("README.md").read_text()
    config = NetworkConfig.mainnet()
    file_hash, root_hash = hashlib.sha256(FOLDER.joinpath("mainnet.boc").read_bytes()), config.cell.hash
    assert file_hash.hexdigest() in readme
    assert root_hash.hex() in readme
    version = re.search(r"global version \(ConfigParam 8\) \| (\d+)", readme)
    network = re.search(r"global id \(ConfigParam 19\) \| (-?\d+)", readme)
    assert version is not None
    assert network is not None
    assert (config.global_version, config.global_id) == (int(version[1]), int(network[1])) == (12, -239)


def test_parameter_can_be_read_when_set() -> None:
    config = NetworkConfig.mainnet()
    gas = config.param(21)
    assert gas is not None
    assert gas.begin_parse().load_uint(8) == 0xD1
    assert config.param(-71) is not None
    assert config.param(77) is None
    assert config.param(43) is None


def test_parameter_can_be_replaced_when_another_network_is_wanted() -> None:
    mainnet = NetworkConfig.mainnet()
    value = begin_cell().store_uint(5, 8).end_cell()
    changed = mainnet.replace(77, value)
    assert changed.param(77) == value
    assert changed.param(20) == mainnet.param(20)
    assert mainnet.param(77) is None


@pytest.mark.parametrize("boc", [b"", b"\x00" * 20, b"not a bag of cells"])
def test_configuration_cannot_be_read_when_it_is_no_bag_of_cells(boc: bytes) -> None:
    with pytest.raises(MalformedError):
        NetworkConfig.from_boc(boc)
