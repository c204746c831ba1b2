"""Keep opcodes equal to the CRC32 of the TL-B line above each message.

Owns the reading of TL-B comments in Tact sources: the check (and, with `--fix`, the repair) of message
opcodes. It does not know the compiled ABI; `generate.py` does.

    python contracts/opcodes.py contracts/messages.tact          # check, exit 1 on a difference
    python contracts/opcodes.py --fix contracts/messages.tact    # rewrite the numbers in place

The TL-B text stands in `///` lines directly above `message(0x...) Name {`, over as many lines as it needs,
and ends with `;`. Lines of prose may stand above it. The opcode is the CRC32 of
`name field:type ... = Type`: without the `#tag`, single spaces, without the final `;`.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

_DECLARATION = re.compile(r"^(message|struct)\b\s*(?:\(\s*([^)]*?)\s*\))?\s*([A-Za-z_]\w*)")
_COMMENT = re.compile(r"^\s*///\s?(.*?)\s*$")
_TAGGED = re.compile(r"^([a-z]\w*)([#$](?:[0-9a-fA-F]+|_)?)(?=\s|$)")
_UNTAGGED = re.compile(r"^([a-z]\w*)(?=\s+(?:\w+:\S|=|\^\[|\{))")


class OpcodeError(Exception):
    """The sources break the opcode rule; the text says where, why and what to do."""


@dataclass(frozen=True, slots=True)
class TlbLine:
    """One TL-B declaration in a Tact source: `kind` is "message" or "struct", lines count from 0."""

    path: Path
    kind: str
    type_name: str
    text: str
    number: int | None
    comment_line: int
    declaration_line: int

    @property
    def opcode(self) -> int:
        """CRC32 of the normalised text."""
        return opcode_of(self.text)

    @property
    def where(self) -> str:
        """`file:line` of the declaration, for messages to people."""
        return f"{self.path.name}:{self.declaration_line + 1}"


def normalise(text: str) -> str:
    """Return the TL-B text without tag and final `;`, with single spaces."""
    text = " ".join(text.split())
    if not text.endswith(";"):
        raise OpcodeError(f"TL-B text does not end with ';': {text!r}")
    text = text[:-1].rstrip()
    return _TAGGED.sub(r"\1", text, count=1)


def opcode_of(text: str) -> int:
    """Return the 32-bit opcode of a TL-B declaration."""
    return crc32(normalise(text).encode("ascii"))


def read_tlb(path: Path) -> list[TlbLine]:
    """Return every TL-B declaration of one Tact file; every `message` must have one."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found = []
    for index, line in enumerate(lines):
        declaration = _DECLARATION.match(line)
        if not declaration:
            if re.match(r"message\b", line):
                raise OpcodeError(
                    f"{path.name}:{index + 1}: write it as `message(0x...) Name {{` on one line"
                )
            continue
        kind, argument, name = declaration.groups()
        first = _tlb_start(lines, index)
        if first is None:
            if kind == "message":
                raise OpcodeError(
                    f"{path.name}:{index + 1}: message {name} has no TL-B line directly above it. "
                    f"Write `/// snake_name query_id:uint64 ... = InMsg;` and run opcodes.py --fix"
                )
            continue
        text = " ".join(_comment(lines[i]) for i in range(first, index))
        text = " ".join(text.split())
        if not text.endswith(";") or ";" in text[:-1] or not text.isascii() or "=" not in text:
            raise OpcodeError(
                f"{path.name}:{first + 1}: the TL-B text of {name} must be ASCII, hold `= Type` and exactly "
                f"one ';' at its end, directly above the declaration; prose goes above it"
            )
        found.append(TlbLine(path, kind, name, text, _number(path, index, argument), first, index))
    return found


def check(entries: list[TlbLine]) -> list[str]:
    """Return one complaint per message whose tag or number is not its CRC32 or is not unique."""
    complaints = []
    seen: dict[int, TlbLine] = {}
    for entry in entries:
        if entry.kind != "message":
            continue
        opcode = entry.opcode
        if entry.number != opcode:
            shown = "none" if entry.number is None else f"{entry.number:#010x}"
            complaints.append(
                f"{entry.where}: {entry.type_name} has opcode {shown}, its TL-B line says {opcode:#010x}"
            )
        tag = _TAGGED.match(entry.text)
        if not tag or tag.group(2) != f"#{opcode:08x}":
            complaints.append(f"{entry.where}: the TL-B tag of {entry.type_name} must be #{opcode:08x}")
        if opcode == 0:
            complaints.append(
                f"{entry.where}: {entry.type_name} has opcode 0, which means a text comment; rename a field"
            )
        if opcode in seen:
            complaints.append(
                f"{entry.where}: {entry.type_name} and {seen[opcode].type_name} ({seen[opcode].where}) share "
                f"opcode {opcode:#010x}; rename a field"
            )
        seen.setdefault(opcode, entry)
    return complaints


def fix(path: Path) -> int:
    """Rewrite tags and numbers of one file in place; return how many lines changed."""
    original = path.read_text(encoding="utf-8")
    lines = original.splitlines(keepends=True)
    changed = 0
    for entry in read_tlb(path):
        if entry.kind != "message":
            continue
        tag = f"#{entry.opcode:08x}"
        head = lines[entry.comment_line]
        at = head.index("///") + 3
        at += len(head[at:]) - len(head[at:].lstrip())
        new_head = head[:at] + re.sub(
            r"^([a-z]\w*)([#$](?:[0-9a-fA-F]+|_)?)?", rf"\g<1>{tag}", head[at:], count=1
        )
        old_declaration = lines[entry.declaration_line]
        new_declaration = re.sub(
            r"^message\b\s*(?:\([^)]*\))?\s*", f"message(0x{entry.opcode:08x}) ", old_declaration, count=1
        )
        changed += (new_head != head) + (new_declaration != old_declaration)
        lines[entry.comment_line], lines[entry.declaration_line] = new_head, new_declaration
    if changed:
        path.write_text("".join(lines), encoding="utf-8")
    return changed


def _comment(line: str) -> str:
    match = _COMMENT.match(line)
    return match.group(1) if match else ""


def _tlb_start(lines: list[str], declaration: int) -> int | None:
    """Index of the comment line where the TL-B text above a declaration begins, or None without one."""
    top = declaration
    while top > 0 and _COMMENT.match(lines[top - 1]):
        top -= 1
    for pattern in (_TAGGED, _UNTAGGED):
        for index in range(top, declaration):
            if pattern.match(_comment(lines[index]).strip()):
                return index
    return None


def _number(path: Path, index: int, argument: str | None) -> int | None:
    if argument is None:
        return None
    try:
        return int(argument.replace("_", ""), 0)
    except ValueError:
        raise OpcodeError(
            f"{path.name}:{index + 1}: opcode {argument!r} is not a number; run opcodes.py --fix"
        ) from None


def main(argv: list[str]) -> int:
    """Check or fix the given files; return the exit status."""
    paths = [Path(argument) for argument in argv if argument != "--fix"]
    if not paths or any(argument.startswith("-") and argument != "--fix" for argument in argv):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        if "--fix" in argv:
            for path in paths:
                print(f"{path.name}: {fix(path)} lines changed")
        complaints = check([entry for path in paths for entry in read_tlb(path)])
    except OpcodeError as error:
        complaints = [str(error)]
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    if complaints and "--fix" not in argv:
        print("run: python contracts/opcodes.py --fix " + " ".join(map(str, paths)), file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
