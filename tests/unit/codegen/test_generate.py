"""The generator refuses what would drift or mislead, and gives exactly what is committed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cocoon_sdk.contracts import code
from cocoon_sdk.errors import CocoonError
from cocoon_sdk.protocol import exit_codes, messages, opcodes
from cocoon_sdk.protocol.abi_runtime import Struct
from tests.unit.codegen.sampled import CONTRACTS, MODULES, SCHEMA
from tests.unit.codegen.sampled import exit_codes as sample_exit_codes
from tests.unit.codegen.sampled import messages as sample_messages
from tests.unit.codegen.tvm import SAMPLE

import generate  # isort: skip
from abigen import emit, sources  # isort: skip
from abigen.model import AbiError, load_suite  # isort: skip

ROOT = CONTRACTS.parent
Edit = Callable[[dict[str, Any]], None]


def _abi(folder: Path, name: str, edit: Edit) -> None:
    abi = json.loads((SAMPLE / "Sample.abi.json").read_text())
    edit(abi)
    (folder / f"{name}.abi.json").write_text(json.dumps(abi))


def _type(abi: dict[str, Any], name: str) -> dict[str, Any]:
    return next(type_ for type_ in abi["types"] if type_["name"] == name)


# -- what is committed -------------------------------------------------------------------------------------


def test_generated_files_can_be_made_again_when_nothing_changed() -> None:
    modules, schema = generate.generate(ROOT / "cocoon_sdk" / "contracts" / "artifacts", CONTRACTS)
    stale = [n for n, t in modules.items() if (ROOT / "cocoon_sdk" / "protocol" / n).read_text() != t]
    assert (stale, (CONTRACTS / "schema.tlb").read_text() == schema) == ([], True), "run make contracts"


def test_abi_and_messages_can_agree_when_built_together() -> None:
    for name in code.NAMES:
        abi = code.abi(name)
        assert abi["name"] == name
        for type_ in abi["types"]:
            if type_["header"] is not None:
                message = messages.MESSAGES[type_["header"]]
                assert (message.__name__, message.OPCODE) == (type_["name"], type_["header"])
                assert opcodes.OP_NAMES[message.OPCODE] == type_["name"]


def test_code_can_be_read_when_the_contract_is_of_the_suite() -> None:
    hashes = {code.code_hash(name) for name in code.NAMES}
    assert len(hashes) == len(code.NAMES)
    assert all(len(value) == 32 for value in hashes)
    assert all(0 < code.code_depth(name) < 512 for name in code.NAMES)


@pytest.mark.parametrize("name", ["Wallet", "../code", "escrow", ""])
def test_code_cannot_be_read_when_the_contract_is_unknown(name: str) -> None:
    with pytest.raises(code.UnknownContractError):
        code.code_cell(name)


# -- messages ----------------------------------------------------------------------------------------------


def test_field_names_cannot_hide_the_methods_of_a_struct() -> None:
    assert {name for name in dir(Struct) if not name.startswith("_")} - {"LAYOUT"} == set(emit.RESERVED)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("queryId", "query_id"),
        ("hashA", "hash_a"),
        ("from", "from_"),
        ("load", "load_"),
        ("urlHTTPCode", "url_http_code"),
    ],
)
def test_names_can_be_python_when_they_come_from_tact(name: str, expected: str) -> None:
    assert emit.python_name(name) == expected


def test_messages_can_be_found_by_opcode_when_generated() -> None:
    assert sample_messages.MESSAGES[sample_messages.Small.OPCODE] is sample_messages.Small
    assert sample_messages.Small(query_id=1, flag=True) == sample_messages.Small(query_id=1, flag=True)
    assert "small#" in SCHEMA
    assert "inner$_ id:uint32 who:MsgAddressInt body:^Cell = Inner;" in SCHEMA


def _wider(abi: dict[str, Any]) -> None:
    _type(abi, "Small")["fields"][0]["type"]["format"] = 32


def _by_reference(abi: dict[str, Any]) -> None:
    _type(abi, "Pair")["fields"][1]["type"]["format"] = "ref"


def _rest_first(abi: dict[str, Any]) -> None:
    _type(abi, "Cells")["fields"].reverse()


def _unknown(abi: dict[str, Any]) -> None:
    abi["types"] = [type_ for type_ in abi["types"] if type_["name"] != "Inner"]


def _circle(abi: dict[str, Any]) -> None:
    _type(abi, "Inner")["fields"].append(
        {"name": "pair", "type": {"kind": "simple", "type": "Pair", "optional": True}}
    )


def _require_text(abi: dict[str, Any]) -> None:
    abi["errors"]["23456"] = {"message": "no luck"}


def _struct_argument(abi: dict[str, Any]) -> None:
    abi["getters"][0]["arguments"][0]["type"]["type"] = "Inner"


def _twins(abi: dict[str, Any]) -> None:
    fields = _type(abi, "Wide")["fields"]
    fields[0]["name"], fields[1]["name"] = "someName", "some_name"


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (_wider, "TL-B line of Small"),
        (_by_reference, "as reference"),
        (_rest_first, "only the last field"),
        (_unknown, "no ABI describes"),
        (_circle, "contains itself"),
        (_require_text, "no luck"),
        (_struct_argument, "argument c"),
        (_twins, "some_name"),
    ],
)
def test_generator_can_refuse_an_abi_when_it_would_mislead(tmp_path: Path, edit: Edit, why: str) -> None:
    _abi(tmp_path, "Sample", edit)
    with pytest.raises(AbiError, match=why):
        generate.generate(tmp_path, SAMPLE)


def test_generator_can_refuse_two_abis_when_they_disagree(tmp_path: Path) -> None:
    shutil.copy(SAMPLE / "Sample.abi.json", tmp_path / "Other.abi.json")
    _abi(tmp_path, "Sample", _wider)
    with pytest.raises(AbiError, match="Small differs"):
        load_suite(tmp_path, [])


def test_generator_can_say_what_to_do_when_there_is_no_abi(tmp_path: Path) -> None:
    with pytest.raises(AbiError, match=r"run contracts/build\.sh"):
        load_suite(tmp_path, [])


# -- exit codes --------------------------------------------------------------------------------------------

ERRORS = """\
/// Only the owner may do this. Send it from the owner's wallet.
const ErrNotOwner: Int = 1001;

