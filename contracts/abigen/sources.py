"""What the ABI does not carry, read from the Tact sources: exit codes, constants, documentation comments.

The rules are narrow on purpose: one `const Name: Int = ...;` per line, the comment directly above it.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from abigen.model import AbiError

_CONST = re.compile(r"^const\s+([A-Za-z]\w*)\s*:\s*(\w+)\s*=\s*(.*?)\s*;\s*(?://.*)?$")
_DECLARATION = re.compile(r"^(?:message\b\s*(?:\([^)]*\))?|struct\b)\s*([A-Za-z]\w*)")
_FIELD = re.compile(r"^\s+([A-Za-z]\w*)\s*:")
_TLB_START = re.compile(r"^[a-z_]\w*[#$]\w*\s")
_TON = re.compile(r"ton\(\s*\"([0-9.]+)\"\s*\)")
_FIRST_CODE, _LAST_CODE = 1000, 1499
_BANDS = {1000: "common", 1100: "registry", 1200: "stake", 1300: "escrow", 1400: "sessions"}


@dataclass(frozen=True)
class ErrorConst:
    """One exit code: `why` is the comment's first sentence, `hint` the rest."""

    name: str
    code: int
    why: str
    hint: str

    @property
    def band(self) -> str:
        """The part of the suite that throws it."""
        return _BANDS[self.code // 100 * 100]


@dataclass(frozen=True)
class IntConst:
    """One constant; `money` when it is written as ton("..."), `hex` when in hexadecimal."""

    name: str
    value: int
    money: bool
    doc: str
    hex: bool = False


@dataclass(frozen=True)
class TypeDoc:
    """Comments of a struct or message and of its fields (camelCase names)."""

    text: str
    fields: dict[str, str]


def _consts(path: Path) -> list[tuple[int, str, str, str, str]]:
    """Return (line number, name, type, expression, comment) of every constant of a file."""
    result = []
    comment: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("///"):
            comment.append(line[3:].strip())
            continue
        match = _CONST.match(line)
        if match:
            result.append((number, *match.groups(), " ".join(comment)))
        elif line.startswith("const"):
            raise AbiError(f"{path.name}:{number}: write it on one line as `const Name: Int = number;`")
        comment = []
    return result


def read_errors(path: Path) -> list[ErrorConst]:
    """Return the exit codes of errors.tact, in order of their number. Raises `AbiError`."""
    found: dict[int, ErrorConst] = {}
    names = set()
    for number, name, type_, expression, comment in _consts(path):
        where = f"{path.name}:{number}"
        if not name.startswith("Err") or type_ != "Int" or not expression.isdigit():
            raise AbiError(f"{where}: an exit code reads `const ErrName: Int = 1000;`")
        code = int(expression)
        if not _FIRST_CODE <= code <= _LAST_CODE:
            raise AbiError(
                f"{where}: {name} = {code} is outside the bands {_FIRST_CODE}..{_LAST_CODE} ({_BANDS})"
            )
        if code in found:
            raise AbiError(f"{where}: {name} and {found[code].name} are both {code}; choose a free number")
        if name in names:
            raise AbiError(f"{where}: {name} is declared twice")
        if not comment:
            raise AbiError(f"{where}: {name} needs a `///` line above it: why it is thrown, then what to do")
        why, _, hint = comment.partition(". ")
        found[code] = ErrorConst(name.removeprefix("Err"), code, why.rstrip("."), hint.rstrip("."))
        names.add(name)
    return [found[code] for code in sorted(found)]


def read_constants(paths: list[Path]) -> list[IntConst]:
    """Return the integer constants of some files, in order. Raises `AbiError`."""
    result: dict[str, IntConst] = {}
    for path in paths:
        for number, name, type_, expression, comment in _consts(path):
            where = f"{path.name}:{number}"
            if type_ != "Int":
                raise AbiError(f"{where}: {name} is {type_}; only Int constants can be exported to Python")
            if name in result:
                raise AbiError(f"{where}: {name} is declared twice")
            value = _evaluate(where, expression, result)
            in_hex = expression.startswith("0x") and expression.isalnum()
            result[name] = IntConst(name, value, bool(_TON.search(expression)), comment, in_hex)
    return list(result.values())


def _evaluate(where: str, expression: str, known: dict[str, IntConst]) -> int:
    """Evaluate + - * over integers, ton("...") and constants above."""
    text = _TON.sub(lambda match: str(_nano(where, match.group(1))), expression)

    def value(node: ast.expr) -> int:
        match node:
            case ast.Constant(value=int() as number) if not isinstance(number, bool):
                return number
            case ast.Name(id=name) if name in known:
                return known[name].value
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return value(left) + value(right)
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                return value(left) - value(right)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return value(left) * value(right)
        raise AbiError(
            f'{where}: {expression!r} is not a number, ton(".."), or + - * of those and constants above'
        )

    try:
        return value(ast.parse(text, mode="eval").body)
    except SyntaxError:
        raise AbiError(f"{where}: {expression!r} cannot be read as a number") from None


def _nano(where: str, amount: str) -> int:
    nano = Decimal(amount) * 10**9
    if nano != nano.to_integral_value():
        raise AbiError(f"{where}: ton({amount!r}) has more than nine decimals")
    return int(nano)


def read_docs(paths: list[Path]) -> dict[str, TypeDoc]:
    """Return the prose above every struct and message and above their fields; TL-B text is left out."""
    docs: dict[str, TypeDoc] = {}
    for path in paths:
        comment: list[str] = []
        current: TypeDoc | None = None
        for line in path.read_text(encoding="utf-8").splitlines():
            stripped = line.strip()
            if stripped.startswith("///"):
                comment.append(stripped[3:].strip())
                continue
            declaration = _DECLARATION.match(line)
            field = _FIELD.match(line)
            if declaration:
                current = docs[declaration.group(1)] = TypeDoc(_prose(comment), {})
            elif field and current is not None and comment:
                current.fields[field.group(1)] = _prose(comment)
            if stripped.endswith("}"):
                current = None
            comment = []
    return docs


def _prose(comment: list[str]) -> str:
    for index, line in enumerate(comment):
        if _TLB_START.match(line + " "):
            comment = comment[:index]
            break
    return " ".join(comment)
