"""TL, the serialisation of TON's protocols: a codec per constructor, compiled from the schema once.

Owns the byte layout of TL's types. The schema itself (names, fields, constructor ids) is read from
pytoniq-core's package data, so nothing is copied by hand; pytoniq-core's own codec is not used because it
writes no strings, drops mode bits and takes several times as long. Knows nothing of blocks.

Values: `#`, `int` and `long` are ints, `int256` is 32 bytes, `bytes` is bytes, `string` is str, `Bool` is
bool, a vector is a list, every other constructor is a dict of its fields (with `@type` where the type is
boxed). A field `mode.N?T` is present in a dict exactly when the bit is set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.resources import files
from typing import Any, TypeAlias

from pytoniq_core.tl.generator import TlGenerator

from cocoon_sdk.sandbox.liteserver.errors import TlError

Record: TypeAlias = dict[str, Any]
_Write: TypeAlias = Callable[[bytearray, Any], None]
_Read: TypeAlias = Callable[["Source"], Any]

ID_BYTES = 4
_TRUE, _FALSE = bytes.fromhex("b5757299"), bytes.fromhex("379779bc")
_LONG_FORM = 254


class Source:
    """Bytes that are read from the front."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    @property
    def left(self) -> int:
        """How many bytes were not read yet."""
        return len(self.data) - self.at

    def take(self, count: int) -> bytes:
        """Read exactly `count` bytes. Raises `TlError`."""
        end = self.at + count
        if end > len(self.data):
            raise TlError(f"Not enough data to read at {self.at}")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def rest(self) -> bytes:
        """Return what is left."""
        return self.data[self.at :]


class Codec:
    """Reads and writes the objects of one constructor."""

    def __init__(self, name: str, identifier: bytes) -> None:
        self.name = name
        self.id = identifier
        self._write: tuple[tuple[str, int | None, _Write], ...] = ()
        self._read: tuple[tuple[str, int | None, _Read], ...] = ()
        self._flags = ""

    def compile(self, fields: Iterable[tuple[str, str]], schema: Schema) -> None:
        """Fill in the fields, once all constructors are known."""
        write: list[tuple[str, int | None, _Write]] = []
        read: list[tuple[str, int | None, _Read]] = []
        for name, declared in fields:
            bit, kind = None, declared
            if "?" in declared:
                condition, kind = declared.split("?")
                self._flags, number = condition.split(".")
                bit = int(number)
            encode, decode = schema.type_of(kind)
            if kind != "true":  # the mode bit is all there is of it
                write.append((name, bit, encode))
            read.append((name, bit, decode))
        self._write, self._read = tuple(write), tuple(read)

    def write_fields(self, into: bytearray, value: Record) -> None:
        """Append the bare fields; a field is left out when its mode bit is clear. Raises `TlError`."""
        flags = value[self._flags] if self._flags else 0
        for name, bit, write in self._write:
            if bit is None or flags >> bit & 1:
                try:
                    write(into, value[name])
                except (KeyError, OverflowError, TypeError, AttributeError) as error:
                    raise TlError(f"{self.name}.{name} cannot be written", why=repr(error)) from error

    def read_fields(self, source: Source) -> Record:
        """Read the bare fields. Raises `TlError`."""
        record: Record = {}
        for name, bit, read in self._read:
            if bit is None or record[self._flags] >> bit & 1:
                record[name] = read(source)
        return record