/// Too late: the
/// deadline has passed.
const ErrTooLate: Int = 1305;
"""


def test_exit_codes_can_carry_cause_and_hint_when_documented(tmp_path: Path) -> None:
    path = tmp_path / "errors.tact"
    path.write_text(ERRORS)
    owner, late = sources.read_errors(path)
    assert (owner.name, owner.code, owner.band) == ("NotOwner", 1001, "common")
    assert (owner.why, owner.hint) == ("Only the owner may do this", "Send it from the owner's wallet")
    assert (late.why, late.hint, late.band) == ("Too late: the deadline has passed", "", "escrow")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("/// x\nconst ErrTwice: Int = 1001;", "are both 1001"),
        ("/// x\nconst ErrNotOwner: Int = 1002;", "declared twice"),
        ("/// x\nconst ErrFar: Int = 1500;", "outside the bands"),
        ("/// x\nconst ErrLow: Int = 999;", "outside the bands"),
        ("const ErrMute: Int = 1003;", "needs a `///` line"),
        ("/// x\nconst Wrong: Int = 1003;", "reads `const ErrName"),
        ("/// x\nconst ErrSum: Int = 1000 + 3;", "reads `const ErrName"),
        ("/// x\nconst ErrOpen: Int =\n    1003;", "on one line"),
    ],
)
def test_exit_codes_can_be_refused_when_they_break_a_rule(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "errors.tact"
    path.write_text(f"{ERRORS}\n{line}\n")
    with pytest.raises(AbiError, match=why):
        sources.read_errors(path)


def test_exit_code_can_become_its_exception_when_named() -> None:
    error = exit_codes.error_for_exit_code(exit_codes.ExitCode.NOT_OWNER, "cannot withdraw")
    assert isinstance(error, exit_codes.NotOwnerError)
    assert isinstance(error, CocoonError)
    assert error.exit_code == 1001
    assert str(error).startswith("cannot withdraw: Only the owner")
    assert set(exit_codes.ERRORS) == set(exit_codes.ExitCode)
    assert all(number == cls.CODE for number, cls in exit_codes.ERRORS.items())


@pytest.mark.parametrize(
    ("number", "name"), [(-14, "OutOfGasError"), (13, "OutOfGasError"), (130, "UnknownMessageError")]
)
def test_builtin_exit_code_can_become_its_exception_when_thrown(number: int, name: str) -> None:
    assert type(sample_exit_codes.error_for_exit_code(number)).__name__ == name


def test_exit_code_can_become_a_plain_error_when_it_has_no_name() -> None:
    error = exit_codes.error_for_exit_code(777)
    assert (type(error).__name__, error.exit_code) == ("ContractError", 777)
    assert "777" in str(error)


# -- constants ---------------------------------------------------------------------------------------------


def test_constants_can_be_read_when_they_are_literals_and_sums_of_them(tmp_path: Path) -> None:
    path = tmp_path / "constants.tact"
    path.write_text(
        "/// Seconds.\nconst Day: Int = 86_400;\nconst Week: Int = 7 * Day; // seven\n"
        'const Purpose: Int = 0x45534358;\nconst Rent: Int = ton("0.05");\nconst Low: Int = -(Day + 1);\n'
    )
    found = {entry.name: (entry.value, entry.money) for entry in sources.read_constants([path])}
    assert found == {
        "Day": (86400, False),
        "Week": (604800, False),
        "Purpose": (0x45534358, False),
        "Rent": (50_000_000, True),
        "Low": (-86401, False),
    }
    text = emit.constants(sources.read_constants([path]))
    assert "RENT: Final = Nano(50000000)" in text
    assert "PURPOSE: Final = 0x45534358" in text


@pytest.mark.parametrize(
    "line",
    [
        "const A: Int = 5 / 2;",
        "const A: Int = Unknown;",
        "const A: Int = sha256(1);",
        'const A: Int = ton("0.0000000001");',
        "const A: Bool = true;",
        "const A: Int = 1;\nconst A: Int = 2;",
        "const A: Int = 1 +;",
    ],
)
def test_constants_can_be_refused_when_they_are_not_plain_numbers(tmp_path: Path, line: str) -> None:
    path = tmp_path / "constants.tact"
    path.write_text(line + "\n")
    with pytest.raises(AbiError):
        sources.read_constants([path])


def test_generated_text_cannot_name_this_machine_when_committed() -> None:
    for text in (*MODULES.values(), SCHEMA, (SAMPLE / "Sample.abi.json").read_text()):
        assert str(ROOT) not in text
