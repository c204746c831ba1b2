"""The compiled ABI as structs with a cell layout, and getters.

Owns reading `<Name>.abi.json` and Tact's allocation rules. It must not know Python code generation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

_ROOT_BITS, _CELL_BITS = 1022, 1023  # Tact keeps one bit and one reference of the first cell back
_ROOT_REFS, _CELL_REFS = 3, 4
_OPCODE_BITS = 32
_DATA = "$Data"


class AbiError(Exception):
    """The ABIs cannot be turned into Python; the text says where, why and what to do."""


@dataclass(frozen=True)
class Simple:
    """A primitive or struct type; `kind` is the ABI's type name, `format` its storage format."""

    kind: str
    format: str | int | None
    optional: bool


@dataclass(frozen=True)
class Map:
    """A map with an integer or address key."""

    key: Simple
    value: Simple


Type = Simple | Map


@dataclass(frozen=True)
class Field:
    """A field as the ABI names it (camelCase)."""

    name: str
    type: Type


@dataclass(frozen=True)
class StructDef:
    """A struct, a message (`opcode` is set) or a contract's data (`is_data`)."""

    name: str
    opcode: int | None
    fields: tuple[Field, ...]
    is_data: bool = False


@dataclass(frozen=True)
class Getter:
    """A get-method of a contract."""

    name: str
    method_id: int
    arguments: tuple[Field, ...]
    returns: Type | None


@dataclass(frozen=True)
class Contract:
    """What one ABI says besides its types."""

    name: str
    getters: tuple[Getter, ...]


@dataclass(frozen=True)
class Suite:
    """All ABIs together. `structs` is ordered so that every struct follows those it contains."""

    contracts: tuple[Contract, ...]
    structs: dict[str, StructDef]
    errors: dict[int, str]

    def layout(self, struct: StructDef) -> list[list[Field]]:
        """Return the fields per cell: the cell itself, then its tail cells."""
        reserved_bits = _OPCODE_BITS if struct.opcode is not None else 0
        reserved_refs = 1 if struct.is_data else 0
        cells = self._segment(list(struct.fields), _ROOT_BITS - reserved_bits, _ROOT_REFS - reserved_refs)
        if struct.is_data and cells != self._segment(list(struct.fields), _ROOT_BITS - 1, _ROOT_REFS - 1):
            raise AbiError(
                f"{struct.name}: Tact lays the initial data out differently from the stored data, because it "
                f"fills the cell to its last bit. Move a field into a reference"
            )
        return cells

    def _segment(self, fields: list[Field], bits: int, refs: int) -> list[list[Field]]:
        sizes = [self._size(field.type) for field in fields]
        if sum(b for b, _ in sizes) > bits or sum(r for _, r in sizes) > refs:
            refs -= 1  # the link to the tail cell
        here: list[Field] = []
        for index, (field, (need_bits, need_refs)) in enumerate(zip(fields, sizes, strict=True)):
            if need_bits > bits or need_refs > refs:
                return [here, *self._segment(fields[index:], _CELL_BITS, _CELL_REFS)]
            bits -= need_bits
            refs -= need_refs
            here.append(field)
        return [here]

    def _struct_size(self, name: str) -> tuple[int, int]:
        struct = self.structs[name]
        cells = self.layout(struct)
        sizes = [self._size(field.type) for field in cells[0]]
        return (
            sum(b for b, _ in sizes) + (_OPCODE_BITS if struct.opcode is not None else 0),
            sum(r for _, r in sizes) + (1 if len(cells) > 1 else 0),
        )

    def _size(self, type_: Type) -> tuple[int, int]:
        """Bits and references that Tact sets aside for a field."""
        if isinstance(type_, Map):
            return 1, 1
        maybe = int(type_.optional)
        if type_.kind in ("int", "uint"):
            if isinstance(type_.format, int):
                return type_.format + maybe, 0
            by_name = {"coins": 124, "varint16": 124, "varuint16": 124, "varint32": 253, "varuint32": 253}
            if isinstance(type_.format, str):
                return by_name[type_.format] + maybe, 0
            return (257 if type_.kind == "int" else 256) + maybe, 0
        if type_.kind == "bool":
            return 1 + maybe, 0
        if type_.kind == "address":
            return 267, 0
        if type_.kind in ("cell", "slice", "builder", "string"):
            return (0, 0) if type_.format == "remainder" else (maybe, 1)
        if type_.kind == "fixed-bytes" and isinstance(type_.format, int):
            return type_.format * 8 + maybe, 0
        bits, refs = self._struct_size(type_.kind)
        return bits + maybe, refs


