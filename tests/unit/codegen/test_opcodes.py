"""The opcode rule: CRC32 of the TL-B line, checked and repaired in place."""

from pathlib import Path
from zlib import crc32

import pytest

from tests.unit.codegen.sampled import CONTRACTS  # puts contracts/ on the path

import opcodes  # isort: skip

PLAIN = """\
/// Pays the worker.
/// pay_out#_ query_id:uint64
///   amount:Coins = InMsg;
message(0x0) PayOut {
    queryId: Int as uint64;
    /// pay_out#_ is no TL-B here.
    amount: Int as coins;
}

/// header$_ tag:uint32 = Header;
struct Header { tag: Int as uint32; }
"""
OPCODE = crc32(b"pay_out query_id:uint64 amount:Coins = InMsg")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "messages.tact"
    path.write_text(PLAIN)
    return path


def test_author_can_repair_opcodes_when_they_are_missing(source: Path) -> None:
    assert opcodes.main([str(source)]) == 1
    assert opcodes.main(["--fix", str(source)]) == 0
    text = source.read_text()
    assert f"/// pay_out#{OPCODE:08x} query_id:uint64\n" in text
    assert f"message(0x{OPCODE:08x}) PayOut {{" in text
    assert opcodes.main([str(source)]) == 0
    assert len(opcodes.read_tlb(source)) == 2


def test_repair_cannot_change_anything_else_when_it_rewrites(source: Path) -> None:
    opcodes.fix(source)
    repaired = source.read_text().splitlines()
    assert [i for i, (a, b) in enumerate(zip(PLAIN.splitlines(), repaired, strict=True)) if a != b] == [1, 3]
    assert opcodes.fix(source) == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [("amount:Coins", "amount:uint64"), (f"#{OPCODE:08x}", "#00000001"), (f"(0x{OPCODE:08x})", "(0x1)")],
)
def test_check_can_fail_when_text_tag_or_number_differ(source: Path, old: str, new: str) -> None:
    opcodes.fix(source)
    source.write_text(source.read_text().replace(old, new, 1))
    assert opcodes.check(opcodes.read_tlb(source))


def test_check_can_fail_when_two_messages_share_an_opcode(source: Path) -> None:
    opcodes.fix(source)
    text = source.read_text()
    source.write_text(text + "\n" + text.replace("PayOut", "PayTwice").split("/// header")[0])
    assert any("share opcode" in complaint for complaint in opcodes.check(opcodes.read_tlb(source)))


@pytest.mark.parametrize(
    "text",
    [
        "message(0x1) Bare {\n}\n",
        "/// bare#_ a:uint8 = InMsg\nmessage(0x1) Bare {\n}\n",
        "/// bare#_ a:uint8 = InMsg;\n\nmessage(0x1) Bare {\n}\n",
        "/// bare#_ a:uint8 = InMsg; b\nmessage(0x1) Bare {\n}\n",
        "/// bare#_ a:uint8;\nmessage(0x1) Bare {\n}\n",
        "/// bare#_ a:uint8 = InMsg;\nmessage(crc32(1)) Bare {\n}\n",
    ],
)
def test_check_can_refuse_a_message_when_its_tlb_cannot_be_read(source: Path, text: str) -> None:
    source.write_text(text)
    assert opcodes.main([str(source)]) == 1


@pytest.mark.skipif(not (CONTRACTS / "messages.tact").exists(), reason="an sdist without the Tact sources")
def test_suite_can_pass_the_opcode_rule_when_released() -> None:
    assert opcodes.main([str(CONTRACTS / "messages.tact")]) == 0
