"""What the generated messages are made of: structs that lie in cells, and typed get-method calls.

Owns the base classes `Struct` and `Message`, which follow Tact's layout (fields that do not fit a cell move
into a tail cell), and `GetterCall`. It must not know any particular message: those are generated from the
compiled ABI into `messages.py`.

Everything here raises `MalformedError` and nothing else, whatever bytes come in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeAlias, TypeVar

from pytoniq_core import Builder, Cell, Slice

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.abi_cells import Reader, Writer, bad
from cocoon_sdk.protocol.abi_codecs import Codec, MaybeCodec, StackItem

Layout: TypeAlias = tuple[tuple[tuple[str, Codec[Any]], ...], ...]
"""Fields per cell: the first tuple in the cell itself, each further one in a tail cell."""

T = TypeVar("T")
S = TypeVar("S", bound="Struct")

_OPCODE_BITS = 32
_TUPLE_LIMIT = 15  # Tact chains longer tuples: 14 values, then a tuple with the rest


class Struct:
    """Base of the generated structs: a frozen dataclass whose `LAYOUT` says how it lies in cells."""

    __slots__ = ()
    LAYOUT: ClassVar[Layout] = ((),)
    _PREFIX: ClassVar[int | None] = None

    def to_cell(self) -> Cell:
        """Serialise into a new cell. Raises `MalformedError` when a value does not fit its field."""
        target = Writer()
        self.write(target)
        with _at(type(self).__name__):
            return target.cell()

    def store(self, builder: Builder) -> Builder:
        """Append to `builder` and return it. Raises `MalformedError`; the builder is then unchanged."""
        cell = self.to_cell()
        if len(cell.bits) > builder.available_bits or len(cell.refs) > builder.available_refs:
            raise MalformedError(f"{type(self).__name__} does not fit the rest of the cell")
        return builder.store_cell(cell)

    @classmethod
    def from_cell(cls, cell: Cell) -> Self:
        """Parse a whole cell. Raises `MalformedError` on any difference, trailing data included."""
        with _at(cls.__name__):
            source = Reader.of_cell(cell)
        value = cls.read(source)
        with _at(cls.__name__):
            source.finish()
        return value

    @classmethod
    def load(cls, source: Slice) -> Self:
        """Parse from a slice, which then stands behind it. Raises `MalformedError`; the slice then stays."""
        with _at(cls.__name__):
            reader = Reader.of_slice(source)
        value = cls.read(reader)
        source.skip_bits(source.remaining_bits - reader.bits_left)
        source.ref_offset += source.remaining_refs - reader.refs_left
        return value

    @classmethod
    def from_stack(cls, stack: Sequence[StackItem]) -> Self:
        """Convert what a get-method that returns this struct leaves on the stack. Raises `MalformedError`."""
        if len(stack) != cls.stack_size():
            raise MalformedError(
                f"cannot read {cls.__name__} from the stack",
                why=f"{cls.stack_size()} values were expected, there are {len(stack)}",
                hint="The contract runs other code than this package knows",
            )
        return cls._take(iter(stack))

    @classmethod
    def from_tuple(cls, item: StackItem) -> Self:
        """Convert the tuple that a get-method returns for an optional struct. Raises `MalformedError`."""
        fields = [field for cell in cls.LAYOUT for field in cell]
        with _at(cls.__name__):
            items = unchain(item, len(fields))
        values = {}
        for (name, codec), value in zip(fields, items, strict=True):
            inner = codec.inner if isinstance(codec, MaybeCodec) and value is not None else codec
            with _at(f"{cls.__name__}.{name}"):
                values[name] = (
                    inner.type.from_tuple(value) if isinstance(inner, StructCodec) else codec.unstack(value)
                )
        return cls(**values)

    @classmethod
    def stack_size(cls) -> int:
        """Return how many stack values the struct takes where it is not optional."""
        codecs = [codec for cell in cls.LAYOUT for _, codec in cell]
        return sum(codec.type.stack_size() if isinstance(codec, StructCodec) else 1 for codec in codecs)

    @classmethod
    def _take(cls, items: Iterator[StackItem]) -> Self:
        values = {}
        for name, codec in (field for cell in cls.LAYOUT for field in cell):
            with _at(f"{cls.__name__}.{name}"):
                values[name] = (
                    codec.type._take(items) if isinstance(codec, StructCodec) else codec.unstack(next(items))
                )
        return cls(**values)

    @classmethod
    def read(cls, source: Reader) -> Self:
        """Parse from a reader, as the codecs do. Raises `MalformedError`."""
        if cls._PREFIX is not None:
            with _at(cls.__name__):
                found = source.uint(_OPCODE_BITS)
                if found != cls._PREFIX:
                    raise bad(f"opcode {found:#010x} instead of {cls._PREFIX:#010x}")
        values = {}
        tails: list[Reader] = []
        for number, cell in enumerate(cls.LAYOUT):
            if number:
                with _at(cls.__name__):
                    source = Reader.of_cell(source.ref())
                tails.append(source)
            for name, codec in cell:
                with _at(f"{cls.__name__}.{name}"):
                    values[name] = codec.read(source)
        with _at(cls.__name__):
            for tail in tails:
                tail.finish()
        return cls(**values)

    def write(self, target: Writer) -> None:
        """Write to a writer, as the codecs do. Raises `MalformedError`."""
        name = type(self).__name__
        if self._PREFIX is not None:
            with _at(name):
                target.integer(self._PREFIX, _OPCODE_BITS)
        places = [target, *(Writer() for _ in self.LAYOUT[1:])]
        for place, cell in zip(places, self.LAYOUT, strict=True):
            for field, codec in cell:
                with _at(f"{name}.{field}"):
                    codec.write(place, getattr(self, field))
        with _at(name):
            while len(places) > 1:
                tail = places.pop()
                places[-1].ref(tail.cell())


class Message(Struct):
    """Base of the generated messages: a struct behind its 32-bit opcode."""

    __slots__ = ()
    OPCODE: ClassVar[int]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._PREFIX = cls.OPCODE


@dataclass(frozen=True, slots=True)
class StructCodec(Codec[Any]):
    """A struct inside another one, in place; where it is optional it is a tuple on the stack."""

    type: type[Struct]

    def read(self, source: Reader) -> Struct:
        """Read the struct's fields, with its own tail cells."""
        return self.type.read(source)

    def write(self, target: Writer, value: Struct) -> None:
        """Write the struct's fields, with its own tail cells."""
        if not isinstance(value, self.type):
            raise bad(f"{self.type.__name__} was expected, not {type(value).__name__}")
        value.write(target)

    def unstack(self, item: StackItem) -> Struct:
        """Take a tuple that holds the struct's values side by side, those of inner structs included."""
        return self.type.from_stack(unchain(item, self.type.stack_size()))