def load_suite(folder: Path, order: list[str]) -> Suite:
    """Read every ABI in a folder, the contracts named in `order` first. Raises `AbiError`."""
    paths = sorted(folder.glob("*.abi.json"), key=lambda path: (_rank(path, order), path.name))
    if not paths:
        raise AbiError(f"no *.abi.json in {folder.name}: run contracts/build.sh")
    contracts: list[Contract] = []
    found: dict[str, StructDef] = {}
    errors: dict[int, str] = {}
    for path in paths:
        abi = json.loads(path.read_text(encoding="utf-8"))
        for raw in abi["types"]:
            struct = _struct(raw)
            if found.setdefault(struct.name, struct) != struct:
                raise AbiError(
                    f"{path.name}: {struct.name} differs from the type of that name in another ABI"
                )
        contracts.append(Contract(abi["name"], tuple(_getter(abi["name"], raw) for raw in abi["getters"])))
        for code, entry in abi["errors"].items():
            if errors.setdefault(int(code), entry["message"]) != entry["message"]:
                raise AbiError(f"{path.name}: exit code {code} has two texts")
    return Suite(tuple(contracts), _ordered(found), errors)


def _rank(path: Path, order: list[str]) -> int:
    name = path.name.removesuffix(".abi.json")
    return order.index(name) if name in order else len(order)


def _struct(raw: dict) -> StructDef:  # type: ignore[type-arg]
    name = raw["name"]
    fields = tuple(Field(field["name"], _type(name, field["type"])) for field in raw["fields"])
    for field in fields[:-1]:
        if isinstance(field.type, Simple) and field.type.format == "remainder":
            raise AbiError(f"{name}.{field.name}: only the last field may be `as remaining`")
    is_data = name.endswith(_DATA)
    return StructDef(name.removesuffix(_DATA) + ("Data" if is_data else ""), raw["header"], fields, is_data)


def _getter(contract: str, raw: dict) -> Getter:  # type: ignore[type-arg]
    where = f"{contract}.{raw['name']}"
    return Getter(
        raw["name"],
        raw["methodId"],
        tuple(Field(argument["name"], _type(where, argument["type"])) for argument in raw["arguments"]),
        None if raw["returnType"] is None else _type(where, raw["returnType"]),
    )


def _type(where: str, raw: dict) -> Type:  # type: ignore[type-arg]
    if raw["kind"] == "dict":
        value = raw.get("valueFormat")
        return Map(
            Simple(raw["key"], raw.get("keyFormat"), False),
            # "ref" is how the ABI says that cells and structs of a map lie in a reference; they always do
            Simple(raw["value"], None if value == "ref" else value, False),
        )
    kind = raw["type"]
    if raw.get("format") == "ref":
        raise AbiError(
            f"{where}: the Tact compiler does not implement `as reference`; declare the field as Cell"
        )
    return Simple(
        kind.removesuffix(_DATA) + ("Data" if kind.endswith(_DATA) else ""),
        raw.get("format"),
        raw["optional"],
    )


def inner_structs(struct: StructDef) -> list[str]:
    """Return the capitalised type names that a struct's fields use."""
    kinds = [
        field.type.value.kind if isinstance(field.type, Map) else field.type.kind for field in struct.fields
    ]
    return [kind for kind in kinds if kind[0].isupper()]


def _ordered(found: dict[str, StructDef]) -> dict[str, StructDef]:
    done: dict[str, StructDef] = {}

    def visit(name: str, inside: tuple[str, ...]) -> None:
        if name in done:
            return
        if name in inside:
            raise AbiError(f"struct {name} contains itself")
        if name not in found:
            raise AbiError(f"{inside[-1]} uses {name}, which no ABI describes")
        for inner in inner_structs(found[name]):
            visit(inner, (*inside, name))
        done[name] = found[name]

    for name in found:
        visit(name, ())
    return done