class Schema:
    """All constructors of one set of TL schemes, by name and by id."""

    def __init__(self, constructors: Iterable[Any]) -> None:
        self.by_name: dict[str, Codec] = {}
        self.by_id: dict[bytes, Codec] = {}
        self._classes: dict[str, list[str]] = {}
        self._types: dict[str, tuple[_Write, _Read]] = dict(_BASE_TYPES)
        declared = list(constructors)
        for one in declared:
            codec = Codec(one.name, one.little_id())
            self.by_name[one.name] = self.by_id[codec.id] = codec
            self._classes.setdefault(one.class_name, []).append(one.name)
        for one in declared:
            self.by_name[one.name].compile(one.args.items(), self)

    def type_of(self, kind: str) -> tuple[_Write, _Read]:
        """Return how a field of that type is written and read."""
        if kind not in self._types:
            self._types[kind] = self._make_type(kind)
        return self._types[kind]

    def _make_type(self, kind: str) -> tuple[_Write, _Read]:
        if kind.startswith("(vector "):
            return _vector(*self.type_of(kind[len("(vector ") : -1]))
        if kind in self.by_name:
            codec = self.by_name[kind]
            return codec.write_fields, codec.read_fields
        if kind in self._classes:
            return self._boxed(kind)
        raise TlError(f"the TL type {kind!r} is not in the schema")

    def _boxed(self, class_name: str) -> tuple[_Write, _Read]:
        members = self._classes[class_name]

        def write(into: bytearray, value: Record) -> None:
            codec = self.by_name[value["@type"]]
            if codec.name not in members:
                raise TypeError(f"{codec.name} is no {class_name}")
            into += codec.id
            codec.write_fields(into, value)

        def read(source: Source) -> Record:
            codec = self.by_id.get(source.take(ID_BYTES))
            if codec is None or codec.name not in members:
                raise TlError(f"Unknown constructor found of {class_name}")
            return {"@type": codec.name, **codec.read_fields(source)}

        return write, read

    # -- whole objects --------------------------------------------------------------------------------

    def encode(self, name: str, /, **fields: Any) -> bytes:
        """Serialise an object with its constructor id. Raises `TlError`."""
        codec = self.by_name[name]
        into = bytearray(codec.id)
        codec.write_fields(into, fields)
        return bytes(into)

    def decode(self, source: Source, names: Iterable[str]) -> tuple[str, Record]:
        """Read one object of a constructor among `names`; return its name and fields. Raises `TlError`."""
        codec = self.by_id.get(source.take(ID_BYTES))
        if codec is None or codec.name not in names:
            raise TlError("Unknown constructor found")
        return codec.name, codec.read_fields(source)

    def decode_whole(self, data: bytes, name: str) -> Record:
        """Read an object that takes up all of `data`. Raises `TlError`."""
        source = Source(data)
        record = self.decode(source, (name,))[1]
        if source.left:
            raise TlError("Too much data to fetch", why=f"{source.left} bytes follow {name}")
        return record

    def starts_with(self, data: bytes, name: str) -> bool:
        """Whether `data` begins with that constructor's id."""
        return data[:ID_BYTES] == self.by_name[name].id


# -- base types ---------------------------------------------------------------------------------------


def _integer(size: int, *, signed: bool) -> tuple[_Write, _Read]:
    """Signed types take unsigned values too: hashes, logical times and times after 2038 travel in them."""

    def write(into: bytearray, value: int) -> None:
        into += value.to_bytes(size, "little", signed=value < 0)

    def read(source: Source) -> int:
        return int.from_bytes(source.take(size), "little", signed=signed)

    return write, read


def _fixed(size: int) -> tuple[_Write, _Read]:
    def write(into: bytearray, value: bytes) -> None:
        if len(value) != size:
            raise TypeError(f"{len(value)} bytes instead of {size}")
        into += value

    return write, lambda source: source.take(size)


def _write_bytes(into: bytearray, value: bytes) -> None:
    head = bytes((len(value),)) if len(value) < _LONG_FORM else b"\xfe" + len(value).to_bytes(3, "little")
    into += head
    into += value
    into += bytes(-(len(head) + len(value)) % 4)


def _read_bytes(source: Source) -> bytes:
    length, head = source.take(1)[0], 1
    if length == _LONG_FORM:
        length, head = int.from_bytes(source.take(3), "little"), 4
    elif length > _LONG_FORM:
        raise TlError(f"Can't fetch a string longer than 16 MiB at {source.at}")
    value = source.take(length)
    source.take(-(head + length) % 4)
    return value


def _read_string(source: Source) -> str:
    try:
        return _read_bytes(source).decode()
    except UnicodeDecodeError as error:
        raise TlError("a TL string is not UTF-8") from error


def _read_bool(source: Source) -> bool:
    word = source.take(ID_BYTES)
    if word == _TRUE:
        return True
    if word == _FALSE:
        return False
    raise TlError("Unknown constructor found of Bool")


def _write_bool(into: bytearray, value: bool) -> None:
    into += _TRUE if value else _FALSE


def _vector(write_one: _Write, read_one: _Read) -> tuple[_Write, _Read]:
    def write(into: bytearray, values: list[Any]) -> None:
        into += len(values).to_bytes(4, "little")
        for value in values:
            write_one(into, value)

    def read(source: Source) -> list[Any]:
        count = int.from_bytes(source.take(4), "little")
        if count > source.left:  # an element has a byte at least: nobody can make us allocate more
            raise TlError(f"Wrong vector length {count}")
        return [read_one(source) for _ in range(count)]

    return write, read


_BASE_TYPES: dict[str, tuple[_Write, _Read]] = {
    "#": _integer(4, signed=False),
    "int": _integer(4, signed=True),
    "long": _integer(8, signed=True),
    "int128": _fixed(16),
    "int256": _fixed(32),
    "bytes": (_write_bytes, _read_bytes),
    "string": (lambda into, value: _write_bytes(into, value.encode()), _read_string),
    "Bool": (_write_bool, _read_bool),
    "true": (lambda into, value: None, lambda source: True),
}


@lru_cache(maxsize=1)
def lite_schema() -> Schema:
    """Return the schema that liteservers and their clients speak."""
    path = files("pytoniq_core.tl").joinpath("schemas", "lite_api.tl")
    return Schema(one for one in TlGenerator(str(path)).generate().list if "." in one.name)