def unchain(item: StackItem, size: int) -> list[StackItem]:
    """Return the `size` values of a tuple that Tact may have chained. Raises `MalformedError`."""
    values: list[StackItem] = []
    chained = size > _TUPLE_LIMIT
    while True:
        left = size - len(values)
        more = chained and left >= _TUPLE_LIMIT
        expected = _TUPLE_LIMIT if more else left
        if not isinstance(item, list) or len(item) != expected:
            raise bad(f"a tuple of {expected} values was expected")
        if not more:
            return [*values, *item]
        values += item[:-1]
        item = item[-1]


@dataclass(frozen=True, slots=True)
class GetterCall(Generic[T]):
    """One call of a get-method: what goes to `Chain.run_getter`, and how its answer is read.

    `decode` raises `MalformedError` when the answer does not have the type that the ABI promises.
    """

    method: str | int
    args: tuple[StackItem, ...]
    decode: Callable[[Sequence[StackItem]], T]


def one(codec: Codec[T]) -> Callable[[Sequence[StackItem]], T]:
    """Return a decoder for a get-method that returns a single value."""

    def decode(stack: Sequence[StackItem]) -> T:
        with _at("get-method's answer"):
            if len(stack) != 1:
                raise bad(f"one value was expected, there are {len(stack)}")
            return codec.unstack(stack[0])

    return decode


def optional(struct: type[S]) -> Callable[[Sequence[StackItem]], S | None]:
    """Return a decoder for a get-method that returns an optional struct."""

    def decode(stack: Sequence[StackItem]) -> S | None:
        if len(stack) != 1:
            raise MalformedError(
                "cannot read the get-method's answer", why=f"{len(stack)} values instead of one"
            )
        return None if stack[0] is None else struct.from_tuple(stack[0])

    return decode


def nothing(stack: Sequence[StackItem]) -> None:
    """Decode the answer of a get-method that returns nothing."""
    if stack:
        raise MalformedError(
            "cannot read the get-method's answer", why=f"{len(stack)} values instead of none"
        )


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Say in which struct or field something was malformed."""
    try:
        yield
    except MalformedError as error:
        raise MalformedError(f"{place} is malformed", why=str(error)) from None
